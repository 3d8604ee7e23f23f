package relay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// lane works off the parcels of one sink. Its fields belong to the goroutine that runs it.
type lane struct {
	Lane
	scheduler *Scheduler
	stop      func() // nil: it was never started
	done      chan struct{}
	before    *lane // of the same sink, which must end first; nil: none
	woken     chan struct{}
	recovered chan struct{}

	sends    sync.WaitGroup
	results  chan sent                     // has room for all that is in flight
	inFlight map[event.ParcelKey]time.Time // since when its claim lasts
	bytes    int                           // of the events in flight

	// What the store has still to learn. Nothing more is claimed before it has.
	completed []event.ParcelKey
	outcomes  []event.ParcelOutcome
	returned  []event.ParcelKey
	release   bool // the sink is back

	lookAt  time.Time // when to claim next
	looked  time.Time // when a claim last brought less than was asked for
	down    bool      // the sink is: parcels are probes, one at a time
	probeAt time.Time // the next one

	draining bool
	dueBy    time.Time // a drain's work: what was due then
	probes   int       // left for a drain
	over     bool      // the drain's
	broken   time.Time // since when the store fails, zero if it works
}

func newLane(s *Scheduler, l Lane) *lane {
	l.Concurrency = max(l.Concurrency, 1)
	if l.Timeout <= 0 {
		l.Timeout = time.Hour
	}
	if l.Policy == (retry.Schedule{}) {
		l.Policy = retry.DefaultSchedule()
	}
	return &lane{
		Lane: l, scheduler: s, probes: drainProbes, done: make(chan struct{}),
		woken: make(chan struct{}, 1), recovered: make(chan struct{}, 1),
		results: make(chan sent, l.Concurrency), inFlight: make(map[event.ParcelKey]time.Time, l.Concurrency),
	}
}

func (l *lane) run(ctx, working context.Context) {
	pause := storeRetry.Backoff()
	for ctx.Err() == nil && !l.ended() {
		if err := l.step(ctx, working); err != nil {
			if ctx.Err() == nil {
				l.storeFailed(err)
				_ = retry.Sleep(ctx, pause.Next()) // the loop looks at ctx
			}
			continue
		}
		l.broken = time.Time{}
		pause.Reset()
		if !l.ended() {
			l.wait(ctx, working)
		}
	}
	l.end(working)
}

func (l *lane) ended() bool { return l.over && len(l.inFlight) == 0 }

// step brings the store up to date and starts what may be started.
func (l *lane) step(ctx, working context.Context) error {
	defer l.scheduler.steps.begin("the work on the store")()
	if err := l.record(ctx); err != nil {
		return err
	}
	if err := l.extend(ctx); err != nil {
		return err
	}
	limit := l.free()
	if limit <= 0 || time.Now().Before(l.nextClaim()) {
		return nil
	}
	return l.claim(ctx, working, limit)
}

// free is how many parcels may be claimed.
func (l *lane) free() int {
	switch {
	case l.over, l.bytes >= laneBytes:
		return 0
	case l.down:
		return 1 - len(l.inFlight)
	}
	return l.Concurrency - len(l.inFlight)
}

// extend keeps the claims of sends that take long.
func (l *lane) extend(ctx context.Context) error {
	var old []event.ParcelKey
	for key, since := range l.inFlight {
		if time.Since(since) >= claimAge {
			old = append(old, key)
		}
	}
	if len(old) == 0 {
		return nil
	}
	now := time.Now()
	if err := l.scheduler.store.Extend(ctx, claimTime, old...); err != nil {
		return fmt.Errorf("extend claims: %w", err)
	}
	for _, key := range old {
		l.inFlight[key] = now
	}
	return nil
}

