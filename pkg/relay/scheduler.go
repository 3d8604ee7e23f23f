package relay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Parcels is the store that a Scheduler works off. It may be shared with the schedulers of other
// processes. Errors are taken as passing, whatever their class.
type Parcels interface {
	// Claim takes up to limit waiting parcels of the sink that are due, in the order of their Next, so
	// that nobody else gets them until hold has passed. Of very large ones it may take fewer than there are.
	Claim(ctx context.Context, sink string, limit int, hold time.Duration) ([]event.Parcel, error)
	// Extend makes claims last for hold from now. What was claimed by others meanwhile is left alone.
	Extend(ctx context.Context, hold time.Duration, keys ...event.ParcelKey) error
	// Unclaim gives claims back as if they had not been made.
	Unclaim(ctx context.Context, keys ...event.ParcelKey) error
	// Complete removes parcels that their sink has accepted.
	Complete(ctx context.Context, keys ...event.ParcelKey) error
	// Fail counts a failed attempt on each, and ends its claim.
	Fail(ctx context.Context, outcomes ...event.ParcelOutcome) error
	// NextDue is when Claim next finds a parcel of the sink; false if none is waiting. One that is claimed
	// counts with the end of its claim.
	NextDue(ctx context.Context, sink string) (time.Time, bool, error)
	// ReleaseSink makes the sink's waiting parcels due, also those that failed, with the oldest first. It
	// returns how many were not due before.
	ReleaseSink(ctx context.Context, sink string) (int64, error)
}

// Deliver makes one attempt to send a parcel's event. An error that wraps retry.ErrNotTried says that none
// was made: the target is down until the error's retry.Delay has passed, or, if there is no delay, merely
// busy. A Permanent error makes a dead letter.
type Deliver func(ctx context.Context, sink string, e event.Event) error

// Lane is how the parcels of one sink are worked off.
type Lane struct {
	Sink        string
	Concurrency int           // most at a time; at least 1 is taken
	Timeout     time.Duration // longest time of one attempt; 0: an hour
	Policy      retry.Schedule
}

const (
	// placeTime and twice a lane's timeout is what a parcel has from its claim: time for all new events that
	// wait before it to be sent or to reach the end of their lease, for a send that is under way to end, and
	// for its own. With less, a busy sink would never get to its parcels.
	placeTime = event.LeaseTime + 15*time.Second
	// claimTime is how long a claim lasts, and so how long the parcels of a process that died rest until
	// another one takes them over; a claim that is older than claimAge is extended while its send goes on.
	claimTime = time.Minute
	claimAge  = 20 * time.Second
	// laneBytes is how much the events in flight of a lane have together when it claims no more.
	laneBytes = 8 << 20
	// laneIdle is how often a lane without work looks for what nobody announced: the parcels of another
	// process, and the claims of one that ended.
	laneIdle = 30 * time.Second
	// laneBusy is the shortest pause after a look that brought nothing.
	laneBusy = 50 * time.Millisecond
	// writeTime bounds the last records of a stop.
	writeTime = 1500 * time.Millisecond
)

var storeRetry = retry.Policy{Initial: 200 * time.Millisecond, Max: 15 * time.Second}

// Scheduler sends the parcels of a store when they are due. Each sink has its own lane, so that one that
// is down or slow holds up no other.
type Scheduler struct {
	log     *zap.Logger
	store   Parcels
	deliver Deliver
	running atomic.Bool
	drained chan struct{} // closed by finish
	steps   *steps        // the relay's
	onDead  func(sink string, e event.Event, err error)

	mu     sync.Mutex
	lanes  []*lane
	start  func(*lane) // nil: not running
	active sync.WaitGroup

	streak retry.Streak // of the store's errors

	delivered, failed, dead, notTried, storeErrors atomic.Int64
}

// SchedulerStats counts what a scheduler has done since it was made.
type SchedulerStats struct {
	Delivered   int64 // parcels that their sink accepted
	Failed      int64 // attempts that failed, those of Dead among them
	Dead        int64 // parcels that became dead letters
	NotTried    int64 // claims given back because the target is down or no place was free
	StoreErrors int64 // calls of the store that failed
}

