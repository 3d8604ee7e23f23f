// Package relay is the engine: it reserves room, pulls events, has them handled, and confirms what was
// settled, within each event's lease. It owns every goroutine of that path and knows nothing of the cloud
// behind a Source or the targets behind a Handler.
package relay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Source is one queue of events. One whose events belong to an application has a method SubAppID() uint64,
// too, which says to which; without it that is 0. One whose credential may be replaced has a method
// CredentialChanged() <-chan struct{}, whose channel is closed when another one is in use: what failed is tried
// again at once then. nil says that it is not replaced.
type Source interface {
	// Pull waits for events and returns those it got, at most event.MaxBatch; none and nil is an empty
	// poll. It may return deliveries although ctx is done: they are leased to us and will be handled.
	// An error is marked with retry.Permanent when the configuration is at fault, with retry.After when a
	// time to wait is known, and with retry.NoEffect when it is certain that no event was leased to us.
	Pull(ctx context.Context) ([]event.Delivery, error)
	// Confirm deletes the events behind at most event.MaxBatch handles from the queue. An error that
	// wraps event.ErrStaleHandle blames the handles; otherwise the classes are those of Pull, and
	// retry.NoEffect says that certainly nothing was deleted.
	Confirm(ctx context.Context, handles []string) error
}

// Handler works on events. Handle returns nil when the event is settled, that is, safe elsewhere: it is
// then confirmed and gone from the queue. After an error the queue delivers the event again. ctx ends
// before the lease does. Handle is called from many goroutines at once.
type Handler interface {
	Handle(ctx context.Context, d event.Delivery) error
}

// Preparer is a Handler that makes some things once for all the events of one reply, whose leases end
// together.
type Preparer interface {
	// Prepare derives the context of their Handles from ctx, which ends in time to confirm them. end is called
	// when the last Handle has returned.
	Prepare(ctx context.Context) (prepared context.Context, end context.CancelFunc)
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(ctx context.Context, d event.Delivery) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, d event.Delivery) error { return f(ctx, d) }

// The limits of a stop. They add up to StopLimit.
const (
	// StopLimit is how long a stop takes at most, so that it fits into the 30 s that Kubernetes gives a
	// container by default.
	StopLimit = 25 * time.Second
	// MaxStopGrace is the longest Config.StopGrace.
	MaxStopGrace = 17 * time.Second
	// CloseTime is what is left of a stop when the relay has ended: for whoever closes what it used.
	CloseTime = StopLimit - MaxStopGrace - flushTime - markTime

	// flushTime bounds the last confirms. It counts from the end of the grace, when handlers may need some
	// more time to store what they could not finish, but is never less than flushLeast.
	flushTime  = 2500 * time.Millisecond
	flushLeast = time.Second
	// youngPoll is how long a poll is left alone by a stop, since its reply may be on the way with events
	// that would otherwise be hidden for a lease. An older one is being held by an empty queue.
	youngPoll = time.Second
)

// confirmMargin is kept free at the end of each lease for the confirm itself and a retry of it.
const confirmMargin = 4 * time.Second

// Relay moves events from sources to a handler.
type Relay struct {
	cfg     atomic.Pointer[Config]
	log     *zap.Logger
	handler Handler
	prepare prepareFunc

	// One place for each event in hand, event.MaxBatch for each poll, and what maxInHandLimit has more than
	// Config.MaxInHand for the resizer.
	places       *semaphore.Weighted
	placed       int // Config.MaxInHand as the places have it; the resizer's
	bytes        room
	resized      chan struct{}
	pullLimit    *rate.Limiter
	confirmLimit *rate.Limiter
	queues       []*queue
	workers      *workers
	stats        counters
	running      atomic.Bool
	observer     Observer
	steps        steps

	scheduler *Scheduler // nil: none
	counts    Counts
	marks     *marks  // nil: none
	opening   Opening // nil: what is used is open
	held      bool    // pulls wait for opening
}

// New makes a relay that hands the events of all sources to handler. Without sources it runs its scheduler
// alone. log may be nil.
func New(cfg Config, log *zap.Logger, handler Handler, sources ...Source) (*Relay, error) {
	if err := cfg.ValidateFor(len(sources)); err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	r := &Relay{
		log:          log,
		handler:      handler,
		places:       semaphore.NewWeighted(maxInHandLimit),
		placed:       cfg.MaxInHand,
		resized:      make(chan struct{}, 1),
		pullLimit:    rate.NewLimiter(cfg.limit(), 1),
		confirmLimit: rate.NewLimiter(cfg.limit(), 1),
		observer:     unobserved{},
		workers:      newWorkers(),
		prepare:      func(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} },
	}
	if p, ok := handler.(Preparer); ok {
		r.prepare = p.Prepare
	}
	r.cfg.Store(&cfg)
	r.places.TryAcquire(maxInHandLimit - int64(cfg.MaxInHand)) // all are free
	r.bytes.resize(cfg.MaxBytesInHand)
	for _, source := range sources {
		r.queues = append(r.queues, newQueue(r, source))
	}
	return r, nil
}