// claim starts up to limit parcels that are due, and finds out when to look again.
func (l *lane) claim(ctx, working context.Context, limit int) error {
	began := time.Now()
	parcels, err := l.scheduler.store.Claim(ctx, l.Sink, limit, claimTime)
	if err != nil {
		return fmt.Errorf("claim parcels: %w", err)
	}
	if len(parcels) > 0 {
		l.scheduler.storeWorked()
	}
	until := began.Add(placeTime + 2*l.Timeout)
	short := len(parcels) < limit
	for _, p := range parcels {
		switch {
		case ctx.Err() != nil:
			l.returned = append(l.returned, p.Key())
		case l.draining && p.Next.After(l.dueBy): // and so are all behind it
			l.returned = append(l.returned, p.Key())
			short = true
		default:
			l.start(working, p, began, until)
		}
	}
	if !short {
		l.lookAt = time.Now() // there are more
		return nil
	}
	if l.draining && len(l.inFlight) == 0 {
		l.over = true
	}
	l.looked = time.Now()
	due, waiting, err := l.scheduler.store.NextDue(ctx, l.Sink)
	if err != nil {
		return fmt.Errorf("look for the next parcel: %w", err)
	}
	l.lookAt = l.looked.Add(laneIdle)
	if waiting && due.Before(l.lookAt) {
		l.lookAt = later(due, l.looked.Add(laneBusy))
	}
	if l.draining {
		l.lookAt = l.looked.Add(busyTime) // what is in flight may come back
	}
	return nil
}

func (l *lane) start(working context.Context, p event.Parcel, claimed, until time.Time) {
	l.inFlight[p.Key()] = claimed
	l.bytes += len(p.Raw)
	l.sends.Go(func() {
		ctx, cancel := context.WithDeadline(working, until)
		defer cancel()
		started := time.Now()
		err := l.attempt(ctx, p)
		l.results <- sent{p, err, time.Since(started)}
	})
}

// attempt makes one send; a panic in it is an error of this one parcel.
func (l *lane) attempt(ctx context.Context, p event.Parcel) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.scheduler.log.Error("the delivery of a parcel panicked", zap.Any("panic", v), zap.Stack("stack"),
				zap.String("sink", p.Sink), zap.String("event_id", p.ID), zap.String("event_type", p.Type))
			err = fmt.Errorf("the delivery panicked: %v", v)
		}
	}()
	return l.scheduler.deliver(ctx, p.Sink, p.Event)
}

// nextClaim is when the lane may claim again, as far as time decides it.
func (l *lane) nextClaim() time.Time {
	if l.down {
		return later(l.lookAt, l.probeAt)
	}
	return l.lookAt
}

// nextExtend is how long no claim needs to be extended.
func (l *lane) nextExtend() time.Duration {
	next := claimAge
	for _, since := range l.inFlight {
		next = min(next, claimAge-time.Since(since))
	}
	return next
}

// wait lets time pass until there is something to do.
func (l *lane) wait(ctx, working context.Context) {
	var look <-chan time.Time
	if l.free() > 0 {
		ready, stop := after(time.Until(l.nextClaim()))
		defer stop()
		look = ready
	}
	var extend <-chan time.Time
	if len(l.inFlight) > 0 {
		ready, stop := after(l.nextExtend())
		defer stop()
		extend = ready
	}
	drained := l.scheduler.drained
	if l.draining {
		drained = nil
	}
	select {
	case <-ctx.Done():
	case r := <-l.results:
		l.gather(working, r)
	case <-look:
	case <-extend:
	case <-l.woken:
		if at := later(time.Now(), l.looked.Add(laneBusy)); at.Before(l.lookAt) {
			l.lookAt = at
		}
	case <-l.recovered:
		l.down, l.release = false, true
	case <-drained:
		l.drain()
	}
}

// after is a timer's channel. Without time to pass there is no timer: Go 1.26's race detector crashes when two of
// those are waited for at the same moment in a testing/synctest bubble.
func after(d time.Duration) (ready <-chan time.Time, stop func() bool) {
	if d <= 0 {
		now := make(chan time.Time, 1)
		now <- time.Now()
		return now, func() bool { return false }
	}
	timer := time.NewTimer(d)
	return timer.C, timer.Stop
}

// drain makes what is due now the last work.
func (l *lane) drain() { l.draining, l.dueBy, l.lookAt = true, time.Now(), time.Now() }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
