package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// lenient is how events are read: whatever VOD sends must travel on, so a repeated name or a broken UTF-8
// sequence is the receiver's to judge, not ours.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

// reader is a decoder that is used again: a third of the time of reading an event went into making one.
type reader struct {
	*jsontext.Decoder
	buf bytes.Buffer
}

var readers = sync.Pool{New: func() any { return &reader{Decoder: jsontext.NewDecoder(&bytes.Buffer{}, lenient...)} }}

// read returns a reader of data, which must not change until release.
func read(data []byte) *reader {
	r := readers.Get().(*reader) //nolint:forcetypeassert // nothing else is in the pool
	r.buf = *bytes.NewBuffer(data)
	r.Reset(&r.buf, lenient...)
	return r
}

func (r *reader) release() {
	r.buf = bytes.Buffer{}
	readers.Put(r)
}

// IsJSON reports whether raw is JSON, as it is in every event that Decode has made: a repeated name and broken
// UTF-8 are no fault.
func IsJSON(raw []byte) bool { return jsontext.Value(raw).IsValid(lenient...) }

// Decode reads one item of EventSet, or the body of a normal callback. It returns the event and its
// EventHandle, "" if there is none.
//
// A notification without an EventType has the type of its payload, if it has exactly one that is documented: VOD's
// own documentation shows one, at https://www.tencentcloud.com/document/product/266/43000. Raw stays as it came, and the ID
// is that of the same notification with its EventType.
//
// An error says that the item is not a notification as documented (not an object, or of no type that could be
// found). The event is good all the same, with Type Unknown: it must travel on, since a person can
// only look at what was not thrown away. Raw is then the item as it came; an item that cannot be parsed becomes a
// JSON string of its text. The text of the error is the same for all items with the same fault.
//
// item is copied; the caller may reuse it.
func Decode(item []byte, subAppID uint64) (Event, string, error) {
	e := Event{Type: Unknown, SubAppID: subAppID}
	raw, eventType, handle, err := split(item)
	switch {
	case err != nil:
		raw, handle = unparsed(item)
	case eventType != "":
		e.Type = eventType
	default:
		if e.Type = typeOfPayload(raw); e.Type == Unknown {
			err = errors.New("the notification has no EventType, and no payload that tells it")
			break
		}
		e.Raw, e.ID = raw, identify(e.Type, withType(raw, e.Type))
		return e, handle, nil
	}
	e.Raw = raw
	e.ID = identify(e.Type, raw)
	return e, handle, err
}

// typeOfPayload is the type of the only documented payload in raw, Unknown if there is none or there are several.
func typeOfPayload(raw json.RawMessage) string {
	found := Unknown
	for name, value := range members(raw) {
		eventType, ok := payloadTypes[unquote(name)]
		switch {
		case !ok || value.Kind() != '{' || eventType == found:
		case found != Unknown:
			return Unknown
		default:
			found = eventType
		}
	}
	return found
}

// withType is the object raw with an EventType, behind one that is null.
func withType(raw json.RawMessage, eventType string) json.RawMessage {
	return append(fmt.Appendf(slices.Clone(raw[:len(raw)-1]), `,"EventType":%s`, quote([]byte(eventType))), '}')
}

// split takes an EventContent apart: the object without EventHandle and signature, and the two fields that the relay
// itself reads. The last one of a repeated name counts, as in most JSON readers.
func split(item []byte) (raw json.RawMessage, eventType, handle string, err error) {
	dec := read(item)
	defer dec.release()
	if dec.PeekKind() != '{' {
		return nil, "", "", errors.New("the notification is not a JSON object")
	}
	fail := func(err error) (json.RawMessage, string, string, error) {
		// jsontext's own text quotes the item and says where in it.
		var syntax *jsontext.SyntacticError
		if errors.As(err, &syntax) && strings.Contains(syntax.Err.Error(), "max depth") {
			return nil, "", "", fmt.Errorf("the notification is nested deeper than %d", maxDepth)
		}
		return nil, "", "", errors.New("the notification is not valid JSON")
	}
	if _, err := dec.ReadToken(); err != nil {
		return fail(err)
	}
	signs := false // has a field that may be Sign
	raw = append(make(json.RawMessage, 0, len(item)), '{')
	for dec.PeekKind() != '}' {
		mark := len(raw)
		if mark > 1 {
			raw = append(raw, ',')
		}
		name, err := dec.ReadValue()
		if err != nil {
			return fail(err)
		}
		isHandle, isType := is(name, "EventHandle"), is(name, "EventType")
		raw = append(append(raw, name...), ':')
		value, err := dec.ReadValue()
		if err != nil {
			return fail(err)
		}
		if isHandle {
			handle = text(value)
			raw = raw[:mark]
			continue
		}
		if isType {
			eventType = text(value)
		}
		signs = signs || isSign(name)
		if value.Kind() == '{' && maySign(value) {
			value = jsontext.Value(unsigned(json.RawMessage(value)))
		}
		raw = append(raw, value...)
	}
	if _, err := dec.ReadToken(); err != nil {
		return fail(err)
	}
	if rest := bytes.TrimSpace(item[dec.InputOffset():]); len(rest) > 0 {
		return nil, "", "", errors.New("the notification is followed by more data")
	}
	if raw = append(raw, '}'); signs {
		raw = unsigned(raw)
	}
	return raw, eventType, handle, nil
}

