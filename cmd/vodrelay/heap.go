package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// heapFloor is what the heap may grow to before it is collected. At the full quota 1 to 2 MB of it are live,
	// without one 4 to 6, and by default Go collects at 4 MB or at twice that: a tenth of the CPU time of an
	// event, with the stacks of idle goroutines, which each collection halves and the next event grows.
	heapFloor = 14 << 20
	// defaultGOGC is Go's own: a heap may grow by so many percent of what is live.
	defaultGOGC = 100
	// goFloor is Go's own floor for each 100 of GOGC.
	goFloor = 4 << 20
)

// growHeap has each collection say when the next one comes: not before the heap has reached floor, in bytes. One
// that is larger anyhow is collected as by default.
func growHeap(floor uint64) {
	watched := &struct{ self *int }{}
	runtime.AddCleanup(watched, func(floor uint64) {
		debug.SetGCPercent(nextGOGC(readHeap(), floor))
		growHeap(floor)
	}, floor)
}

// heap is what the latest collection has found, in bytes.
type heap struct{ live, roots uint64 }

func readHeap() heap {
	read := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(read)
	return heap{live: read[0].Value.Uint64(), roots: read[1].Value.Uint64() + read[2].Value.Uint64()}
}

// nextGOGC is the percentage at which the next collection comes when the heap is floor: it grows by that of live
// data and roots together.
func nextGOGC(h heap, floor uint64) int {
	if h.live >= floor {
		return defaultGOGC
	}
	wanted := (floor - h.live) * 100 / max(h.live+h.roots, 1)
	return int(max(min(wanted, floor*100/goFloor), defaultGOGC))
}
