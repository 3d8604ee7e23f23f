package expression

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// lenient is how events are read, as in package event: what VOD sends must travel on.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

func newDecoder(raw []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(raw), lenient...)
}

// limitError is a limit that was reached while JSON was read, which is no fault of the JSON.
type limitError struct{ err error }

func (l *limitError) Error() string { return l.err.Error() }
func (l *limitError) Unwrap() error { return l.err }

// decode reads one JSON value for what: objects are map[string]any (the last one of a repeated name counts), lists
// []any, and numbers an int64 if they fit, else a uint64, else the nearest float64.
func decode(m *meter, what string, raw []byte) (any, error) {
	d := &decoder{newDecoder(raw), m, what}
	v, err := d.next()
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(raw[d.InputOffset():])) > 0 {
		return nil, errors.New("the JSON value is followed by more data")
	}
	return v, nil
}

type decoder struct {
	*jsontext.Decoder
	m    *meter
	what string
}

func (d *decoder) take(bytes int) error {
	if m := d.m; m.memory+bytes <= freeMemory && m.steps-1 > m.look { // nearly always
		m.memory += bytes
		m.steps--
		return nil
	}
	if err := d.m.take(d.what, bytes); err != nil {
		return &limitError{err}
	}
	if err := d.m.work(d.what, 1); err != nil {
		return &limitError{err}
	}
	return nil
}

func (d *decoder) next() (any, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return d.object()
	case '[':
		list := []any{}
		for d.PeekKind() != ']' {
			v, err := d.next()
			if err != nil {
				return nil, err
			}
			if err := d.take(sizeOfElement); err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.ReadToken()
		return list, err
	case '"':
		text := token.String()
		return text, d.take(sizeOfValue + len(text))
	case '0':
		return parseNumber(token.String()), nil
	case 't', 'f':
		return token.Bool(), nil
	default:
		return nil, nil
	}
}

func (d *decoder) object() (any, error) {
	if err := d.take(sizeOfObject); err != nil {
		return nil, err
	}
	object := make(map[string]any)
	size := sizeOfFields
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String() // before the next read, which makes the token void
		if err := d.take(size + len(key)); err != nil {
			return nil, err
		}
		if len(object) >= 7 {
			size = sizeOfField
		} else {
			size = 0
		}
		if object[key], err = d.next(); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return object, err
}

func parseNumber(text string) any {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return u
	}
	f, _ := strconv.ParseFloat(text, 64)
	return min(max(f, -math.MaxFloat64), math.MaxFloat64) // infinity has no place in JSON
}

// encode writes a computed value as JSON: without HTML escapes, the keys of objects sorted, a duration as
// text such as 1m30s.
func encode(v any) (json.RawMessage, error) { return jsonv2.Marshal(v, encoding...) }

var encoding = []jsonv2.Options{
	jsonv2.Deterministic(true),
	jsontext.AllowInvalidUTF8(true),
	jsonv2.WithMarshalers(jsonv2.MarshalToFunc(func(enc *jsontext.Encoder, d time.Duration) error {
		return enc.WriteToken(jsontext.String(d.String()))
	})),
}

// step is one part of a path into JSON: a name, or (isIndex) a place in a list.
type step struct {
	name    string
	index   int
	isIndex bool
}

// lookup returns the exact bytes of the value to which the path leads, or nil when there is none. They
// share memory with raw.
func lookup(raw json.RawMessage, path []step) json.RawMessage {
	for _, s := range path {
		if raw = s.in(raw); raw == nil {
			return nil
		}
	}
	return raw
}

func (s step) in(raw json.RawMessage) (found json.RawMessage) {
	open := jsontext.Kind('{')
	if s.isIndex {
		open = '['
	}
	dec := newDecoder(raw)
	if dec.PeekKind() != open {
		return nil
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil
	}
	for i := 0; ; i++ {
		match := s.isIndex && i == s.index
		if !s.isIndex {
			if dec.PeekKind() != '"' {
				return found
			}
			name, err := dec.ReadToken()
			if err != nil {
				return found
			}
			match = name.String() == s.name
		}
		if !match && dec.PeekKind() != ']' {
			if dec.SkipValue() != nil {
				return found
			}
			continue
		}
		value, err := dec.ReadValue()
		if err != nil { // the end of the list, too
			return found
		}
		end := int(dec.InputOffset())
		found = raw[end-len(value) : end : end]
		if s.isIndex {
			return found
		}
	}
}
