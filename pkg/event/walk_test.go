package event

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// slowly is what a walk does, by a parser and by strings.
func slowly(t *testing.T, dec *jsontext.Decoder, canonical bool, leaveOut func(jsontext.Value) bool, depth int) string {
	scalar := func(v jsontext.Value) string {
		if canonical && v.Kind() == '"' {
			if quoted, _ := jsontext.AppendQuote(nil, unquote(v)); bytes.IndexByte(v, '\\') >= 0 {
				return string(quoted)
			}
		}
		return string(v)
	}
	kind := dec.PeekKind()
	if kind != '{' && kind != '[' {
		v, err := dec.ReadValue()
		require.NoError(t, err)
		return scalar(v)
	}
	_, err := dec.ReadToken()
	require.NoError(t, err)
	type field struct{ name, value string }
	var fields []field
	for next := dec.PeekKind(); next != '}' && next != ']'; next = dec.PeekKind() {
		var f field
		left := false
		if kind == '{' {
			name, err := dec.ReadValue()
			require.NoError(t, err)
			left = depth == 0 && leaveOut != nil && leaveOut(name) || dec.PeekKind() == 'n'
			f.name = scalar(name)
		}
		f.value = slowly(t, dec, canonical, leaveOut, depth+1)
		if !left {
			fields = append(fields, f)
		}
	}
	_, err = dec.ReadToken()
	require.NoError(t, err)
	if canonical && kind == '{' {
		slices.SortStableFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	}
	var texts []string
	for _, f := range fields {
		if kind == '{' {
			f.value = f.name + ":" + f.value
		}
		texts = append(texts, f.value)
	}
	if kind == '{' {
		return "{" + strings.Join(texts, ",") + "}"
	}
	return "[" + strings.Join(texts, ",") + "]"
}

// FuzzWalk compares the walker, which takes on trust that it is given JSON, with a parser.
func FuzzWalk(f *testing.F) {
	for _, content := range emulator.GenerateUploads(2, 1) {
		f.Add([]byte(content))
	}
	f.Add([]byte(" { \"b\\\\\" : [ null , {\"a\":null}, [ ] ,\t{}, -1.5e3,true ,false ], \"T\":1,\"\\u0054\":2,\r\n\"n\":\"null\" , \"\":{\"z\":1,\"a\":[\"\\\"]}\"]}} "))
	f.Add([]byte("{\"EventType\":\"\xff\\n\",\"a\\u0062\":\"\\ud800\",\"ab\":\"\\/é\",\"ab\":0}"))
	f.Add([]byte(`"\\"`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain, err := appendWithoutNulls(nil, raw)
		w := walker{scanner: scanner{data: raw}, canonical: true, leaveOut: unidentifying}
		canonical := w.value(nil, 0)
		if !jsontext.Value(raw).IsValid(lenient...) {
			return // nothing is promised but to come to an end
		}
		require.NoError(t, err)
		parser := func() *jsontext.Decoder { return jsontext.NewDecoder(bytes.NewBuffer(slices.Clone(raw)), lenient...) }
		require.Equal(t, slowly(t, parser(), false, nil, 0), string(plain))
		require.Equal(t, slowly(t, parser(), true, unidentifying, 0), string(canonical))
	})
}

func TestWhatHasNotTheStructureOfJSONIsAnError(t *testing.T) {
	for _, raw := range []string{
		``, ` `, `{`, `[`, `"`, `"\"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{1:2}`, `{"a":1 "b":2}`,
		`[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`, `[}`, `{]`, `1 2`, `{} {}`, `x`, `<html>`, `:`, `{"a":}`, `{"a":x}`, `[null`, `{"a":null`,
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
	} {
		_, err := appendWithoutNulls(nil, []byte(raw))
		require.Error(t, err, "%.20s", raw)
	}
	deep := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	_, err := appendWithoutNulls(nil, []byte(deep))
	require.NoError(t, err)
	require.True(t, jsontext.Value(deep).IsValid(), "the parser takes it, too")
}
