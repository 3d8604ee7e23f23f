package postgres

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

func TestCleanJSON(t *testing.T) {
	for _, same := range []string{
		`{"a":"\u00e9\ud83d\ude00\\u0000\\\\u0000\n\"","b":[1e21,0.10,-0]}`, `"é"`, `{}`, `"\\"`, `"\u0001"`, `"\\ud800"`,
	} {
		clean, changed := cleanJSON([]byte(same))
		require.False(t, changed, same)
		require.Equal(t, same, string(clean))
	}
	for raw, want := range map[string]string{
		`"a\u0000b"`:                    `"a\ufffdb"`,
		`"\\\u0000"`:                    `"\\\ufffd"`,
		`"\ud800"`:                      `"\ufffd"`,
		`"\ud800\u0041"`:                `"\ufffd\u0041"`,
		`"\udc00\ud800"`:                `"\ufffd\ufffd"`,
		`"\uD83D\ud83d\uDE00\ude00"`:    `"\ufffd\ud83d\uDE00\ufffd"`,
		"\"a\xffb\"":                    "\"a\uFFFDb\"",
		"{\"\xff\\u0000\":\"\\u0000\"}": "{\"\uFFFD\\ufffd\":\"\\ufffd\"}",
	} {
		clean, changed := cleanJSON([]byte(raw))
		require.True(t, changed, raw)
		require.Equal(t, want, string(clean))
	}
	// Many of them take no longer than few.
	many := `"` + strings.Repeat(`\u0000`, 800_000) + `"`
	clean, _ := cleanJSON([]byte(many))
	require.Equal(t, strings.ReplaceAll(many, "0000", "fffd"), string(clean))
}

func FuzzCleanJSON(f *testing.F) {
	for _, seed := range []string{`"\u0000"`, `"\ud83d\ude00"`, `"\\u0000\ud800"`, "\"\xed\xa0\x80\"", `"\`, `\u00`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := string(raw)
		clean, changed := cleanJSON(raw)
		require.Equal(t, before, string(raw), "the event itself must not change")
		require.Equal(t, !changed, string(clean) == before)
		require.True(t, utf8.Valid(clean))
		again, changed := cleanJSON(clean)
		require.False(t, changed)
		require.Equal(t, clean, again)
		if !jsontext.Value(raw).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
			return
		}
		require.True(t, jsontext.Value(clean).IsValid(jsontext.AllowDuplicateNames(true)), "%s", clean)
		if !json.Valid(raw) || json.Valid(clean) {
			return
		}
		t.Fatalf("%s", clean)
	})
}

func TestFormat(t *testing.T) {
	x, err := Config{IDColumn: "a"}.columns()
	require.NoError(t, err)
	expr := x[0]
	for _, c := range []struct {
		kind      kind
		raw, want string
	}{
		{kindText, `"a\u0000\n\ud800"`, "a\uFFFD\n\uFFFD"},
		{kindText, "\"a\xff\"", "a\uFFFD"},
		{kindText, `{"a":"b"}`, `{"a":"b"}`},
		{kindText, `0.10`, `0.10`},
		{kindText, `true`, `true`},
		{kindText, `""`, ``},
		{kindJSON, `"a\u0000"`, `"a\ufffd"`},
		{kindBytes, `"\\x41\u0000"`, `\x5c78343100`},
		{kindBytes, `[1]`, `\x5b315d`},
	} {
		require.Equal(t, c.want, *expr.format(c.kind, json.RawMessage(c.raw)))
	}
	require.Nil(t, expr.format(kindText, nil))
	require.Equal(t, `"a"`, *column{}.format(kindText, json.RawMessage(`"a"`)))
	require.Equal(t, `\x226122`, *column{}.format(kindBytes, json.RawMessage(`"a"`)))
	require.Equal(t, `\x226122`, *column{exact: true}.format(kindText, json.RawMessage(`"a"`)))
}
