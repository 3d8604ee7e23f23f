package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// A signature is no part of an event, wherever it stands and however it is written.
func TestASignatureIsTakenOut(t *testing.T) {
	const plain = `{"EventType":"A","P":{"x":1,"y":[{"T":1}]}}`
	const sum = `"1fd1090936897df2abfcb368debc74a6"`
	want, _, err := event.Decode([]byte(plain), 1)
	require.NoError(t, err)
	for _, item := range []string{
		`{"EventHandle":"h","Sign":` + sum + `,"T":1700000000,"EventType":"A","P":{"x":1,"y":[{"T":1}]}}`,
		`{"EventType":"A","P":{"x":1,"y":[{"T":1}]}, "t" : "1700000000" , "sign" : ` + sum + `}`,
		`{"EventType":"A","T":1700000000,"P":{"x":1,"y":[{"T":1}]},"SIGN":` + strings.ToUpper(sum) + `}`,
		`{"EventHandle":"h","EventType":"A","P":{"Sign":` + sum + `,"T":1700000000,"x":1,"y":[{"T":1}]}}`,
		`{"EventType":"A","P":{"x":1,"y":[{"T":1}],"t":"1700000000","sign":` + sum + `}}`,
		`{"Sign":` + sum + `,"T":1,"EventType":"A","P":{"Sign":` + sum + `,"T":2,"x":1,"y":[{"T":1}]}}`,
	} {
		got, _, err := event.Decode([]byte(item), 1)
		require.NoError(t, err)
		require.Equal(t, want, got, item)
	}
	for _, kept := range []string{
		`{"EventType":"A","P":{"Sign":` + sum + `}}`,
		`{"EventType":"A","P":{"T":1}}`,
		`{"EventType":"A","P":{"Sign":"more than the digits","T":1}}`,
		`{"EventType":"A","P":{"Sign":` + sum + `,"T":1.5}}`,
		`{"EventType":"A","P":{"Design":` + sum + `,"T":1}}`,
		`{"EventType":"A","P":{"Q":{"Sign":` + sum + `,"T":1}}}`,
		`{"EventType":"A","Sign":1,"T":1}`,
	} {
		got, _, err := event.Decode([]byte(kept), 1)
		require.NoError(t, err)
		require.Equal(t, kept, string(got.Raw))
	}
}
