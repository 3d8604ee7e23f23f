package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Route is a sink and how events get there. Each route owns its sink: no two have the same.
type Route struct {
	Name        string     // unique in the pipeline; it stands in errors, logs and counters
	When        *Condition // nil: every event
	Sink        Sink
	Timeout     time.Duration // for one Send; 0: none
	Concurrency int           // Sends at a time; 0: no limit
	Retry       retry.Policy  // within a lease; zero: a single attempt
	Breaker     BreakerConfig // zero: none
	// Parcels is when a parked event is tried for the first time; further attempts are the scheduler's.
	// Zero: retry.DefaultSchedule.
	Parcels retry.Schedule
}

func (r Route) validate() error {
	switch {
	case r.Name == "":
		return errors.New("a sink has no name: give each one its own")
	case r.Name == event.Unprocessed:
		return fmt.Errorf("sink %s: this name stands for events that were not processed: choose another", r.Name)
	case r.Sink == nil:
		return fmt.Errorf("sink %s: there is nothing to send to: set Sink", r.Name)
	}
	errs := []error{prefixed("sink "+r.Name+": breaker.", r.Breaker.Validate())}
	if r.Retry != (retry.Policy{}) {
		errs = append(errs, prefixed("sink "+r.Name+": retry.", r.Retry.Validate()))
	}
	if r.Parcels != (retry.Schedule{}) {
		errs = append(errs, prefixed("sink "+r.Name+": parcels.", r.Parcels.Validate()))
	}
	return errors.Join(errs...)
}

const (
	// With a store to park in, an event does not wait for a target: at 1,600 events per second, a place
	// held for a whole lease would stop the relay at 40.
	parkingAttempts = 3
	parkingWindow   = 5 * time.Second // in which they are begun
)

// route is a Route at work.
type route struct {
	Route
	log     *zap.Logger
	guarded Sink     // with time limit and breaker
	limit   *limited // of guarded
	breaker *breaker // nil: none
	lease   retrying // of limit: as often as the time of a lease is worth

	streak                                        retry.Streak // of failures; refusals are none
	standing                                      *standing
	parking                                       retry.Streak // of its parcels that cannot be stored
	sent, failed, attempts, skipped, deduplicated atomic.Uint64
	parked, dead                                  atomic.Uint64
}

// newRoute wraps the sink. From the outside in stand: the retry within the lease, the limit of
// concurrency, the breaker, the time limit and the recovery from panics. The breaker is inside the retry,
// so that every attempt counts and none is made while the target is down; and inside the limit, so that
// events which waited for their turn while the target went down are not sent any more. It is outside the
// time limit, since a target that hangs is down, too.
//
// before is the route of that name in the plan before, nil if there is none. What is known of the health of its
// target is kept, unless it is another one now.
func (p *Pipeline) newRoute(r Route, before *route) *route {
	parking := p.parker != nil
	rt := &route{Route: r, log: p.log.With(zap.String("sink", r.Name)), standing: &standing{}}
	if before != nil && same(before.Sink, r.Sink) {
		rt.standing = before.standing
	}
	rt.guarded = Timeout(Recover(r.Sink), r.Timeout)
	if r.Breaker.Failures > 0 {
		h := newHealth(r.Breaker)
		if before != nil && before.breaker != nil && before.breaker.cfg == r.Breaker && same(before.Sink, r.Sink) {
			h = before.breaker.health
		}
		rt.breaker = newBreaker(rt.guarded, h, r.Timeout, rt.log, func() {
			if p.recovered != nil {
				p.recovered(r.Name)
			}
		})
		rt.guarded = rt.breaker
	}
	rt.guarded = &observed{rt.guarded, func(d time.Duration, err error) { p.observe(r.Name, d, err) }}
	rt.limit = newLimited(rt.guarded, r.Concurrency)
	rt.lease = retrying{Sink: rt.limit, policy: r.Retry}
	switch {
	case rt.lease.policy == (retry.Policy{}):
		rt.lease.policy = retry.DefaultPolicy()
		rt.lease.policy.MaxAttempts = 1
	case parking && r.Retry.MaxAttempts == 0:
		rt.lease.policy.MaxAttempts = parkingAttempts
		rt.lease.window = parkingWindow
	}
	if rt.breaker != nil && !parking {
		rt.lease.Sink = &patient{rt.limit, rt.breaker}
	}
	return rt
}

