package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Refusals are the deliveries that a sink refused: it blamed the event. They do not make it count as down.
type Refusals struct {
	Total uint64 // since the route was made
	// InARow counts those since an event was accepted last; with Since, when the first of them was. Both are
	// zero if the sink refused none since then.
	InARow int
	Since  time.Time
	// Last is when it refused an event last, and Error why, in at most event.MaxParcelError bytes; they stay.
	Last  time.Time
	Error string
}

// refusals counts a route's.
type refusals struct {
	on atomic.Bool // InARow is not 0

	mu  sync.Mutex
	all Refusals
}

func (r *refusals) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.all.InARow == 0 {
		r.all.Since = now
	}
	r.all.Total++
	r.all.InARow++
	r.all.Last, r.all.Error = now, event.ParcelError(err)
	r.on.Store(true)
}

// end tells that an event was accepted.
func (r *refusals) end() {
	if !r.on.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all.InARow, r.all.Since = 0, time.Time{}
	r.on.Store(false)
}

func (r *refusals) stats() Refusals {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}
