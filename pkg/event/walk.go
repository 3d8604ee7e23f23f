package event

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// walker copies a JSON value without its fields that are null. VOD writes the payload fields of the other
// event types as null in one place and leaves them out in another, so the two must mean the same.
type walker struct {
	dec *reader
	// canonical makes equal values equal bytes: names sorted, strings in their shortest form, white space
	// gone. Numbers keep their text in either case: 0.10 and 2^53+1 would not survive a float64.
	canonical bool
	// skip leaves out fields of the outermost object.
	skip func(name jsontext.Value) bool
}

// appendWithoutNulls appends raw on one line, without the fields that are null; every other value keeps
// its bytes.
func appendWithoutNulls(dst []byte, raw json.RawMessage) ([]byte, error) {
	w := walker{dec: read(raw)}
	defer w.dec.release()
	return w.value(dst, 0)
}

func (w *walker) value(dst []byte, depth int) ([]byte, error) {
	switch w.dec.PeekKind() {
	case '{':
		return w.object(dst, depth)
	case '[':
		return w.array(dst, depth)
	default:
	}
	v, err := w.dec.ReadValue()
	if err != nil {
		return dst, err
	}
	return w.scalar(dst, v), nil
}

func (w *walker) scalar(dst []byte, v jsontext.Value) []byte {
	if w.canonical && v.Kind() == '"' && bytes.IndexByte(v, '\\') >= 0 {
		// A failure can only be broken UTF-8, which AppendQuote then replaces the same way every time.
		quoted, _ := jsontext.AppendQuote(dst, unquote(v))
		return quoted
	}
	return append(dst, v...)
}

func (w *walker) array(dst []byte, depth int) ([]byte, error) {
	if _, err := w.dec.ReadToken(); err != nil {
		return dst, err
	}
	dst = append(dst, '[')
	for first := true; w.dec.PeekKind() != ']'; first = false {
		if !first {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = w.value(dst, depth+1); err != nil {
			return dst, err
		}
	}
	_, err := w.dec.ReadToken()
	return append(dst, ']'), err
}

// member is where one field of an object stands in the output: its quoted name, and behind it the rest.
type member struct{ start, colon, end int }

func (w *walker) object(dst []byte, depth int) ([]byte, error) {
	if _, err := w.dec.ReadToken(); err != nil {
		return dst, err
	}
	dst = append(dst, '{')
	first, outer := len(dst), len(w.dec.members)
	for w.dec.PeekKind() != '}' {
		name, err := w.dec.ReadValue()
		if err != nil {
			return dst, err
		}
		skip := depth == 0 && w.skip != nil && w.skip(name)
		mark := len(dst)
		if mark > first {
			dst = append(dst, ',')
		}
		m := member{start: len(dst)}
		dst = w.scalar(dst, name)
		m.colon = len(dst)
		dst = append(dst, ':')
		if skip || w.dec.PeekKind() == 'n' {
			if err := w.dec.SkipValue(); err != nil {
				return dst, err
			}
			dst = dst[:mark]
			continue
		}
		if dst, err = w.value(dst, depth+1); err != nil {
			return dst, err
		}
		m.end = len(dst)
		if w.canonical {
			w.dec.members = append(w.dec.members, m)
		}
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return dst, err
	}
	if w.canonical {
		w.dec.sorted = sortMembers(dst, first, w.dec.members[outer:], w.dec.sorted)
		w.dec.members = w.dec.members[:outer]
	}
	return append(dst, '}'), nil
}

// sortMembers puts the fields that stand in dst behind first into the order of their names. Fields of one
// name keep their order, since their order decides which one a reader takes. It works in sorted, and returns
// it for the next time.
func sortMembers(dst []byte, first int, members []member, sorted []byte) []byte {
	byName := func(a, b member) int { return bytes.Compare(dst[a.start:a.colon], dst[b.start:b.colon]) }
	if slices.IsSortedFunc(members, byName) {
		return sorted
	}
	slices.SortStableFunc(members, byName)
	sorted = sorted[:0]
	for i, m := range members {
		if i > 0 {
			sorted = append(sorted, ',')
		}
		sorted = append(sorted, dst[m.start:m.end]...)
	}
	copy(dst[first:], sorted)
	return sorted
}
