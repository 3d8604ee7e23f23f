package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNextGOGC(t *testing.T) {
	const mb = 1 << 20
	for _, row := range []struct {
		heap
		want int
	}{
		{heap{0, 0}, 350},           // 14 MB, at 4 MB for each 100
		{heap{1 * mb, 1 * mb}, 350}, // likewise, as 13/2 would be more
		{heap{4 * mb, 0}, 250},
		{heap{4 * mb, 1 * mb}, 200}, // 4 + 2*5
		{heap{6 * mb, 2 * mb}, 100},
		{heap{13 * mb, 0}, 100},
		{heap{14 * mb, 0}, 100},
		{heap{100 * mb, 9 * mb}, 100},
	} {
		require.Equal(t, row.want, nextGOGC(row.heap, 14*mb), "%+v", row.heap)
	}
}

func TestGrowHeap(t *testing.T) {
	before := debug.SetGCPercent(defaultGOGC)
	defer debug.SetGCPercent(before)
	growHeap(64 << 20)
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	require.Eventually(t, func() bool {
		runtime.GC()
		metrics.Read(gogc)
		return gogc[0].Value.Uint64() > defaultGOGC
	}, 10*time.Second, 10*time.Millisecond)
}
