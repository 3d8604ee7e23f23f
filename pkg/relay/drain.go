package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// drainPolls is how many polls in a row must bring nothing before a queue counts as empty. One is not
	// enough: a queue spread over several servers may answer for one of them.
	drainPolls = 2
	// drainTries is how often a drain works on an event that does not settle, or does not let itself be
	// confirmed, before it leaves it in the queue.
	drainTries = 2
	// drainMostLeft bounds the events left: with more, something is broken that no drain will cure.
	drainMostLeft = 10_000
	// drainPatience is how long a drain goes on while every pull fails, or the store, or waits for the store to
	// be opened.
	drainPatience = 2 * time.Minute
	// countTime bounds the count of what is left in the store, countLeast the same after a stop.
	countTime  = 10 * time.Second
	countLeast = time.Second
)

// ErrTooManyLeft ends a drain in which more than 10,000 events could not be settled or confirmed.
var ErrTooManyLeft = errors.New("too many events cannot be settled or confirmed: see the errors above, mend their cause, and drain again")

// Summary is the result of a drain.
type Summary struct {
	Stats
	// Left counts the events that the drain leaves in the queue: those that could not be settled or
	// confirmed in two deliveries, and those that were unfinished when it was stopped.
	Left int
	// Empty reports that every queue was drained, apart from the events Left.
	Empty bool
	// Waiting and Dead count the parcels in the store at the end: those that will be tried again by
	// themselves, and those that wait for a person. They are 0 without Counts.
	Waiting, Dead int64
	// Elapsed is the time from the start to the last confirm; without any, to the end.
	Elapsed time.Duration
}

// Drain relays until the queues are empty, or ctx is done, which is a stop as in Run. A queue is empty
// after two polls in a row without anything new while nothing is in hand. An event that was not confirmed
// is waited for until its lease is over and tried a second time; if that fails too it is left. With a
// scheduler, every parcel that is due is then tried once; those of a sink that is down are left, after a
// probe. The error is that of Run, or tells that the drain cannot get on.
func (r *Relay) Drain(ctx context.Context) (Summary, error) {
	if begin, err := r.drainable(ctx); !begin {
		return Summary{Stats: r.Stats()}, err
	}
	started := time.Now()
	drains := make([]*drain, len(r.queues))
	for i, q := range r.queues {
		drains[i] = &drain{left: make(map[string]*straggler), lastPull: started, overflow: func() { q.fail(&fatalError{ErrTooManyLeft}) }}
	}
	err := r.run(ctx, drains)
	sum := Summary{Stats: r.Stats(), Empty: err == nil, Elapsed: time.Since(started)}
	if last := r.stats.lastConfirm.Load(); last != 0 {
		sum.Elapsed = time.Unix(0, last).Sub(started)
	}
	for _, d := range drains {
		sum.Left += len(d.left)
		sum.Empty = sum.Empty && d.over
	}
	if r.counts == nil {
		return sum, err
	}
	limit := countTime
	if ctx.Err() != nil {
		limit = countLeast
	}
	counting, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var failed error
	if sum.Waiting, sum.Dead, failed = r.counts.Counts(counting); failed != nil {
		err = errors.Join(err, fmt.Errorf("count what is left in the store: %w", failed))
	}
	return sum, err
}

// drain decides when one queue is drained.
type drain struct {
	finish   context.CancelFunc // ends the queue's pollers
	overflow func()

	mu       sync.Mutex
	open     int                   // events in hand
	left     map[string]*straggler // by event ID
	idle     []time.Time           // starts of the latest polls in a row that brought nothing new
	lastPull time.Time             // the last one that worked
	over     bool
}

// straggler is an event that was pulled and not confirmed.
type straggler struct {
	tries int
	due   time.Time // when its lease ends and it can come again
}

// exhausted reports an event that has had its tries and is left alone.
func (d *drain) exhausted(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.left[id]
	return s != nil && s.tries >= drainTries
}

func (d *drain) opened() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
}

func (d *drain) closed(id string, until time.Time, confirmed bool) {
	d.mu.Lock()
	d.open--
	if confirmed {
		delete(d.left, id)
	} else {
		s := d.left[id]
		if s == nil {
			s = &straggler{}
			d.left[id] = s
		}
		s.tries++
		s.due = until
	}
	full := len(d.left) > drainMostLeft
	d.mu.Unlock()
	if full {
		d.overflow()
	}
}

// polled records a successful poll and ends the drain when the queue is empty.
func (d *drain) polled(started time.Time, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastPull = time.Now()
	if fresh || d.open > 0 {
		d.idle = d.idle[:0]
		return
	}
	d.idle = append(d.idle, started)
	if len(d.idle) > drainPolls {
		d.idle = d.idle[1:]
	}
	if len(d.idle) == drainPolls && !d.awaits(d.idle[0]) {
		// What is not back by now is not in the queue: its confirm arrived although the reply did not, or
		// another consumer has it.
		for id, s := range d.left {
			if s.tries < drainTries {
				delete(d.left, id)
			}
		}
		d.over = true
		d.finish()
	}
}

// awaits reports an event that may not have been back in the queue yet at that time.
func (d *drain) awaits(at time.Time) bool {
	for _, s := range d.left {
		if s.tries < drainTries && !at.After(s.due.Add(time.Second)) { // a second for the clocks to differ
			return true
		}
	}
	return false
}

// pullFailing reports that pulls have failed for longer than a drain waits.
func (d *drain) pullFailing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.lastPull) > drainPatience
}
