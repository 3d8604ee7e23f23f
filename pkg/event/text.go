package event

import (
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// appendCanonical appends a JSON string so that texts which are equal become equal bytes, however they are
// escaped, and texts which differ stay different. What is no text in Unicode keeps its bytes: half of a
// surrogate pair stays the escape that it was, in small letters, and broken UTF-8 stays as it is. quoted must be
// a string that the parser has accepted.
func appendCanonical(dst, quoted []byte) []byte {
	for i := 0; i < len(quoted); {
		if quoted[i] != '\\' {
			dst = append(dst, quoted[i])
			i++
			continue
		}
		switch c := quoted[i+1]; c {
		case '/':
			dst = append(dst, '/')
			i += 2
		case 'u':
			r, size := escaped(quoted[i:])
			dst = appendRune(dst, r)
			i += size
		default: // as short as can be
			dst = append(dst, '\\', c)
			i += 2
		}
	}
	return dst
}

// unicodeEscape is the length of an escape such as \u0041.
const unicodeEscape = len(`\u0041`)

// escaped is the character that begins with an escape at the beginning of text, and the length of its escapes:
// two for a pair of surrogates. Half of a pair is the character itself.
func escaped(text []byte) (r rune, size int) {
	r = unit(text)
	if !utf16.IsSurrogate(r) {
		return r, unicodeEscape
	}
	if pair := utf16.DecodeRune(r, unit(text[min(unicodeEscape, len(text)):])); pair != utf8.RuneError {
		return pair, 2 * unicodeEscape
	}
	return r, unicodeEscape
}

// unit is the number in the escape at the beginning of text, utf8.RuneError if there is none.
func unit(text []byte) rune {
	if len(text) < unicodeEscape || text[0] != '\\' || text[1] != 'u' {
		return utf8.RuneError
	}
	var r rune
	for _, c := range text[2:unicodeEscape] {
		switch {
		case c <= '9':
			c -= '0'
		default:
			c = c | 0x20 - 'a' + 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendRune appends a character as it stands in the canonical form of a string.
func appendRune(dst []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	switch {
	case r == '"', r == '\\':
		return append(dst, '\\', byte(r))
	case r == '\b':
		return append(dst, '\\', 'b')
	case r == '\f':
		return append(dst, '\\', 'f')
	case r == '\n':
		return append(dst, '\\', 'n')
	case r == '\r':
		return append(dst, '\\', 'r')
	case r == '\t':
		return append(dst, '\\', 't')
	case r < ' ', utf16.IsSurrogate(r):
		return append(dst, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// quote is a JSON string of the text. Broken UTF-8 in it is kept.
func quote(text []byte) jsontext.Value {
	quoted := append(make([]byte, 0, len(text)+2), '"')
	for _, c := range text {
		if c < ' ' || c == '"' || c == '\\' {
			quoted = appendRune(quoted, rune(c))
		} else {
			quoted = append(quoted, c)
		}
	}
	return append(quoted, '"')
}
