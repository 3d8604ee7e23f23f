package postgres

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vodrelay/vodrelay/pkg/expression"
)

// column is one of the table, and where its value comes from.
type column struct {
	name string
	expr *expression.Expression // nil: the callback body
	key  bool                   // of the unique index by which an event that comes again is known
	// exact, without expr: the body's own bytes, and only if the content column cannot hold them.
	exact bool
}

// kind is how a column's value is written.
type kind int

const (
	kindText kind = iota
	kindJSON
	kindBytes
)

// format is the value raw of the column in PostgreSQL's text form for its kind; nil is NULL.
func (c column) format(k kind, raw json.RawMessage) *string {
	if raw == nil {
		return nil
	}
	var text string
	switch {
	case c.exact:
		text = hexadecimal(raw)
	case c.expr == nil && k == kindBytes:
		text = hexadecimal(raw)
	case c.expr == nil: // cleaned already
		text = string(raw)
	case k == kindJSON:
		clean, _ := cleanJSON(raw)
		text = string(clean)
	case k == kindBytes:
		text = hexadecimal(unquote(raw))
	default:
		text = cleanText(string(unquote(raw)))
	}
	return &text
}

// hexadecimal is the input form of bytea: https://www.postgresql.org/docs/current/datatype-binary.html.
func hexadecimal(b []byte) string { return `\x` + hex.EncodeToString(b) }

// unquote is what is in a JSON string, and the JSON of everything else.
func unquote(raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '"' {
		return raw
	}
	// Broken UTF-8 is an error of AppendUnquote as well, but the text is there.
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil && len(text) == 0 {
		return raw
	}
	return text
}

// cleanText makes a text that PostgreSQL holds: it has no NUL, and only valid UTF-8.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cleanJSON makes JSON that PostgreSQL's types json and jsonb hold and that its functions can read: without broken UTF-8,
// NUL as \u0000, and halves of surrogate pairs, which all become U+FFFD. It reports whether there was any.
func cleanJSON(raw []byte) (clean []byte, changed bool) {
	if !utf8.Valid(raw) {
		raw, changed = bytes.ToValidUTF8(raw, []byte("\uFFFD")), true
	}
	if !bytes.Contains(raw, []byte(`\u`)) {
		return raw, changed
	}
	out := make([]byte, 0, len(raw))
	for {
		i := bytes.IndexByte(raw, '\\') // backslashes are in strings only
		if i < 0 {
			return append(out, raw...), changed
		}
		out, raw = append(out, raw[:i]...), raw[i:]
		length, good := escape(raw)
		if good {
			out = append(out, raw[:length]...)
		} else {
			out, changed = append(out, `\ufffd`...), true
		}
		raw = raw[length:]
	}
}

// escape is the length of the escape at the start of b, and whether PostgreSQL can read it.
func escape(b []byte) (length int, good bool) {
	unit, isUnit := codeUnit(b)
	switch {
	case !isUnit:
		return min(2, len(b)), true
	case unit == 0:
		return 6, false
	case utf16.IsSurrogate(unit):
		if next, ok := codeUnit(b[6:]); ok && utf16.DecodeRune(unit, next) != utf8.RuneError {
			return 12, true
		}
		return 6, false
	}
	return 6, true
}

// codeUnit reads an escape such as \u00e9 at the start of b.
func codeUnit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(unit), err == nil
}
