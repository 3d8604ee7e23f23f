package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// maxIdleWorkers is how many goroutines are kept for further tasks.
const maxIdleWorkers = 256

// workers runs tasks at once, each on a goroutine of its own, which then takes another one: growing the
// stack of a new goroutine for each event took a seventh of the CPU time.
type workers struct {
	tasks   chan func() // unbuffered: whoever receives is idle
	idle    atomic.Int64
	ending  chan struct{}
	running sync.WaitGroup
}

func newWorkers() *workers {
	return &workers{tasks: make(chan func()), ending: make(chan struct{})}
}

// run starts task and returns at once.
func (w *workers) run(task func()) {
	select {
	case w.tasks <- task:
	default:
		w.running.Go(func() { w.work(task) })
	}
}

func (w *workers) work(task func()) {
	for {
		task()
		if w.idle.Add(1) > maxIdleWorkers {
			w.idle.Add(-1)
			return
		}
		select {
		case task = <-w.tasks:
			w.idle.Add(-1)
		case <-w.ending:
			return
		}
	}
}

// end waits for all tasks, and for every goroutine. It comes once, and no run may follow.
func (w *workers) end() {
	close(w.ending)
	w.running.Wait()
}

// prepareFunc is a Preparer's Prepare.
type prepareFunc func(ctx context.Context) (prepared context.Context, end context.CancelFunc)

// shared is the context of the events of one reply, whose leases end together. One for each event was 7 % of
// what an event cost.
type shared struct {
	context.Context //nolint:containedctx // it is one
	until           time.Time
	end, cancel     context.CancelFunc
	users           atomic.Int64 // events, and whoever hands them out
}

// join is s, or a new one in its place if it does not end then, with one more user. s may be nil.
func (s *shared) join(ctx context.Context, until time.Time, prepare prepareFunc) *shared {
	if s == nil || !s.until.Equal(until) {
		s.done()
		s = &shared{until: until}
		limited, cancel := context.WithDeadline(ctx, until)
		s.cancel = cancel
		s.Context, s.end = prepare(limited)
		s.users.Add(1)
	}
	s.users.Add(1)
	return s
}

// done takes a user away. The last one ends the context.
func (s *shared) done() {
	if s != nil && s.users.Add(-1) == 0 {
		s.end()
		s.cancel()
	}
}
