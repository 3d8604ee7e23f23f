package vod

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// lenient is how replies are read: a repeated name or a broken UTF-8 sequence inside one event is no
// reason to refuse the whole batch.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

// reply is what all replies have in common.
type reply struct {
	code, message string // of Response.Error; code is "" on success
	requestID     string
}

// shapeError says that a reply is JSON, but not of the documented form.
type shapeError string

func (e shapeError) Error() string { return string(e) }

const (
	errNoBytes  shapeError = "the reply is empty"
	errNotJSON  shapeError = "the reply is not valid JSON"
	errCutShort shapeError = "the reply is cut short"
	errNoObject shapeError = "the reply has no Response object"
	errNoID     shapeError = "the reply has no RequestId"
	errBadError shapeError = "the reply has an Error without a Code"
	errBadSet   shapeError = "the reply's EventSet is not a list"
)

// fieldFunc consumes the value of one field of Response. It is not called for Error and RequestId.
type fieldFunc func(name string, dec *jsontext.Decoder) error

func skipField(_ string, dec *jsontext.Decoder) error { return dec.SkipValue() }

// decodeReply reads body in one pass. Its error is always a shapeError, whose text holds nothing of the
// body. A reply without RequestId is refused even if it reports no error: some proxy's `{}` must not pass
// for a confirm.
func decodeReply(body []byte, field fieldFunc) (reply, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return reply{}, errNoBytes
	}
	r := reply{}
	found := false
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), lenient...)
	err := eachField(dec, errNoObject, func(name string) error {
		if name != "Response" {
			return dec.SkipValue()
		}
		found = true
		return eachField(dec, errNoObject, func(name string) error {
			var err error
			switch name {
			case "RequestId":
				r.requestID, err = readText(dec)
			case "Error":
				err = r.readError(dec)
			default:
				err = field(name, dec)
			}
			return err
		})
	})
	if err == nil {
		if _, err = dec.ReadToken(); errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		} else {
			err = errNotJSON
		}
	}
	var shape shapeError
	switch {
	case errors.As(err, &shape):
		return r, shape
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return r, errCutShort
	case err != nil:
		return r, errNotJSON
	case !found:
		return r, errNoObject
	case r.requestID == "" && r.code == "":
		return r, errNoID
	}
	return r, nil
}

func (r *reply) readError(dec *jsontext.Decoder) error {
	if dec.PeekKind() == 'n' {
		return dec.SkipValue()
	}
	code := ""
	err := eachField(dec, errBadError, func(name string) (err error) {
		switch name {
		case "Code":
			code, err = readText(dec)
		case "Message":
			r.message, err = readText(dec)
		default:
			err = dec.SkipValue()
		}
		return err
	})
	if err == nil && code == "" {
		return errBadError
	}
	r.code = code
	return err
}

// eachField walks an object; fn consumes each value. Anything but an object is the error otherwise.
func eachField(dec *jsontext.Decoder, otherwise error, fn func(name string) error) error {
	if kind := dec.PeekKind(); kind != '{' {
		if kind == 0 { // an error of syntax, or the end
			_, err := dec.ReadToken()
			return err
		}
		return otherwise
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		if err := fn(name.String()); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// eachItem walks a list, or nothing if it is null; fn gets each item, which it must copy to keep.
func eachItem(dec *jsontext.Decoder, otherwise error, fn func(item jsontext.Value)) error {
	switch dec.PeekKind() {
	case 'n':
		return dec.SkipValue()
	case '[':
	case 0:
		_, err := dec.ReadToken()
		return err
	default:
		return otherwise
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != ']' {
		item, err := dec.ReadValue()
		if err != nil {
			return err
		}
		fn(item)
	}
	_, err := dec.ReadToken()
	return err
}

// readText reads a string, or the digits of a number; anything else is "".
func readText(dec *jsontext.Decoder) (string, error) {
	switch dec.PeekKind() {
	case '"', '0':
		token, err := dec.ReadToken()
		if err != nil {
			return "", err
		}
		return token.String(), nil
	default:
		return "", dec.SkipValue()
	}
}
