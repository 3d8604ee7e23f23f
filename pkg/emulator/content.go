package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
)

const (
	handleKey = "EventHandle"
	jsonSpace = " \t\r\n"
)

// member is one name and value of a JSON object, by position.
type member struct {
	name       string
	start, end int // from the opening quote of the name to the end of the value
}

// members lists the top-level members of a valid JSON object.
func members(object []byte) []member {
	var list []member
	i := skipSpace(object, 0) + 1
	for {
		i = skipSpace(object, i)
		if object[i] == '}' {
			return list
		}
		start := i
		i = skipString(object, i)
		var name string
		if json.Unmarshal(object[start:i], &name) != nil {
			name = string(object[start+1 : i-1])
		}
		i = skipSpace(object, i) + 1 // the colon
		i = skipValue(object, skipSpace(object, i))
		list = append(list, member{name: name, start: start, end: i})
		if i = skipSpace(object, i); object[i] == ',' {
			i++
		}
	}
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func skipValue(b []byte, i int) int {
	depth := 0
	for {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of what holds a number or a literal
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
		i++
	}
}

// prepare turns the content of an event into what follows its handle in an
// answer: everything after the opening brace, with a comma before the first
// member. Every byte of every value stays as it is. A handle in the content is
// taken out.
func prepare(content []byte, nulls NullFields) ([]byte, error) {
	content = bytes.Trim(content, jsonSpace)
	if len(content) == 0 || content[0] != '{' || !json.Valid(content) {
		return nil, errors.New("an event is not a JSON object")
	}
	content = withoutHandle(content)
	if nulls == NullsDocumented || nulls == NullsNewer {
		content = withNullFields(content, nulls == NullsNewer)
	}
	if content[skipSpace(content, 1)] == '}' {
		return []byte("}"), nil
	}
	return content[1:], nil
}

// withoutHandle cuts top-level EventHandle members out.
func withoutHandle(content []byte) []byte {
	// A name may be written with escapes, so that only a text without any
	// sign of it can skip the scan.
	if !bytes.Contains(content, []byte(handleKey)) && !bytes.Contains(content, []byte(`\u`)) {
		return content
	}
	list := members(content)
	isHandle := func(m member) bool { return m.name == handleKey }
	kept := slices.DeleteFunc(slices.Clone(list), isHandle)
	if len(kept) == len(list) {
		return content
	}
	out := []byte{'{'}
	for i, m := range kept {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, content[m.start:m.end]...)
	}
	return append(out, '}')
}

// withNullFields adds the documented payload fields that are absent, with newer also one that is not documented.
func withNullFields(content []byte, newer bool) []byte {
	present := make(map[string]bool)
	list := members(content)
	for _, m := range list {
		present[m.name] = true
	}
	out := slices.Clone(content[:len(content)-1])
	empty := len(list) == 0
	types := eventTypes
	if newer {
		types = append(slices.Clone(types), unknownType)
	}
	for _, t := range types {
		if present[t.field] {
			continue
		}
		if !empty {
			out = append(out, ',')
		}
		empty = false
		out = append(out, `"`+t.field+`":null`...)
	}
	return append(out, '}')
}
