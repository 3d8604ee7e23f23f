package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// walker copies a JSON value, which must be valid, without its fields that are null. VOD writes the payload
// fields of the other event types as null in one place and leaves them out in another, so the two must mean
// the same. A null behind a value of the same name stays, since the last one is what most readers take.
type walker struct {
	scanner
	// canonical makes equal values equal bytes, and different ones different bytes: names sorted, strings as
	// appendCanonical writes them, white space gone. Numbers keep their text in either case: 0.10 and 2^53+1
	// would not survive a float64.
	canonical bool
	// leaveOut is asked about the fields of the outermost object; nil: none.
	leaveOut func(name jsontext.Value) bool

	members      []member // of the objects that the walk is in
	text, joined []byte   // memory
}

// memberSize is the bytes of a member, at most.
const memberSize = 6 * 8

// maxKept keeps the memory of a rare huge event from staying in the pool.
const maxKept = 64 << 10

var walkers = sync.Pool{New: func() any { return &walker{} }}

// walk returns a walker of data. release must be called.
func walk(data []byte, canonical bool) *walker {
	w := walkers.Get().(*walker) //nolint:forcetypeassert // nothing else is in the pool
	w.scanner = scanner{data: data}
	w.canonical, w.leaveOut = canonical, nil
	if canonical {
		w.leaveOut = unidentifying
	}
	return w
}

// release gives w back, with the memory that it has grown.
func (w *walker) release() {
	w.scanner = scanner{}
	if cap(w.text)+cap(w.joined)+memberSize*cap(w.members) <= maxKept {
		clear(w.members[:cap(w.members)]) // they point into the data
		walkers.Put(w)
	}
}

// appendWithoutNulls appends raw on one line, without the fields that are null; every other value keeps
// its bytes.
func appendWithoutNulls(dst []byte, raw json.RawMessage) ([]byte, error) {
	w := walk(raw, false)
	defer w.release()
	dst = w.value(dst, 0)
	if w.bad || w.at == 0 || w.peek() != 0 {
		return dst, fmt.Errorf("no JSON at its byte %d", w.at)
	}
	return dst, nil
}

// maxDepth is how deep values stand in each other at most: as in jsontext, which has parsed them.
const maxDepth = 10_000

// value appends the value that is next.
func (w *walker) value(dst []byte, depth int) []byte {
	switch c := w.peek(); {
	case c == '{' && depth < maxDepth:
		return w.object(dst, depth)
	case c == '[' && depth < maxDepth:
		return w.array(dst, depth)
	}
	v := w.scalar()
	if w.canonical && len(v) > 0 && v[0] == '"' {
		return appendCanonical(dst, v)
	}
	return append(dst, v...)
}

func (w *walker) array(dst []byte, depth int) []byte {
	w.take('[')
	dst = append(dst, '[')
	for first := true; w.more(']'); first = false {
		if !first {
			w.take(',')
			dst = append(dst, ',')
		}
		dst = w.value(dst, depth+1)
	}
	w.take(']')
	return append(dst, ']')
}

// member is one field of an object: its name in canonical form, and where it stands in the output.
type member struct {
	name       []byte
	start, end int
	null       bool
}

func (w *walker) object(dst []byte, depth int) []byte {
	w.take('{')
	dst = append(dst, '{')
	first, outer := len(dst), len(w.members)
	for begun := false; w.more('}'); begun = true {
		if begun {
			w.take(',')
		}
		m := member{name: w.name(), start: len(dst)}
		left := depth == 0 && w.leaveOut != nil && w.leaveOut(m.name)
		written := m.name
		if bytes.IndexByte(m.name, '\\') >= 0 {
			m.name = appendCanonical(nil, m.name)
		}
		if w.canonical {
			written = m.name
		}
		w.take(':')
		m.null = w.peek() == 'n'
		dst = w.value(append(append(dst, written...), ':'), depth+1)
		m.end = len(dst)
		if left {
			dst = dst[:m.start]
			continue
		}
		dst = append(dst, ',')
		w.members = append(w.members, m)
	}
	w.take('}')
	dst = w.arrange(dst, first, w.members[outer:])
	w.members = w.members[:outer]
	return append(dst, '}')
}

// arrange leaves out the fields that are null, and for the canonical form puts the others into the order of
// their names. Fields of one name keep their order, since their order decides which one a reader takes. The
// fields stand in dst behind first, each with a comma behind it, of which the last is taken away.
func (w *walker) arrange(dst []byte, first int, members []member) []byte {
	moved := w.canonical && !slices.IsSortedFunc(members, byName)
	if moved {
		slices.SortStableFunc(members, byName)
	}
	if kept := withoutNulls(members); len(kept) < len(members) {
		members, moved = kept, true
	}
	if moved {
		w.joined = w.joined[:0]
		for _, m := range members {
			w.joined = append(append(w.joined, dst[m.start:m.end]...), ',')
		}
		dst = append(dst[:first], w.joined...)
	}
	if len(members) > 0 {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func byName(a, b member) int { return bytes.Compare(a.name, b.name) }

// fewPairs is how many pairs of names are compared one by one; beyond that a table is cheaper.
const fewPairs = 1 << 12

// withoutNulls takes the members out, in place, that are null and have no value of the same name before them.
func withoutNulls(members []member) []member {
	nulls := 0
	for _, m := range members {
		if m.null {
			nulls++
		}
	}
	if nulls == 0 {
		return members
	}
	var names map[string]struct{} // of kept
	if nulls*len(members) > fewPairs {
		names = make(map[string]struct{}, len(members)-nulls)
	}
	kept := members[:0]
	for _, m := range members {
		known := false
		switch {
		case !m.null:
		case names != nil:
			_, known = names[string(m.name)]
		default:
			known = slices.ContainsFunc(kept, func(other member) bool { return bytes.Equal(other.name, m.name) })
		}
		if m.null && !known {
			continue
		}
		kept = append(kept, m)
		if names != nil {
			names[string(m.name)] = struct{}{}
		}
	}
	return kept
}
