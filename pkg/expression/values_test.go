package expression

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzLookup(f *testing.F) {
	f.Add([]byte(upload), "FileUploadEvent", 0)
	f.Add([]byte(`{"a":[1,{"b":2}],"a":[3]}`), "a", 1)
	f.Fuzz(func(t *testing.T, raw []byte, name string, index int) {
		v, err := decode(newMeter(t.Context()), "x", raw)
		if err != nil {
			return
		}
		got := lookup(raw, []step{{name: name}})
		object, _ := v.(map[string]any)
		want, ok := object[name]
		require.Equal(t, ok, got != nil)
		if !ok {
			return
		}
		value, err := decode(newMeter(t.Context()), "x", got)
		require.NoError(t, err)
		require.Equal(t, want, value)
		list, _ := want.([]any)
		element := lookup(got, []step{{index: index, isIndex: true}})
		require.Equal(t, index >= 0 && index < len(list), element != nil)
		if element != nil {
			value, err := decode(newMeter(t.Context()), "x", element)
			require.NoError(t, err)
			require.Equal(t, list[index], value)
		}
	})
}

func TestDecodeNumbers(t *testing.T) {
	v, err := decode(newMeter(t.Context()), "x", []byte(` [0, -1, 9223372036854775807, 9223372036854775808, 18446744073709551615, 18446744073709551616, 0.10, 1e999, -1e999, {"a":null}, "\ud83d\ude00"] `))
	require.NoError(t, err)
	text, err := json.Marshal(v)
	require.NoError(t, err)
	require.Equal(t, `[0,-1,9223372036854775807,9223372036854775808,18446744073709551615,18446744073709552000,0.1,1.7976931348623157e+308,-1.7976931348623157e+308,{"a":null},"😀"]`, string(text))
	list := v.([]any)
	require.IsType(t, int64(0), list[2])
	require.IsType(t, uint64(0), list[3])
	require.IsType(t, float64(0), list[5])
	for _, bad := range []string{``, `{`, `[1`, `{"a"`, `{"a":1]`, `1 2`, `nul`} {
		_, err := decode(newMeter(t.Context()), "x", []byte(bad))
		require.Error(t, err, bad)
	}
}