func (r *route) wants(ctx context.Context, e event.Event) (bool, error) {
	if r.When == nil {
		return true, nil
	}
	ok, err := r.When.Match(ctx, e)
	if err != nil {
		return false, fmt.Errorf("when: %w", err)
	}
	if !ok {
		r.skipped.Add(1)
	}
	return ok, nil
}

// deliver sends e as often as its lease is worth, and returns how many attempts failed.
func (r *route) deliver(ctx context.Context, e event.Event) (failures int, err error) {
	lease := r.lease
	lease.observe = func(e event.Event, attempt int, err error) {
		if r.observe(ctx, e, attempt, err) {
			failures++
		}
	}
	err = lease.Send(ctx, e)
	r.conclude(ctx, e, err)
	return failures, err
}

// once sends e in a single attempt. The wait for a place ends when the rest of ctx's time is what the
// attempt may need.
func (r *route) once(ctx context.Context, e event.Event) error {
	waiting := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		waiting, cancel = context.WithDeadline(ctx, deadline.Add(-r.Timeout))
		defer cancel()
	}
	release, err := r.limit.take(waiting)
	if err == nil {
		defer release()
		err = r.guarded.Send(ctx, e)
		r.observe(ctx, e, 1, err)
	}
	r.conclude(ctx, e, err)
	return err
}

// conclude counts and tells the end of a delivery.
func (r *route) conclude(ctx context.Context, e event.Event, err error) {
	if err != nil {
		r.fail(ctx, e, err)
		return
	}
	r.sent.Add(1)
	r.standing.accepted()
	r.streak.End().Report(r.log, "sink accepts events again")
}

func (r *route) fail(ctx context.Context, e event.Event, err error) {
	r.failed.Add(1)
	if !stopping(ctx) {
		r.standing.missed(err)
	}
	switch {
	case stopping(ctx), errors.Is(err, retry.ErrNotTried): // which the breaker has reported
	case retry.IsPermanent(err): // reported as a dead letter, or as an event that is not settled
	case r.streak.Fail(err):
		r.log.Warn("sink does not accept an event", failure(err)...)
	}
	debugFailure(r.log, "event not delivered", e, err)
}

// named is err with the sink's name.
func (r *route) named(err error) error { return fmt.Errorf("sink %s: %w", r.Name, err) }

// stopping reports that the caller gave up: what fails then is not at fault. A lease that ran out is no
// such case.
func stopping(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// observe counts and tells an attempt, and reports whether it failed. One that was not made, or that a stop cut off,
// did not.
func (r *route) observe(ctx context.Context, e event.Event, attempt int, err error) (failed bool) {
	if errors.Is(err, retry.ErrNotTried) {
		return false
	}
	failed = err != nil && !stopping(ctx)
	if failed && !retry.IsPermanent(err) {
		r.standing.failed(err)
	}
	r.attempts.Add(1)
	if entry := r.log.Check(zapcore.DebugLevel, "attempt to send"); entry != nil {
		entry.Write(append(identity(e), zap.Int("attempt", attempt), zap.Error(err))...)
	}
	return failed
}

// failure is what a person needs to know of err.
func failure(err error) []zap.Field {
	fields := []zap.Field{zap.Error(err)}
	if hint := retry.Hint(err); hint != "" {
		fields = append(fields, zap.String("hint", hint))
	}
	return fields
}

func debugFailure(log *zap.Logger, message string, e event.Event, err error) {
	entry := log.Check(zapcore.DebugLevel, message)
	if entry == nil {
		return
	}
	fields := append(identity(e), zap.Error(err))
	var p *PanicError
	if errors.As(err, &p) {
		fields = append(fields, zap.ByteString("stack", p.Stack))
	}
	entry.Write(fields...)
}

func identity(e event.Event) []zap.Field {
	return []zap.Field{zap.String("event_id", e.ID), zap.String("event_type", e.Type)}
}
