package emulator

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The limits of one generation.
const (
	MaxGenerated      = 1_000_000
	MaxGeneratedSize  = 256 << 10
	maxGeneratedBytes = 2 << 30
)

// TypeUnknown generates an event of a type that no documentation knows, with
// values that careless decoding changes.
const TypeUnknown = "EmulatorUnknownEvent"

// TypesAll generates all documented types and TypeUnknown in turn.
const TypesAll = "all"

// Generation describes events to generate.
type Generation struct {
	// Count is how many, at most MaxGenerated.
	Count int
	// Seed decides everything. Two generations with different seeds hardly
	// ever share a FileId, two with the same seed are equal.
	Seed uint64
	// Size is the least size of an event in bytes, at most MaxGeneratedSize. 0:
	// the natural size, about 1.5 KB for an upload.
	Size int
	// Types are given to the events in turn: names of EventTypes,
	// TypeUnknown, or TypesAll. Empty: NewFileUpload.
	Types []string
}

// types validates g and returns the types in turn.
func (g Generation) types() ([]eventType, error) {
	if g.Count < 0 || g.Count > MaxGenerated {
		return nil, fmt.Errorf("generate: count: %d, write 0 to %d", g.Count, MaxGenerated)
	}
	if g.Size < 0 || g.Size > MaxGeneratedSize || g.Count*g.Size > maxGeneratedBytes {
		return nil, fmt.Errorf("generate: size: %d, write 0 to %d bytes, and at most %d for all events together",
			g.Size, MaxGeneratedSize, maxGeneratedBytes)
	}
	if len(g.Types) == 0 {
		return eventTypes[:1], nil
	}
	var types []eventType
	for _, name := range g.Types {
		if name == TypesAll {
			types = append(append(types, eventTypes...), unknownType)
			continue
		}
		known := append(slices.Clone(eventTypes), unknownType)
		i := slices.IndexFunc(known, func(t eventType) bool { return t.name == name })
		if i < 0 {
			return nil, fmt.Errorf("generate: type: %q is not an event type, write for example NewFileUpload, %s or %s",
				name, TypeUnknown, TypesAll)
		}
		types = append(types, known[i])
	}
	return types, nil
}

// GeneratedTypes are the types that are generated when none is named, for Generation.Types.
func (v *Variants) GeneratedTypes() []string {
	if v.NewerTypes {
		return []string{eventTypes[0].name, TypeUnknown}
	}
	return nil
}

// Generate makes contents for Publish.
func Generate(g Generation) ([]json.RawMessage, error) {
	types, err := g.types()
	if err != nil {
		return nil, err
	}
	gen := newGenerator(g.Seed)
	contents := make([]json.RawMessage, g.Count)
	for i := range contents {
		contents[i] = gen.event(types[i%len(types)], i, g.Size)
	}
	return contents, nil
}

// GenerateUploads makes n NewFileUpload contents for Publish, each about
// 1.5 KB with a FileId of its own. It panics above MaxGenerated.
func GenerateUploads(n int, seed uint64) []json.RawMessage {
	contents, err := Generate(Generation{Count: n, Seed: seed})
	if err != nil {
		panic("emulator: " + err.Error())
	}
	return contents
}

// generator makes the fields that events share.
type generator struct {
	random *rand.Rand
	offset uint64
	start  time.Time
}

func newGenerator(seed uint64) *generator {
	random := rand.New(rand.NewPCG(seed, 0x65766e7473))
	return &generator{
		random: random,
		offset: random.Uint64N(idSpace),
		start:  time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

const (
	idSpace  = 1_000_000_000_000_000_000
	idStride = 618_033_988_749_894_847 // odd and no multiple of 5: visits all of idSpace
)

// fileID returns the i-th FileId: 19 digits, or for every third one 20 digits,
// which an int64 does not hold.
func (g *generator) fileID(i int) string {
	hi, lo := bits.Mul64(uint64(i), idStride)
	n := (bits.Rem64(hi, lo, idSpace) + g.offset) % idSpace
	prefix := "5"
	if i%3 == 2 {
		prefix = "14"
	}
	digits := strconv.FormatUint(n, 10)
	return prefix + strings.Repeat("0", 18-len(digits)) + digits
}

// taskID returns a TaskId in the form of the documentation's examples.
func (g *generator) taskID(kind, fileID string) string {
	return fmt.Sprintf("1500000001-%s-%s%08x", kind, fileID[len(fileID)-12:], g.random.Uint32())
}

func (g *generator) hex(n int) string {
	b := make([]byte, 0, n)
	for len(b) < n {
		b = strconv.AppendUint(b, uint64(g.random.Uint32())|1<<31, 16)
	}
	return string(b[:n])
}

func (g *generator) pick(of ...string) string { return of[g.random.IntN(len(of))] }
