package event

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

func TestEachField(t *testing.T) {
	deep := strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20)
	for _, c := range []struct {
		data string
		want []string // names and values
		rest string
		err  error
	}{
		{` { } x`, nil, " x", nil},
		{`{"a":1,"\u0062" : [ {"c":"]}\\\""} ] }`, []string{"a", "1", "b", `[ {"c":"]}\\\""} ]`}, "", nil},
		{`{"a":` + deep + `,"b":null}`, []string{"a", deep, "b", "null"}, "", nil},
		{`{"a":tru,"b":{,,:}}`, []string{"a", "tru", "b", "{,,:}"}, "", nil}, // nobody looks inside
		{"{\"\xff\\n\":1}", []string{"\ufffd\n", "1"}, "", nil},              // broken UTF-8
		{`{"\n\q":1}`, []string{`"\n\q"`, "1"}, "", nil},                     // no string of JSON: as it stands
		{``, nil, "", io.ErrUnexpectedEOF},
		{`{"a":1`, []string{"a", "1"}, "", io.ErrUnexpectedEOF},
		{`{"a":"x`, nil, "", io.ErrUnexpectedEOF},
		{`{"a":[1,`, nil, "", io.ErrUnexpectedEOF},
		{`{"a`, nil, "", io.ErrUnexpectedEOF},
		{`[]`, nil, "", ErrNotJSON},
		{`{"a" 1}`, nil, "", ErrNotJSON},
		{`{"a":1 "b":2}`, []string{"a", "1"}, "", ErrNotJSON},
		{`{"a":}`, nil, "", ErrNotJSON},
		{`{a:1}`, nil, "", ErrNotJSON},
		{`{"a":1,}`, []string{"a", "1"}, "", ErrNotJSON},
	} {
		var got []string
		end, err := EachField([]byte(c.data), func(name string, value []byte) error {
			got = append(got, name, string(value))
			return nil
		})
		name := c.data[:min(len(c.data), 50)]
		require.ErrorIs(t, err, c.err, name)
		require.Equal(t, c.want, got, name)
		if c.err == nil {
			require.Equal(t, c.rest, c.data[end:], name)
		}
	}
	_, err := EachItem([]byte("[1,2]"), func([]byte) error { return io.ErrClosedPipe })
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

// Of what is JSON it finds what a parser finds, and of anything else it makes no panic.
func FuzzEachItem(f *testing.F) {
	for _, seed := range []string{`[]`, `[1,"a\"]",{"b":[null,-1e5]} , true]`, `[[[]],{},"\\"]`, "[\"\xff\",\"\\ud83d\"]", `[1,]`, `[}`, `["`, `[tru,x"y]`, "[\x00]", "\f[]"} {
		f.Add([]byte(seed))
	}
	trim := func(data []byte) []byte { return bytes.Trim(data, " \t\r\n") } // JSON knows no other white space
	f.Fuzz(func(t *testing.T, data []byte) {
		var got [][]byte
		end, err := EachItem(data, func(item []byte) error {
			if len(item) == 0 {
				t.Fatal("an item of nothing")
			}
			got = append(got, item)
			return nil
		})
		if _, err := EachField(data, func(string, []byte) error { return nil }); err == nil && trim(data)[0] != '{' {
			t.Fatal("an object out of nothing")
		}
		list := jsontext.Value(trim(data))
		if list.Kind() != '[' || !list.IsValid(lenient...) {
			return
		}
		require.NoError(t, err)
		require.Empty(t, trim(data[end:]))
		dec := jsontext.NewDecoder(bytes.NewReader(list), lenient...)
		_, _ = dec.ReadToken()
		for _, item := range got {
			want, err := dec.ReadValue()
			require.NoError(t, err)
			require.Equal(t, string(want), string(item))
		}
		require.Equal(t, jsontext.Kind(']'), dec.PeekKind())
	})
}