// NewScheduler makes a scheduler with a lane for each sink. log may be nil. Parcels of a sink without a
// lane stay where they are.
func NewScheduler(log *zap.Logger, store Parcels, deliver Deliver, lanes []Lane) *Scheduler {
	if log == nil {
		log = zap.NewNop()
	}
	s := &Scheduler{
		log: log, store: store, deliver: deliver, drained: make(chan struct{}), steps: &steps{},
		onDead: func(string, event.Event, error) {},
	}
	s.UseLanes(lanes)
	return s
}

// OnDead has f called with every event that becomes a dead letter, because its sink refused it or because it was
// given up. f must return at once. It comes before Run.
func (s *Scheduler) OnDead(f func(sink string, e event.Event, err error)) { s.onDead = f }

// Run works parcels off until ctx is done. Sends in flight then have MaxStopGrace to end; those that do not,
// and claims whose send was not begun, are given back. It returns when every goroutine that it started has
// ended, nil. A scheduler runs once, here or in the Relay that uses it.
func (s *Scheduler) Run(ctx context.Context) error {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(MaxStopGrace, cancel) })
	defer stop()
	return s.run(ctx, working)
}

// run claims until ctx is done, or the drain has been finished; sends go on until working is done.
func (s *Scheduler) run(ctx, working context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("a scheduler runs only once")
	}
	s.mu.Lock()
	s.start = func(l *lane) {
		own, cancel := context.WithCancel(ctx)
		l.stop = cancel
		s.active.Go(func() {
			defer close(l.done)
			defer cancel()
			if l.before != nil {
				<-l.before.done
				l.before = nil
			}
			l.run(own, working)
		})
	}
	for _, l := range s.lanes {
		s.start(l)
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-s.drained:
	}
	s.mu.Lock()
	s.start = func(*lane) {} // it is too late for further ones
	s.mu.Unlock()
	s.active.Wait()
	return nil
}

// UseLanes replaces the lanes. Those that are equal to one there is go on; the others end when their sends
// have, and a new lane for the same sink begins then.
func (s *Scheduler) UseLanes(lanes []Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := make(map[string]*lane, len(s.lanes))
	for _, l := range s.lanes {
		before[l.Sink] = l
	}
	s.lanes = nil
	for _, wanted := range lanes {
		l, old := newLane(s, wanted), before[wanted.Sink]
		if old != nil && old.Lane == l.Lane {
			s.lanes = append(s.lanes, old)
			delete(before, wanted.Sink)
			continue
		}
		s.lanes = append(s.lanes, l)
		if s.start != nil {
			l.before = old
			s.start(l)
		}
	}
	for _, old := range before {
		if old.stop != nil {
			old.stop()
		}
	}
}

// finish ends run as soon as every parcel that is due was tried once.
func (s *Scheduler) finish() { close(s.drained) }

// Wake tells that a parcel of the sink was stored. It returns at once.
func (s *Scheduler) Wake(sink string) {
	if l := s.lane(sink); l != nil {
		nudge(l.woken)
	}
}

// WakeAll tells that parcels of any sinks may have become due. It returns at once.
func (s *Scheduler) WakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		nudge(l.woken)
	}
}

// Recovered tells that the sink accepts events again: whatever waits for it is due now. It returns at once.
func (s *Scheduler) Recovered(sink string) {
	if l := s.lane(sink); l != nil {
		nudge(l.recovered)
	}
}

func (s *Scheduler) lane(sink string) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if l.Sink == sink {
			return l
		}
	}
	return nil
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is on its way
	}
}

// Stats reads the counters.
func (s *Scheduler) Stats() SchedulerStats {
	return SchedulerStats{
		Delivered:   s.delivered.Load(),
		Failed:      s.failed.Load(),
		Dead:        s.dead.Load(),
		NotTried:    s.notTried.Load(),
		StoreErrors: s.storeErrors.Load(),
	}
}

// storeFailed counts and tells an error of the store.
func (s *Scheduler) storeFailed(err error) {
	s.storeErrors.Add(1)
	if s.streak.Fail(err) {
		s.log.Error("the store fails; trying again, parcels wait", errorFields(err)...)
	}
}

// storeWorked ends a streak. Only what was written counts: a disk that is full can still be read.
func (s *Scheduler) storeWorked() {
	s.streak.End().Report(s.log, "the store works again")
}
