package callback

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// message is a body as it was posted, taken apart.
type message struct {
	// content is the body without its signatures: they would let whoever sees the event post others.
	content    []byte
	signatures []signature
	eventType  string // "" if there is none
	legacy     *legacy
}

// lenient is how notifications are read, as pkg/event reads them: a repeated name or a broken UTF-8
// sequence must travel on.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

var utf8BOM = []byte("\xef\xbb\xbf")

// parse reads a body. A signature is looked for beside EventType and one level below, in the event's
// object: VOD documents that it is in the message, and not where.
func parse(body []byte) (message, error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, utf8BOM))
	members, err := fields(body)
	if err != nil {
		return message{}, err
	}
	m := message{content: body}
	s, rest, changed := readSignature(members)
	if changed {
		m.signatures = append(m.signatures, s)
	}
	for i, f := range rest {
		if f.name == "EventType" {
			m.eventType = f.text()
		}
		if f.value.Kind() != '{' {
			continue
		}
		below, err := fields(f.value)
		if err != nil { // it was read as a part of body
			return message{}, err
		}
		if s, others, ok := readSignature(below); ok {
			if !changed { // members is rest then
				rest, changed = slices.Clone(rest), true
			}
			m.signatures = append(m.signatures, s)
			rest[i].value = join(others)
		}
	}
	if changed {
		m.content = join(rest)
	}
	if m.eventType == "" {
		m.legacy = readLegacy(rest, m.content)
	}
	return m, nil
}

// field is one name and value of a JSON object.
type field struct {
	name   string         // unescaped
	quoted jsontext.Value // as it was written
	value  jsontext.Value
}

// fields takes a JSON object apart; the result shares its memory.
func fields(object []byte) ([]field, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(object), lenient...)
	if dec.PeekKind() != '{' {
		return nil, errors.New("the body is not a JSON object")
	}
	fail := func(err error) ([]field, error) { return nil, fmt.Errorf("the body is not valid JSON: %w", err) }
	if _, err := dec.ReadToken(); err != nil {
		return fail(err)
	}
	// What the decoder returns is valid until its next call only; what it points to in object stays.
	at := func(v jsontext.Value) jsontext.Value {
		end := int(dec.InputOffset())
		return object[end-len(v) : end : end]
	}
	var all []field
	for dec.PeekKind() != '}' {
		var f field
		v, err := dec.ReadValue()
		if err != nil {
			return fail(err)
		}
		f.quoted = at(v)
		if v, err = dec.ReadValue(); err != nil {
			return fail(err)
		}
		f.value = at(v)
		f.name = string(f.quoted[1 : len(f.quoted)-1])
		if bytes.IndexByte(f.quoted, '\\') >= 0 {
			name, _ := jsontext.AppendUnquote(nil, f.quoted) // broken UTF-8 is replaced
			f.name = string(name)
		}
		all = append(all, f)
	}
	if _, err := dec.ReadToken(); err != nil {
		return fail(err)
	}
	if rest := bytes.TrimSpace(object[dec.InputOffset():]); len(rest) > 0 {
		return nil, errors.New("the body goes on behind its JSON object")
	}
	return all, nil
}

// join is the object of fields.
func join(members []field) []byte {
	size := 2
	for _, f := range members {
		size += len(f.quoted) + len(f.value) + 2
	}
	object := append(make([]byte, 0, size), '{')
	for i, f := range members {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(append(append(object, f.quoted...), ':'), f.value...)
	}
	return append(object, '}')
}
