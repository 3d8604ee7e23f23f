package vod

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vodrelay/vodrelay/pkg/event"
)

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

// fieldFunc is given the value of one field of Response, which it must copy to keep. It has the outline of
// JSON, and no more is certain. It is not called for Error and RequestId.
type fieldFunc func(name string, value jsontext.Value) error

func skipField(string, jsontext.Value) error { return nil }

// decodeReply reads body, and nothing in it that nobody uses. Its error is always a shapeError, whose text
// holds nothing of the body. A reply without RequestId is refused even if it reports no error: some proxy's
// `{}` must not pass for a confirm.
func decodeReply(body []byte, field fieldFunc) (reply, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return reply{}, errNoBytes
	}
	r := reply{}
	found := false
	end, err := eachField(body, errNoObject, func(name string, value jsontext.Value) error {
		if name != "Response" {
			return nil
		}
		found = true
		_, err := eachField(value, errNoObject, func(name string, value jsontext.Value) error {
			switch name {
			case "RequestId":
				r.requestID = readText(value)
				return nil
			case "Error":
				return r.readError(value)
			}
			return field(name, value)
		})
		return err
	})
	if err == nil && len(bytes.TrimSpace(body[end:])) > 0 {
		err = errNotJSON
	}
	var shape shapeError
	switch {
	case errors.As(err, &shape):
		return r, shape
	case errors.Is(err, io.ErrUnexpectedEOF):
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

func (r *reply) readError(value jsontext.Value) error {
	if value.Kind() == 'n' {
		return nil
	}
	code := ""
	_, err := eachField(value, errBadError, func(name string, value jsontext.Value) error {
		switch name {
		case "Code":
			code = readText(value)
		case "Message":
			r.message = readText(value)
		}
		return nil
	})
	if err == nil && code == "" {
		return errBadError
	}
	r.code = code
	return err
}

// eachField walks an object, see event.EachField. Anything else that is JSON is the error otherwise.
func eachField(value jsontext.Value, otherwise error, fn fieldFunc) (end int, err error) {
	switch value.Kind() {
	case '{':
		return event.EachField(value, func(name string, value []byte) error { return fn(name, value) })
	case jsontext.KindInvalid:
		return 0, errNotJSON
	default:
		return 0, otherwise
	}
}

// readText reads a string, or the digits of a number; anything else is "".
func readText(value jsontext.Value) string {
	switch value.Kind() {
	case '"':
		text, _ := jsontext.AppendUnquote(nil, value) // broken UTF-8 is an error, too, but the text is there
		return string(text)
	case '0':
		return string(value)
	default:
		return ""
	}
}
