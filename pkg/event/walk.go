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
// the same.
type walker struct {
	scanner
	// canonical makes equal values equal bytes: names sorted, strings in their shortest form, white space
	// gone. Numbers keep their text in either case: 0.10 and 2^53+1 would not survive a float64.
	canonical bool
	// leaveOut is asked about the fields of the outermost object; nil: none.
	leaveOut func(name jsontext.Value) bool

	members      []member // of the objects that the walk is in
	text, sorted []byte   // memory
}

// memberSize is the bytes of a member, at most.
const memberSize = 3 * 8

// maxKept keeps the memory of a rare huge event from staying in the pool.
const maxKept = 64 << 10

var walkers = sync.Pool{New: func() any { return &walker{canonical: true, leaveOut: unidentifying} }}

// release gives w back, with the memory that it has grown.
func (w *walker) release() {
	w.scanner = scanner{}
	if cap(w.text)+cap(w.sorted)+memberSize*cap(w.members) <= maxKept {
		walkers.Put(w)
	}
}

// appendWithoutNulls appends raw on one line, without the fields that are null; every other value keeps
// its bytes.
func appendWithoutNulls(dst []byte, raw json.RawMessage) ([]byte, error) {
	w := walker{scanner: scanner{data: raw}}
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
	default:
		return w.append(dst, w.scalar())
	}
}

// append appends a scalar.
func (w *walker) append(dst []byte, v jsontext.Value) []byte {
	if w.canonical && v.Kind() == '"' && bytes.IndexByte(v, '\\') >= 0 {
		// A failure can only be broken UTF-8, which AppendQuote then replaces the same way every time.
		quoted, _ := jsontext.AppendQuote(dst, unquote(v))
		return quoted
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

// member is where one field of an object stands in the output: its quoted name, and behind it the rest.
type member struct{ start, colon, end int }

func (w *walker) object(dst []byte, depth int) []byte {
	w.take('{')
	dst = append(dst, '{')
	first, outer := len(dst), len(w.members)
	for begun := false; w.more('}'); begun = true {
		if begun {
			w.take(',')
		}
		mark := len(dst)
		if mark > first {
			dst = append(dst, ',')
		}
		m := member{start: len(dst)}
		name := jsontext.Value(w.name())
		dst = w.append(dst, name)
		m.colon = len(dst)
		w.take(':')
		left := w.peek() == 'n' || depth == 0 && w.leaveOut != nil && w.leaveOut(name)
		dst = w.value(append(dst, ':'), depth+1)
		m.end = len(dst)
		if left {
			dst = dst[:mark]
		} else if w.canonical {
			w.members = append(w.members, m)
		}
	}
	w.take('}')
	if w.canonical {
		w.sortMembers(dst, first, w.members[outer:])
		w.members = w.members[:outer]
	}
	return append(dst, '}')
}

// sortMembers puts the fields that stand in dst behind first into the order of their names. Fields of one
// name keep their order, since their order decides which one a reader takes.
func (w *walker) sortMembers(dst []byte, first int, members []member) {
	byName := func(a, b member) int { return bytes.Compare(dst[a.start:a.colon], dst[b.start:b.colon]) }
	if slices.IsSortedFunc(members, byName) {
		return
	}
	slices.SortStableFunc(members, byName)
	w.sorted = w.sorted[:0]
	for i, m := range members {
		if i > 0 {
			w.sorted = append(w.sorted, ',')
		}
		w.sorted = append(w.sorted, dst[m.start:m.end]...)
	}
	copy(dst[first:], w.sorted)
}
