package relay

import (
	"fmt"
	"sync"
	"time"
)

// Observer is told what happens, for metrics. Its methods are called from many goroutines on the way of
// every event, so they must be quick. Times are durations, never points in time.
type Observer interface {
	// PullWaited and ConfirmWaited tell how long a request waited for the rate limiter.
	PullWaited(d time.Duration)
	ConfirmWaited(d time.Duration)
	// PullDone tells the end of a poll. One that a stop cancelled is not told.
	PullDone(d time.Duration, events int, err error)
	// Received tells one delivery.
	Received(eventType string)
	// Handled tells the end of a call of the Handler, or that there was no time left for one.
	Handled(d time.Duration, settled bool)
	// Confirmed tells the end of a call of Source.Confirm. leaseLeft is what was left then of the lease
	// that ends first; it can be negative.
	Confirmed(d time.Duration, handles int, leaseLeft time.Duration, err error)
}

// Observe has o told of everything from now on. It comes before Run or Drain.
func (r *Relay) Observe(o Observer) { r.observer = o }

// unobserved is the Observer of a relay that has none.
type unobserved struct{}

func (unobserved) PullWaited(time.Duration)                           {}
func (unobserved) ConfirmWaited(time.Duration)                        {}
func (unobserved) PullDone(time.Duration, int, error)                 {}
func (unobserved) Received(string)                                    {}
func (unobserved) Handled(time.Duration, bool)                        {}
func (unobserved) Confirmed(time.Duration, int, time.Duration, error) {}

// stallTime is how long a step of a loop may take. Each has time limits of its own that are far shorter, so
// a step that takes longer will never end.
const stallTime = 3 * time.Minute

// steps are what the loops are doing that has to end soon: a poll, a confirm, a look into the store. Waits
// for a place, for the rate limiter or for events are none.
type steps struct {
	mu    sync.Mutex
	last  uint64
	begun map[uint64]step
}

type step struct {
	name string
	at   time.Time
}

// begin notes a step until the function that it returns is called.
func (s *steps) begin(name string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun == nil {
		s.begun = make(map[uint64]step)
	}
	s.last++
	id := s.last
	s.begun[id] = step{name, time.Now()}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.begun, id)
	}
}

// stalled is an error when a step does not end.
func (s *steps) stalled() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.begun {
		if time.Since(b.at) > stallTime {
			return fmt.Errorf("%s has not ended within %s: a loop has stopped moving", b.name, stallTime)
		}
	}
	return nil
}

// Alive returns an error when a loop has stopped moving, which only a restart can cure. Neither a queue nor
// a target that is down is a reason.
func (r *Relay) Alive() error { return r.steps.stalled() }
