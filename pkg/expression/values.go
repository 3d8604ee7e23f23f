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

// decode reads one JSON value: objects are map[string]any (the last one of a repeated name counts), lists
// []any, and numbers an int64 if they fit, else a uint64, else the nearest float64.
func decode(raw []byte) (any, error) {
	dec := newDecoder(raw)
	v, err := decodeNext(dec)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(raw[dec.InputOffset():])) > 0 {
		return nil, errors.New("the JSON value is followed by more data")
	}
	return v, nil
}

func decodeNext(dec *jsontext.Decoder) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		object := make(map[string]any)
		for dec.PeekKind() == '"' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String() // before the next read, which makes the token void
			if object[key], err = decodeNext(dec); err != nil {
				return nil, err
			}
		}
		_, err := dec.ReadToken()
		return object, err
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			v, err := decodeNext(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.ReadToken()
		return list, err
	case '"':
		return token.String(), nil
	case '0':
		return parseNumber(token.String()), nil
	case 't', 'f':
		return token.Bool(), nil
	default:
		return nil, nil
	}
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
