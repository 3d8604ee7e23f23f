package exec

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	tailBytes = 1 << 10 // of standard error are kept
	lineBytes = 200     // of its first line go into an error
)

// tail keeps the end of what is written to it.
type tail struct {
	kept []byte
	cut  bool // what is kept may begin in the middle of a line
}

// Write takes everything, so that the command never waits.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-tailBytes):]...)
	if over := len(t.kept) - tailBytes; over > 0 || len(p) > tailBytes {
		t.cut = true
		t.kept = append(t.kept[:0], t.kept[max(0, over):]...)
	}
	return len(p), nil
}

// firstLine is ": " and the first whole line that is kept and not blank, fit for one line of a log; "" if
// there is none.
func (t *tail) firstLine() string {
	lines := strings.Split(string(t.kept), "\n")
	if t.cut && len(lines) > 1 {
		lines = lines[1:]
	}
	for _, line := range lines {
		line = strings.ToValidUTF8(line, "\uFFFD")
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, line))
		if line == "" {
			continue
		}
		if len(line) > lineBytes {
			end := lineBytes
			for !utf8.RuneStart(line[end]) {
				end--
			}
			line = line[:end]
		}
		return ": " + line
	}
	return ""
}
