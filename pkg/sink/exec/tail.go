package exec

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// What is kept of a command's standard error, in bytes, and what of it goes into an error.
const (
	headBytes  = 512
	tailBytes  = 4 << 10
	firstBytes = 120
	lastBytes  = 240
)

// tail keeps the beginning and the end of what is written to it. The cause of a failure stands in one of them: a traceback
// of Python ends with it, one of Go or Java begins with it.
type tail struct {
	head []byte
	kept []byte // the end, or everything
	lost int64  // bytes before kept
}

// Write takes everything, so that the command never waits.
func (t *tail) Write(p []byte) (int, error) {
	t.head = append(t.head, p[:min(len(p), headBytes-len(t.head))]...)
	if over := len(t.kept) + len(p) - tailBytes; over > 0 {
		t.lost += int64(over)
		old := min(over, len(t.kept))
		t.kept = append(t.kept[:0], t.kept[old:]...)
		t.kept = append(t.kept, p[over-old:]...)
	} else {
		t.kept = append(t.kept, p...)
	}
	return len(p), nil
}

// cause is ": " and the first and the last line that are not blank, fit for one line of a log, with "..." for what is left
// out; "" if there is none.
func (t *tail) cause() string {
	first, last, between := t.ends()
	switch {
	case first == "":
		first = last
	case last == "":
	case between:
		first += " ... " + last
	default:
		first += "; " + last
	}
	if first == "" {
		return ""
	}
	return ": " + first
}

// ends are the first line and another last one, each "" if there is none, and whether something between them is left out.
func (t *tail) ends() (first, last string, between bool) {
	lines := written(t.kept)
	if t.lost == 0 {
		switch len(lines) {
		case 0:
			return "", "", false
		case 1:
			return "", safetext.Line(lines[0], lastBytes), false
		}
		return safetext.Line(lines[0], firstBytes), safetext.Line(lines[len(lines)-1], lastBytes), len(lines) > 2
	}
	if begin := written(t.head); len(begin) > 0 {
		first = safetext.Line(begin[0], firstBytes)
	}
	switch line := bytes.TrimRight(t.kept, " \t\r\n"); {
	case len(lines) == 0:
	case bytes.IndexByte(line, '\n') >= 0:
		last = safetext.Line(lines[len(lines)-1], lastBytes)
	default: // its beginning is lost
		last = "..." + safetext.Line(string(whole(line[max(0, len(line)-lastBytes/2):])), lastBytes)
	}
	return first, last, true
}

// text is what is kept of the end, beginning with a whole line or character, for the debug log.
func (t *tail) text() string {
	kept := t.kept
	if t.lost > 0 {
		if end := bytes.IndexByte(kept, '\n'); end >= 0 {
			kept = kept[end+1:]
		}
		kept = append([]byte("...\n"), whole(kept)...)
	}
	return string(safetext.Text(kept))
}

// written are the lines of text that are not blank.
func written(text []byte) []string {
	var lines []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// whole is text without the rest of a character at its beginning.
func whole(text []byte) []byte {
	for i := 0; i < min(len(text), utf8.UTFMax-1); i++ {
		if utf8.RuneStart(text[i]) {
			return text[i:]
		}
	}
	return text
}