// Reconfigure changes the limits, also while the relay runs. Fewer places come about as events leave them.
// The error is that of New; nothing has changed then.
func (r *Relay) Reconfigure(cfg Config) error {
	if err := cfg.ValidateFor(len(r.queues)); err != nil {
		return err
	}
	r.cfg.Store(&cfg)
	r.bytes.resize(cfg.MaxBytesInHand)
	r.pullLimit.SetLimit(cfg.limit())
	r.confirmLimit.SetLimit(cfg.limit())
	nudge(r.resized)
	return nil
}

// resize keeps the places to Config.MaxInHand until ctx is done.
func (r *Relay) resize(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.resized:
		}
		wanted := r.cfg.Load().MaxInHand
		if wanted > r.placed {
			r.places.Release(int64(wanted - r.placed))
		} else if r.places.Acquire(ctx, int64(r.placed-wanted)) != nil {
			return
		}
		r.placed = wanted
	}
}

// Counts tells how many parcels a store holds.
type Counts interface {
	Counts(ctx context.Context) (waiting, dead int64, err error)
}

// UseScheduler has s run with the relay and stop with it: its sends have the grace of a stop, too. A Drain
// ends when it has tried every parcel that is due once, and reads counts, which may be nil, for its
// Summary. It comes before Run or Drain.
func (r *Relay) UseScheduler(s *Scheduler, counts Counts) {
	r.scheduler, r.counts = s, counts
	s.steps = &r.steps
}

// UseMemory has the relay remember over restarts what was settled and not confirmed. It comes before Run
// or Drain.
func (r *Relay) UseMemory(m Memory) { r.marks = newMarks(r.log, m) }

// Run relays until ctx is done, then stops in order: no more pulls; what is in hand is worked on for at
// most StopGrace; what was settled is confirmed. It returns when every goroutine that it started has
// ended: nil after a stop, or the error that makes going on pointless, which can only be a Permanent error
// of a source that never succeeded. A relay runs once.
func (r *Relay) Run(ctx context.Context) error { return r.run(ctx, nil) }

func (r *Relay) run(ctx context.Context, drains []*drain) error {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("a relay runs only once")
	}
	pulling, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Work and confirms are not children of pulling: a stop ends them later, in this order.
	working, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	confirming, endConfirms := context.WithCancel(context.WithoutCancel(ctx))
	defer endConfirms()

	endMarks := r.keepMarks(ctx)
	var pollers, confirmers, scheduler sync.WaitGroup
	for i, q := range r.queues {
		if drains != nil {
			q.drain = drains[i]
		}
		q.fail = stop
		confirmers.Go(func() { q.confirms.run(confirming) })
		pollers.Go(func() {
			if !r.held || r.storeOpened(pulling) {
				q.run(pulling, working)
			}
		})
	}

	resizing, endResizing := context.WithCancel(pulling)
	defer endResizing()
	var resizer sync.WaitGroup
	resizer.Go(func() { r.resize(resizing) })
	if r.scheduler != nil {
		scheduler.Go(func() {
			if !r.storeOpened(pulling) {
				return
			}
			if err := r.scheduler.run(pulling, working); err != nil {
				stop(&fatalError{err})
			}
		})
	}

	settled := make(chan struct{}) // closed when nothing is being pulled or worked on any more
	var cut time.Time              // when the grace of a stop was over
	var stopping sync.WaitGroup
	stopping.Go(func() {
		select {
		case <-settled:
		case <-pulling.Done():
			if r.graceful(settled) {
				cut = time.Now()
				endWork()
			}
		}
	})
	if len(r.queues) == 0 && drains == nil {
		<-pulling.Done()
	}
	pollers.Wait()
	endResizing()
	resizer.Wait()
	r.workers.end()
	if r.scheduler != nil && drains != nil {
		r.scheduler.finish()
	}
	scheduler.Wait()
	close(settled)
	stopping.Wait()

	left := flushTime
	if !cut.IsZero() {
		left = max(left-time.Since(cut), flushLeast)
	}
	flush := time.AfterFunc(left, endConfirms)
	for _, q := range r.queues {
		q.confirms.close()
	}
	confirmers.Wait()
	flush.Stop()
	endMarks()
	stats := r.Stats()
	r.log.Info("stopped", zap.Int64("received", stats.Received), zap.Int64("confirmed", stats.Confirmed), zap.Int64("unsettled", stats.Unsettled))

	var fatal *fatalError
	if errors.As(context.Cause(pulling), &fatal) {
		return fatal.err
	}
	return nil
}

// graceful gives the work in hand its time after a stop, and reports whether that was not enough.
func (r *Relay) graceful(settled <-chan struct{}) (over bool) {
	r.log.Info("stopping: no more pulls; finishing the events in hand",
		zap.Int64("in_hand", r.stats.inHand.Load()), zap.Duration("grace", r.cfg.Load().StopGrace))
	grace := time.NewTimer(r.cfg.Load().StopGrace)
	defer grace.Stop()
	select {
	case <-settled:
		return false
	case <-grace.C:
		r.log.Warn("the grace of the stop is over: the work in hand is cancelled; what is neither accepted nor stored comes back at the next start",
			zap.Int64("in_hand", r.stats.inHand.Load()))
		return true
	}
}

// fatalError is the cause of a stop that nobody asked for.
type fatalError struct{ err error }

func (f *fatalError) Error() string { return f.err.Error() }
