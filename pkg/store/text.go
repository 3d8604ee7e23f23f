package store

import (
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// binaryPrefix marks a text that is stored in base64.
const binaryPrefix = "base64:"

// toText is s in a form that both engines hold: PostgreSQL's text has no NUL and only valid UTF-8.
func toText(s string) string {
	if utf8.ValidString(s) && !strings.ContainsRune(s, 0) && !strings.HasPrefix(s, binaryPrefix) {
		return s
	}
	return binaryPrefix + base64.StdEncoding.EncodeToString([]byte(s))
}

// fromText is what toText was given.
func fromText(s string) string {
	if encoded, ok := strings.CutPrefix(s, binaryPrefix); ok {
		if b, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			return string(b)
		}
	}
	return s
}

// errorText is s as event.ParcelError makes it.
func errorText(s string) string { return safetext.Line(s, event.MaxParcelError) }

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
