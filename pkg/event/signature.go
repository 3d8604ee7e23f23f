package event

import (
	"bytes"
	"encoding/hex"
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
)

// A signature is a pair of Sign and T, which VOD adds to what it posts. It is not documented where they stand, how
// they are written, and whether pulled events carry them, too. It is new at each delivery, and whoever sees it can
// post other notifications for ten minutes, so that it is no part of an event: Raw and ID are without it.

// signatureLength is the bytes of Sign, an MD5.
const signatureLength = 16

// maySign reports whether an object has a field that may be Sign; most have none, and are not read for it.
func maySign(object []byte) bool {
	return bytes.Contains(object, []byte(`ign"`)) || bytes.Contains(object, []byte(`IGN"`))
}

// unsigned is the object without a signature; the object itself if it has none. Sign or T alone, or of another
// form, is a field like any other.
func unsigned(object json.RawMessage) json.RawMessage {
	type field struct{ name, value jsontext.Value }
	var kept []field
	sign, expires := false, false
	for name, value := range members(object) {
		switch {
		case isSign(name) && isSum(value):
			sign = true
		case isT(name) && isSeconds(value):
			expires = true
		default:
			kept = append(kept, field{name, value})
		}
	}
	if !sign || !expires {
		return object
	}
	rest := append(make(json.RawMessage, 0, len(object)), '{')
	for i, f := range kept {
		if i > 0 {
			rest = append(rest, ',')
		}
		rest = append(append(append(rest, f.name...), ':'), f.value...)
	}
	return append(rest, '}')
}

func isSign(name jsontext.Value) bool {
	return is(name, "Sign") || is(name, "sign") || is(name, "SIGN")
}

func isT(name jsontext.Value) bool { return is(name, "T") || is(name, "t") }

func isSum(value jsontext.Value) bool {
	sum, err := hex.DecodeString(text(value))
	return err == nil && value.Kind() == '"' && len(sum) == signatureLength
}

// isSeconds reports whether value is a time in decimal seconds, as a number or a string.
func isSeconds(value jsontext.Value) bool {
	digits := text(value)
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return digits != "" && len(digits) <= 19
}
