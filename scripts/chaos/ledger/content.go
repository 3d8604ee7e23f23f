package ledger

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// sameContent compares two JSON texts by their values; numbers by their text. Fields that are null count as absent: a
// store keeps what was pulled, and a target gets it without them.
func sameContent(a, b []byte) bool {
	x, okA := decode(a)
	y, okB := decode(b)
	return okA && okB && reflect.DeepEqual(x, y)
}

func decode(text []byte) (any, bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if decoder.Decode(&v) != nil {
		return nil, false
	}
	return withoutNulls(v), true
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if value == nil {
				delete(v, name)
				continue
			}
			v[name] = withoutNulls(value)
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}
