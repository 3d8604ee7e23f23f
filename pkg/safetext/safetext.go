// Package safetext makes text from outside fit to be read: by people, in terminals, logs and pages, and by
// programs, as JSON. There is one rule. What can be seen stays as it is. What cannot, and could move a cursor,
// hide text, turn its direction or begin a line, becomes JSON's escape for it, such as \u202e: C0 and C1 controls,
// DEL, bidirectional and zero width characters, line and paragraph separators, variation selectors, and whatever
// Unicode has not assigned. Bytes that are no UTF-8 become U+FFFD.
package safetext

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// rest ends a text that was cut.
const rest = "..."

// Visible reports whether r can be seen, as itself or as the space that it is.
func Visible(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r != 0x7f
	}
	return (unicode.IsPrint(r) || unicode.Is(unicode.Zs, r)) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Line is text on one line: a run of line ends and tabs is one space, what cannot be seen is escaped, and there is
// no space at either end. It has at most limit bytes, and ends with "..." if it was cut, never in the middle of
// a character or an escape. A limit of 0 is none.
func Line(text string, limit int) string {
	if (limit <= 0 || len(text) <= limit) && plain(text) {
		return strings.Trim(text, " ")
	}
	const breaks = "\t\n\r"
	var line []byte
	whole := 0 // the bytes of line that stay if it is to be cut
	gap := false
	for _, r := range strings.Trim(text, " "+breaks) {
		broken := strings.ContainsRune(breaks, r)
		switch {
		case gap && (broken || r == ' '):
			continue
		case broken:
			line = append(line, ' ')
		default:
			line = appendRune(line, r)
		}
		gap = broken
		if limit <= 0 {
			continue
		}
		if len(line) > limit {
			return string(line[:whole]) + rest[:min(len(rest), limit)]
		}
		if len(line) <= limit-len(rest) {
			whole = len(line)
		}
	}
	return string(line)
}

// Name is a name from outside in a sentence: quoted, with escapes, if it is empty or could be taken for something
// else, and cut like a Line.
func Name(name string) string {
	const longest = 100
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == ' ' || r == '"' || r == '\\' || !Visible(r) || r == utf8.RuneError }) {
		return Quote(name, longest)
	}
	return Line(name, longest)
}

// Quote is text in quotes, written like a string in Go, of which at most limit bytes are shown.
func Quote(text string, limit int) string { return strconv.Quote(Cut(text, limit)) }

// Cut is at most limit bytes of text as it is, cut at a character's end. It ends with "..." if it was cut.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := max(0, limit-len(rest))
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + rest[:min(len(rest), limit)]
}

// Text is text with all that cannot be seen escaped but for line ends and tabs, and a space for a carriage return.
// JSON, which it leaves valid, means the same afterwards. It returns text itself if there is nothing to escape.
func Text(text []byte) []byte {
	at := bytes.IndexFunc(text, func(r rune) bool { return r == utf8.RuneError || !kept(r) })
	if at < 0 {
		return text
	}
	safe := append(make([]byte, 0, len(text)+64), text[:at]...)
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		switch {
		case r == '\r':
			safe = append(safe, ' ')
		case kept(r):
			safe = utf8.AppendRune(safe, r)
		default:
			safe = appendRune(safe, r)
		}
		at += size
	}
	return safe
}

func kept(r rune) bool { return r == '\n' || r == '\t' || Visible(r) }

// plain reports whether text is of visible ASCII only.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] >= 0x7f {
			return false
		}
	}
	return true
}

const hex = "0123456789abcdef"

func appendRune(dst []byte, r rune) []byte {
	if Visible(r) {
		return utf8.AppendRune(dst, r)
	}
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return appendUnit(appendUnit(dst, high), low)
	}
	return appendUnit(dst, r)
}

func appendUnit(dst []byte, u rune) []byte {
	return append(dst, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
}

// NewWriter is w for text: what is written goes through Text. Each write must hold whole characters.
func NewWriter(w io.Writer) io.Writer { return writer{w} }

type writer struct{ w io.Writer }

func (w writer) Write(p []byte) (int, error) {
	if _, err := w.w.Write(Text(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
