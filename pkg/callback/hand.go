package callback

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	// workTime is how long an event is worked on: as long as VOD's 3 attempts of 5 s may last. Nobody asks
	// for it afterwards. Source: https://cloud.tencent.com/document/product/266/7829.
	workTime = 15 * time.Second
	// What was settled too late for an answer is remembered for the next attempt, and not for longer: two
	// notifications with the same content have the same ID, and the second may be news.
	rememberFor  = time.Minute
	rememberMost = 16 << 10
)

// hand knows the events that are being worked on, and those that were settled when nobody waited.
type hand struct {
	mu      sync.Mutex
	entries map[string]*entry                 // by event ID
	settled *simplelru.LRU[string, time.Time] // by event ID, since when; the oldest first
}

// entry is one event in hand.
type entry struct {
	event.Delivery
	done    chan struct{} // closed when the work has ended
	err     error         // then: why it is not settled
	waiting int           // requests that wait for it; under hand.mu
}

func newHand() *hand {
	settled, err := simplelru.NewLRU[string, time.Time](rememberMost, nil)
	if err != nil { // only for a size below 1
		panic(err)
	}
	return &hand{entries: make(map[string]*entry), settled: settled}
}

// admission is what became of a notification.
type admission int

const (
	fresh      admission = iota // to be worked on
	joined                      // its event is in hand: its result counts
	remembered                  // its event was settled before, which no attempt has been told yet
)

// take puts the event of d in hand, or joins the one that is there. There is no entry for a remembered one.
func (h *hand) take(d event.Delivery) (*entry, admission) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.entries[d.ID]; e != nil {
		e.waiting++
		return e, joined
	}
	if since, ok := h.settled.Peek(d.ID); ok && time.Since(since) < rememberFor {
		return nil, remembered
	}
	e := &entry{Delivery: d, done: make(chan struct{}), waiting: 1}
	h.entries[d.ID] = e
	return e, fresh
}

// finish ends the work on e.
func (h *hand) finish(e *entry, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.entries, e.ID)
	if err == nil && e.waiting == 0 {
		h.settled.Add(e.ID, time.Now())
	}
	e.err = err
	close(e.done)
}

// await waits for the end of the work on e, or of ctx. finished tells which.
func (h *hand) await(ctx context.Context, e *entry) (finished bool) {
	select {
	case <-e.done:
		return true
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-e.done: // counted as told
		return true
	default:
		e.waiting--
		return false
	}
}

// told forgets that an event was settled: the attempt that asks now is told.
func (h *hand) told(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled.Remove(id)
}
