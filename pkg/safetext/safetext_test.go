package safetext

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"plain", 0, "plain"},
		{"  plain ", 0, "plain"},
		{"中文 名.mp4", 0, "中文 名.mp4"},
		{"全角\u3000空格", 0, "全角\u3000空格"},
		{"one\n\ttwo\r\nthree\n", 0, "one two three"},
		{"a\n   b", 0, "a b"},
		{"a  b", 0, "a  b"},
		{"\x1b[2Jx", 0, `\u001b[2Jx`},
		{"nul\x00", 0, `nul\u0000`},
		{"del\x7f", 0, `del\u007f`},
		{"c1\u009b31m", 0, `c1\u009b31m`},
		{"gpj.\u202etxt", 0, `gpj.\u202etxt`},
		{"\u2066a\u2069", 0, `\u2066a\u2069`},
		{"a\u200bb\u200db\ufeff", 0, `a\u200bb\u200db\ufeff`},
		{"line\u2028paragraph\u2029", 0, `line\u2028paragraph\u2029`},
		{"soft\u00adhyphen", 0, `soft\u00adhyphen`},
		{"filler\u3164", 0, `filler\u3164`},
		{"tag\U000e0041", 0, `tag\udb40\udc41`},
		{"hidden\U000e0101", 0, `hidden\udb40\udd01`},
		{"private\ue000", 0, `private\ue000`},
		{"half \xe4\xb8 \xff", 0, "half \uFFFD\uFFFD \uFFFD"},
		{"1234567890", 10, "1234567890"},
		{"12345678901", 10, "1234567..."},
		{"中文中文", 12, "中文中文"},
		{"中文中文", 11, "中文..."},
		{"abcd\u202e", 9, "abcd..."},
		{"abcd\u202e", 10, `abcd\u202e`},
		{"123456" + strings.Repeat("\n", 100), 6, "123456"},
		{"long", 2, ".."},
	} {
		require.Equal(t, c.want, Line(c.text, c.limit), "%q %d", c.text, c.limit)
	}
}

func TestNameAndQuote(t *testing.T) {
	for name, want := range map[string]string{
		"site": "site", "": `""`, "站点": "站点", "a b": `"a b"`, `a"b`: `"a\"b"`, "\u202eb": `"\u202eb"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`,
		strings.Repeat("x", 200): strings.Repeat("x", 97) + "...",
	} {
		require.Equal(t, want, Name(name))
	}
	require.Equal(t, `"中..."`, Quote("中文中文", 8))
	require.Equal(t, "..", Cut("long", 2))
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{-1: "-1 events", 0: "0 events", 1: "1 event", 2: "2 events"} {
		require.Equal(t, want, Count(n, "event", "events"))
	}
}

func TestTextKeepsLinesAndMeaning(t *testing.T) {
	require.Equal(t, "a\tb\nc", string(Text([]byte("a\tb\nc"))))
	require.Equal(t, `{"a":"\u202e\udb40\udc41`+"\uFFFD"+`"}`, string(Text([]byte("{\"a\":\"\u202e\U000e0041\xff\"}"))))
	require.Equal(t, ` \u001b[A`, string(Text([]byte("\r\x1b[A"))))
	var out bytes.Buffer
	n, err := NewWriter(&out).Write([]byte("\x1bx"))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, `\u001bx`, out.String())
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b\u202e\xff\n\tx", "中文\U000e0041\u2028", strings.Repeat("\ufeff", 30)} {
		f.Add(seed, 0)
		f.Add(seed, 20)
	}
	f.Fuzz(func(t *testing.T, text string, limit int) {
		line := Line(text, limit)
		require.True(t, utf8.ValidString(line))
		for _, r := range line {
			require.True(t, Visible(r), "%q", line)
		}
		require.Equal(t, strings.Trim(line, " "), line)
		if limit > 0 {
			require.LessOrEqual(t, len(line), limit)
		}
		require.Equal(t, line, Line(line, limit))
		if limit > 0 {
			require.LessOrEqual(t, len(Cut(text, limit)), limit)
			if utf8.ValidString(text) {
				require.True(t, utf8.ValidString(Cut(text, limit)))
			}
		}
	})
}

// FuzzText takes what is JSON, and makes JSON of what is not.
func FuzzText(f *testing.F) {
	for _, seed := range []string{`{"a": "b"}`, "[\"\x7f\u009b\u202e\u2028\U000e0041\xff\"]", "\"\\u202e\\\\\u202e\"", "\"\\\u202e\"", "\x1b", "0 \r"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			text, _ = json.Marshal(string(text))
		}
		before := bytes.Clone(text)
		safe := Text(text)
		require.Equal(t, before, text)
		for _, r := range string(safe) {
			require.True(t, Visible(r) || r == '\n' || r == '\t', "%q", safe)
		}
		var want, got any
		if json.Unmarshal(text, &want) != nil {
			return // a number too large
		}
		require.NoError(t, json.Unmarshal(safe, &got), "%q", safe)
		require.Equal(t, want, got)
	})
}
