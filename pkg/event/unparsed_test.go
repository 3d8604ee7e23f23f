package event

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A notification that is no JSON as a whole can still be confirmed, and its redelivery, with another handle, is the same
// event.
func TestWhatCannotBeParsedKeepsItsHandle(t *testing.T) {
	decode := func(handle string) Event {
		e, got, err := Decode([]byte(`{"EventHandle":"`+handle+`","EventType":"Broken","Value":tru}`), 1)
		require.Error(t, err)
		require.Equal(t, handle, got)
		require.Equal(t, Unknown, e.Type)
		require.Equal(t, `"{\"EventType\":\"Broken\",\"Value\":tru}"`, string(e.Raw), "the handle is no part of it")
		return e
	}
	require.Equal(t, decode("first").ID, decode("second").ID)
}
