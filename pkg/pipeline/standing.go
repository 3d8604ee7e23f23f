package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// State says how a sink takes what is sent to it.
type State string

const (
	// StateUnknown is that of a sink that has neither accepted nor failed anything since the start: whether it is up,
	// nobody knows.
	StateUnknown State = "unknown"
	// StateUp is that of a sink that accepted what it was sent last.
	StateUp State = "up"
	// StateFailing is that of a sink that failed since it accepted an event last, and does not count as down yet.
	StateFailing State = "failing"
	// StateRefusing is that of a sink that answers and refused what it was sent last: it blamed the event.
	StateRefusing State = "refusing"
	// StateDown is that of a sink whose breaker is not closed: it gets one event at a time.
	StateDown State = "down"
)

// Failing is how a sink fails. An accepted event ends it.
type Failing struct {
	// InARow counts the failed deliveries since an event was accepted last: those that were refused, and those that
	// were not tried since the sink is down, among them.
	InARow int
	// Since is when the first attempt since then failed or was refused; zero if none did.
	Since time.Time
	// Last is when an attempt failed last otherwise than by a refusal, Error why, in at most event.MaxParcelError
	// bytes, and Hint what a person can do about it; they stay.
	Last  time.Time
	Error string
	Hint  string
}

// Refusals are the deliveries that a sink refused: it blamed the event. They do not make it count as down.
type Refusals struct {
	Total uint64 // since the route was made
	// InARow counts those since an event was accepted last; with Since, when the first of them was. Both are
	// zero if the sink refused none since then.
	InARow int
	Since  time.Time
	// Last is when it refused an event last, Error why, in at most event.MaxParcelError bytes, and Hint what a person
	// can do about it; they stay.
	Last  time.Time
	Error string
	Hint  string
}

// standing is what is known of how a target takes what it is sent.
type standing struct {
	good atomic.Bool // it accepted something, and nothing failed since

	mu       sync.Mutex
	failing  Failing
	refusals Refusals
}

// failed records an attempt that failed, and that the event is not to blame for.
func (s *standing) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.begin(now)
	s.failing.Last, s.failing.Error, s.failing.Hint = now, event.ParcelError(err), retry.Hint(err)
}

// missed records a delivery that failed. err is that of its last attempt, or why there was none.
func (s *standing) missed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing.InARow++
	s.good.Store(false)
	if !retry.IsPermanent(err) {
		return
	}
	now := time.Now()
	s.begin(now)
	r := &s.refusals
	if r.InARow == 0 {
		r.Since = now
	}
	r.Total++
	r.InARow++
	r.Last, r.Error, r.Hint = now, event.ParcelError(err), retry.Hint(err)
}

func (s *standing) begin(now time.Time) {
	s.good.Store(false)
	if s.failing.Since.IsZero() {
		s.failing.Since = now
	}
}

// accepted records an event that was accepted.
func (s *standing) accepted() {
	if s.good.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing.InARow, s.failing.Since = 0, time.Time{}
	s.refusals.InARow, s.refusals.Since = 0, time.Time{}
	s.good.Store(true)
}

// read returns all of it; state is what it says of a sink that is not down.
func (s *standing) read() (state State, f Failing, r Refusals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, r = s.failing, s.refusals
	switch {
	case s.good.Load():
		state = StateUp
	case r.InARow > 0 && !f.Last.After(r.Last):
		state = StateRefusing
	case f.InARow > 0 || !f.Since.IsZero():
		state = StateFailing
	default:
		state = StateUnknown
	}
	return state, f, r
}
