package relay

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Memory keeps over restarts which events were settled and could not be confirmed, so that their next
// delivery is confirmed without being worked on twice. It is not touched while confirms succeed. What it
// loses costs a duplicate, no more.
type Memory interface {
	RememberSettled(ctx context.Context, subAppID uint64, id string, at time.Time) error
	ForgetSettled(ctx context.Context, subAppID uint64, id string) error
	// Settled is what is remembered of an application, in any order.
	Settled(ctx context.Context, subAppID uint64) ([]event.SettledMark, error)
}

const (
	// marksMost bounds what waits to be written.
	marksMost = 2 * rememberMost
	// markTime bounds the last writes of a stop, and markLoad the reading at a start.
	markTime = 500 * time.Millisecond
	markLoad = 10 * time.Second
	// markSweep is how often marks are looked for whose time is over.
	markSweep = time.Minute
)

type settledKey struct {
	subAppID uint64
	id       string
}

// marks writes through to a Memory, behind the back of whoever settles and confirms.
type marks struct {
	log    *zap.Logger
	memory Memory
	kick   chan struct{}
	streak retry.Streak

	mu      sync.Mutex
	pending map[settledKey]mark // only the latest wish for each event
}

// mark is what the memory is to do about an event.
type mark struct {
	forget bool
	at     time.Time
}

func newMarks(log *zap.Logger, memory Memory) *marks {
	return &marks{log: log, memory: memory, kick: make(chan struct{}, 1), pending: make(map[settledKey]mark)}
}

func (m *marks) remember(key settledKey, at time.Time) { m.put(key, mark{at: at}) }
func (m *marks) forget(key settledKey)                 { m.put(key, mark{forget: true}) }

func (m *marks) put(key settledKey, wish mark) {
	m.mu.Lock()
	if _, known := m.pending[key]; known || len(m.pending) < marksMost {
		m.pending[key] = wish
	}
	m.mu.Unlock()
	nudge(m.kick)
}

// load reads the marks that earlier runs left of an application, the oldest first. Those of events that the
// queue cannot deliver any more are forgotten.
func (m *marks) load(ctx context.Context, subAppID uint64) []event.SettledMark {
	ctx, cancel := context.WithTimeout(ctx, markLoad)
	defer cancel()
	all, err := m.memory.Settled(ctx, subAppID)
	if err != nil {
		m.log.Warn("cannot read which events were settled before: some may be worked on twice", errorFields(err)...)
		return nil
	}
	all = slices.DeleteFunc(all, func(s event.SettledMark) bool {
		old := time.Since(s.At) > event.RetentionTime
		if old {
			m.forget(settledKey{subAppID, s.EventID})
		}
		return old
	})
	slices.SortFunc(all, func(a, b event.SettledMark) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	return all
}

// run writes until ctx is done, and then what is left. sweep is called now and then.
func (m *marks) run(ctx context.Context, sweep func()) {
	ticker := time.NewTicker(markSweep)
	defer ticker.Stop()
	pause := storeRetry.Backoff()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			sweep()
		case <-m.kick:
			if m.write(ctx) {
				pause.Reset()
				continue
			}
			_ = retry.Sleep(ctx, pause.Next()) // the loop looks at ctx
			nudge(m.kick)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTime)
	defer cancel()
	m.write(last)
}

// write writes all that is pending, and reports false if something could not be.
func (m *marks) write(ctx context.Context) bool {
	m.mu.Lock()
	wishes := m.pending
	m.pending = make(map[settledKey]mark)
	m.mu.Unlock()
	for key, wish := range wishes {
		var err error
		if wish.forget {
			err = m.memory.ForgetSettled(ctx, key.subAppID, key.id)
		} else {
			err = m.memory.RememberSettled(ctx, key.subAppID, key.id, wish.at)
		}
		if err != nil {
			m.failed(ctx, err, wishes)
			return false
		}
		delete(wishes, key)
	}
	m.streak.End().Report(m.log, "storing again which events were settled")
	return true
}

// failed puts back what was not written, unless there is a newer wish.
func (m *marks) failed(ctx context.Context, err error, wishes map[settledKey]mark) {
	if ctx.Err() == nil && m.streak.Fail(err) {
		m.log.Warn("cannot store which events were settled; trying again, a restart would work on some twice", errorFields(err)...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, wish := range wishes {
		if _, newer := m.pending[key]; !newer && len(m.pending) < marksMost {
			m.pending[key] = wish
		}
	}
}

// keepMarks starts the memory of settled events; the function that it returns ends it.
func (r *Relay) keepMarks(ctx context.Context) (end func()) {
	if r.marks == nil {
		return func() {}
	}
	restore := func(ctx context.Context) {
		for _, q := range r.queues {
			q.hand.restore(r.marks.load(ctx, q.subAppID))
		}
	}
	open := r.isOpen()
	for _, q := range r.queues {
		q.hand.marks = r.marks
		if !open {
			q.hand.early = make(map[string]struct{})
		}
	}
	if open {
		restore(ctx) // before the first pull
	}
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var writer sync.WaitGroup
	writer.Go(func() {
		if !open {
			if !r.storeOpened(writing) {
				return
			}
			restore(writing)
		}
		r.marks.run(writing, func() {
			for _, q := range r.queues {
				q.hand.expire()
			}
		})
	})
	return func() { cancel(); writer.Wait() }
}
