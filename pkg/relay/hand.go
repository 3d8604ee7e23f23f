package relay

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	// maxLeases bounds the handles kept for one event. A queue that delivers an event more often than
	// that while it is in hand is broken, and the newest handles are the ones that can still confirm.
	maxLeases = 4
	// Settled events whose confirm failed are remembered for their next delivery, which comes right after
	// the lease, or later when others wait before it. The time is limited because two notifications with
	// the same content have the same ID: long after, it is another one. Only time in which the relay pulls
	// counts; over a stop a mark lasts for event.RetentionTime.
	rememberFor  = 10 * time.Minute
	rememberMost = 16 * 1024
)

// hand knows the events in hand, and those that left it settled but unconfirmed.
type hand struct {
	subAppID uint64 // of all its events

	mu      sync.Mutex
	entries map[string]*entry                 // by event ID
	settled *simplelru.LRU[string, time.Time] // IDs of settled and unconfirmed ones, since when; the oldest first
	marks   *marks                            // nil: the memory ends with the process
	early   map[string]struct{}               // IDs confirmed before the marks of earlier runs could be read; nil: they were
}

// entry is one event in hand.
type entry struct {
	event.Delivery       // the first one; its handle is in leases too
	bytes          int64 // of the relay's room
	untried        bool  // there was no room for it

	// Under hand.mu:
	leases  []lease // every delivery that may still be confirmed, while the event is worked on
	waiting int     // leases at the confirmer, once it is settled
	settled bool
	failed  bool      // a lease could not be confirmed
	until   time.Time // when the last lease ends
}

// lease is one delivery of an event in hand.
type lease struct {
	entry    *entry
	handle   string
	deadline time.Time
	// unanswered: an attempt to confirm it failed in a way that leaves open whether it was carried out. The
	// confirmer's.
	unanswered bool
}

// admission is what became of a delivery.
type admission int

const (
	fresher       admission = iota // to be worked on
	joinedWorking                  // one more handle for an event that is being worked on
	joinedSettled                  // one more handle to confirm for a settled event
	remembered                     // settled before: to be confirmed without work
)

func newHand(subAppID uint64) *hand {
	h := &hand{subAppID: subAppID, entries: make(map[string]*entry)}
	var err error
	h.settled, err = simplelru.NewLRU(rememberMost, func(id string, _ time.Time) {
		if h.marks != nil {
			h.marks.forget(settledKey{subAppID, id})
		}
	})
	if err != nil { // only for a size below 1
		panic(err)
	}
	return h
}

// restore takes over the marks of earlier runs. Their time starts anew: nothing was delivered while the
// relay stood still.
func (h *hand) restore(marks []event.SettledMark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range marks {
		if _, confirmed := h.early[m.EventID]; confirmed || len(h.early) > rememberMost {
			h.marks.forget(settledKey{h.subAppID, m.EventID}) // the next of the same content is another event
			continue
		}
		h.settled.Add(m.EventID, time.Now())
	}
	h.early = nil
}

// expire forgets the settled events whose time is over.
func (h *hand) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		id, since, ok := h.settled.GetOldest()
		if !ok || time.Since(since) < rememberFor {
			return
		}
		h.settled.Remove(id)
	}
}

// admit takes a delivery into hand. For an event that is settled already it returns the lease to confirm.
func (h *hand) admit(d event.Delivery) (*entry, lease, admission) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, inHand := h.entries[d.ID]
	if !inHand {
		e = &entry{Delivery: d}
		h.entries[d.ID] = e
		since, ok := h.settled.Peek(e.ID) // no Get: the order is that of age
		e.settled = ok && time.Since(since) < rememberFor
	}
	if d.Deadline.After(e.until) {
		e.until = d.Deadline
	}
	l := lease{entry: e, handle: d.Handle, deadline: d.Deadline}
	switch {
	case e.settled:
		e.waiting++
		if inHand {
			return e, l, joinedSettled
		}
		return e, l, remembered
	case inHand:
		e.renew(l)
		return e, lease{}, joinedWorking
	}
	e.leases = append(e.leases, l)
	return e, lease{}, fresher
}

// renew adds the handle of another delivery. Leases that ran out are dropped: this delivery is what came
// of them. One that still runs stays, because nobody promises that it is not a second message with the
// same content, which needs a confirm of its own.
func (e *entry) renew(fresh lease) {
	now := time.Now()
	e.leases = slices.DeleteFunc(e.leases, func(l lease) bool {
		return !now.Before(l.deadline) || l.handle == fresh.handle
	})
	if len(e.leases) == maxLeases {
		e.leases = slices.Delete(e.leases, 0, 1)
	}
	e.leases = append(e.leases, fresh)
}

// settle marks the event settled and returns its leases, now the confirmer's.
func (h *hand) settle(e *entry) []lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.settled = true
	e.waiting += len(e.leases)
	leases := e.leases
	e.leases = nil
	return leases
}

// resolve records what became of a lease at the confirmer. last reports that it was the event's last one: the
// event is out of hand then, and remembered unless all its leases were confirmed. It may come again when the one
// that ends last has ended.
func (h *hand) resolve(l lease, ok bool) (until time.Time, last, confirmed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := l.entry
	e.failed = e.failed || !ok
	e.waiting--
	if e.waiting > 0 {
		return e.until, false, false
	}
	delete(h.entries, e.ID)
	if e.failed {
		now := time.Now()
		h.settled.Add(e.ID, now)
		if h.marks != nil {
			h.marks.remember(settledKey{h.subAppID, e.ID}, now)
		}
	} else {
		h.settled.Remove(e.ID)
		if h.early != nil && len(h.early) <= rememberMost {
			h.early[e.ID] = struct{}{}
		}
	}
	return e.until, true, !e.failed
}

// drop takes an unsettled event out of hand and returns when its last lease ends.
func (h *hand) drop(e *entry) (until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.entries, e.ID)
	return e.until
}
