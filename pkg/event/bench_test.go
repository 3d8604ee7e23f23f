package event

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// BenchmarkID is the part of Decode that computes the event's ID.
func BenchmarkID(b *testing.B) {
	e, _, err := Decode(emulator.GenerateUploads(1, 1)[0], 1)
	require.NoError(b, err)
	b.SetBytes(int64(len(e.Raw)))
	b.ReportAllocs()
	for b.Loop() {
		if identify(e.Type, e.Raw) != e.ID {
			b.Fatal("another ID")
		}
	}
}