// unparsed is what becomes of an item that is no notification: its text without the handle, which differs
// at every delivery, and the handle as far as one can be seen.
func unparsed(item []byte) (raw json.RawMessage, handle string) {
	item = bytes.TrimSpace(item)
	if IsJSON(item) {
		return bytes.Clone(item), ""
	}
	plain := append(make([]byte, 0, len(item)), '{')
	end, err := EachField(item, func(name string, value []byte) error {
		if name == "EventHandle" {
			handle = text(value)
			return nil
		}
		if len(plain) > 1 {
			plain = append(plain, ',')
		}
		plain = append(append(append(plain, quote([]byte(name))...), ':'), value...)
		return nil
	})
	if err != nil || end < len(item) {
		plain = append(plain[:0], item...)
	} else {
		plain = append(plain, '}')
	}
	return json.RawMessage(quote(plain)), handle
}

// members goes through the fields of an object, as far as it can be read; the names are quoted. Both share memory with
// raw.
func members(raw json.RawMessage) iter.Seq2[jsontext.Value, jsontext.Value] {
	return func(yield func(name, value jsontext.Value) bool) {
		dec := read(raw)
		defer dec.release()
		next := func() jsontext.Value {
			v, err := dec.ReadValue()
			if err != nil {
				return nil
			}
			end := int(dec.InputOffset()) // what the decoder returns is valid until its next call only
			return jsontext.Value(raw[end-len(v) : end : end])
		}
		if dec.PeekKind() != '{' {
			return
		}
		if _, err := dec.ReadToken(); err != nil {
			return
		}
		for dec.PeekKind() == '"' {
			name := next()
			value := next()
			if value == nil || !yield(name, value) {
				return
			}
		}
	}
}

// text is a JSON string's content, or a number's own digits: a handle of digits only might one day be
// sent as a number. Anything else is nothing.
func text(v jsontext.Value) string {
	switch v.Kind() {
	case '"':
		return unquote(v)
	case '0':
		return string(v)
	default:
		return ""
	}
}

// is reports whether a quoted name is want, however it is escaped.
func is(name jsontext.Value, want string) bool {
	if bytes.IndexByte(name, '\\') < 0 {
		return len(name) == len(want)+2 && string(name[1:len(name)-1]) == want
	}
	return unquote(name) == want
}

// unquote is the content of a JSON string. One that is none inside stays as it is.
func unquote(v jsontext.Value) string {
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	s, err := jsontext.AppendUnquote(nil, v)
	if err != nil && !IsJSON(v) { // broken UTF-8 is an error too, but the text is there
		return string(v)
	}
	return string(s)
}

// identify is the ID: a hash over the type and the canonical payload. No canonical payload has a NUL, so that the
// first one from the end stands between the two. The application's number takes no part in it, since a pushed
// notification does not carry it: see Event.DedupID.
func identify(eventType string, raw json.RawMessage) string {
	w := walk(raw, true)
	defer w.release()
	w.text = append(append(w.text[:0], eventType...), 0)
	w.text = w.value(w.text, 0)
	sum := sha256.Sum256(w.text)
	return hex.EncodeToString(sum[:16])
}

// unidentifying reports whether a field of the notification itself differs between two copies of one
// event: the handle, and what remains of a signature that is not of the form known here.
func unidentifying(name jsontext.Value) bool {
	return is(name, "EventHandle") || isSign(name) || isT(name)
}
