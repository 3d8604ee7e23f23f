package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Parker is where the events go that a sink did not accept.
type Parker interface {
	// Put stores all parcels or none, durably, before it returns nil. A parcel whose Key is there already
	// is left as it is.
	Put(ctx context.Context, parcels ...event.Parcel) error
}

// ParkMode is which events are parked.
type ParkMode int

// The modes.
const (
	// ParkFailures sends each event, and parks it for the sinks that did not accept it. While all is well
	// the Parker is not touched.
	ParkFailures ParkMode = iota
	// ParkEverything parks each event for every sink that wants it, and sends nothing: that is left to
	// whoever calls Deliver. So a sink may take longer than a lease.
	ParkEverything
)

// WithParking makes events settled by storing them. An event that some sinks did not accept is stored in
// one Put with a parcel for each of them: dead if the error was permanent or the condition failed, else
// waiting until the sink's Schedule has it tried again. A parcel without any failed attempt, because the
// target is known to be down, is due at once. An event that a processor fails on becomes the dead letter
// of event.Unprocessed.
//
// The retries within the lease are then short: 3 attempts within 5 s, unless Route.Retry says how many. An
// event that cannot be stored for one sink is stored for the others all the same, and is not settled. Handle goes
// on trying until its context ends, so that a store that is full or away ends the pulls, for want of places; but for a
// second only where another sink is up, which could make use of the place.
func WithParking(parker Parker, mode ParkMode) Option {
	return func(p *Pipeline) { p.parker, p.parkMode = parker, mode }
}

// OnParked has f called with the sink of every waiting parcel that was stored. It must return at once.
func OnParked(f func(sink string)) Option { return func(p *Pipeline) { p.onParked = f } }

// OnDead has f called with every event that has become a dead letter when it came: of the sink that refused it,
// or of event.Unprocessed. What becomes one at a later attempt is the scheduler's to report. f must return at once.
func OnDead(f func(sink string, e event.Event, err error)) Option {
	return func(p *Pipeline) { p.onDead = f }
}

// OnRecovered has f called with the name of a sink that accepts events again after its breaker was open.
// It must return at once.
func OnRecovered(f func(sink string)) Option { return func(p *Pipeline) { p.recovered = f } }

// Observe has f called with every attempt to send an event to a sink: how long it took and what came of
// it. An attempt that was not made is an error that wraps retry.ErrNotTried. f must be quick.
func Observe(f func(sink string, d time.Duration, err error)) Option {
	return func(p *Pipeline) { p.observe = f }
}

const (
	// parkingTime is kept free at the end of a lease to store what was not sent.
	parkingTime = 3 * time.Second
	// holdTime is how long an event that cannot be parked holds a place that another sink could use: a relay
	// goes on at so many events a second as it has places.
	holdTime = time.Second
	// afterStop is how long storing goes on when the grace of a stop is over. The relay's own limits
	// count on no more than that.
	afterStop = 1500 * time.Millisecond
)

var parkRetry = retry.Policy{Initial: 100 * time.Millisecond, Max: 2 * time.Second}

func leaveTimeToPark(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-parkingTime))
}

// parcels are those of the routes that did not accept e; with all, of the targets that it was not sent to, too.
func (p *Pipeline) parcels(pl *plan, e event.Event, all bool, results []result) []event.Parcel {
	now := time.Now()
	var parcels []event.Parcel
	for i, res := range results {
		if res.err == nil && (!res.target || !all) {
			continue
		}
		r := pl.routes[i]
		parcel := event.Parcel{Event: e, Sink: r.Name, State: event.ParcelWaiting, Attempts: res.failures, Next: now, Created: now, Updated: now}
		parcel.LastError = event.ParcelError(res.err)
		parcel.FirstError = parcel.LastError
		switch {
		case retry.IsPermanent(res.err):
			parcel.State = event.ParcelDead
		case res.failures > 0:
			parcel.Next = now.Add(r.Parcels.Wait(res.failures, res.err))
		}
		parcels = append(parcels, parcel)
	}
	return parcels
}

func unprocessed(e event.Event, err error) event.Parcel {
	now := time.Now()
	text := event.ParcelError(err)
	return event.Parcel{Event: e, Sink: event.Unprocessed, State: event.ParcelDead, Attempts: 1, FirstError: text, LastError: text, Next: now, Created: now, Updated: now}
}

// parkAt stores e for the routes that did not accept it; see parcels and park.
func (p *Pipeline) parkAt(ctx context.Context, pl *plan, e event.Event, all bool, results []result) (stored sinkSet, err error) {
	stored, err = p.park(ctx, pl, p.parcels(pl, e, all, results)...)
	p.reportDead(pl, e, results, func(sink string) bool { return err == nil || stored.has(sink) })
	return stored, err
}

// reportDead reports the dead letters among results that are stored.
func (p *Pipeline) reportDead(pl *plan, e event.Event, results []result, stored func(sink string) bool) {
	for i, res := range results {
		if retry.IsPermanent(res.err) && stored(pl.routes[i].Name) {
			p.onDead(pl.routes[i].Name, e, res.err)
		}
	}
}

// park stores the parcels of one event, and tries again whatever the error is: as long as nothing can be stored,
// nothing should be pulled. It ends with ctx, or after holdTime if a sink is up that has no part in this. With an
// error it returns the sinks whose parcels are stored.
func (p *Pipeline) park(ctx context.Context, pl *plan, parcels ...event.Parcel) (stored sinkSet, err error) {
	ctx, cancel := outlive(ctx, afterStop)
	defer cancel()
	began, pause := time.Now(), parkRetry.Backoff()
	for left := parcels; ; {
		if left, err = p.put(ctx, pl, left); err == nil {
			return nil, nil
		}
		wait := max(pause.Next(), time.Millisecond)
		if pl.upBeside(left) {
			wait = min(wait, holdTime-time.Since(began))
		}
		if wait > 0 && retry.Sleep(ctx, wait) == nil {
			continue
		}
		for _, parcel := range parcels {
			if !slices.ContainsFunc(left, func(l event.Parcel) bool { return l.Sink == parcel.Sink }) {
				stored = append(stored, parcel.Sink)
			}
		}
		return stored, fmt.Errorf("cannot store the event: %w", err)
	}
}

// upBeside reports whether a sink is up that none of the parcels is for.
func (pl *plan) upBeside(parcels []event.Parcel) bool {
	return slices.ContainsFunc(pl.routes, func(r *route) bool {
		return (r.breaker == nil || r.breaker.stats().State == breakerClosed) &&
			!slices.ContainsFunc(parcels, func(parcel event.Parcel) bool { return parcel.Sink == r.Name })
	})
}

// put stores the parcels of one event in one transaction. Where that fails it stores those that can be stored by
// themselves: a sink whose share of the store is used up keeps out no other. It returns those that are left, and why.
func (p *Pipeline) put(ctx context.Context, pl *plan, parcels []event.Parcel) (left []event.Parcel, err error) {
	if err = p.parker.Put(ctx, parcels...); err == nil {
		p.parked(pl, parcels)
		return nil, nil
	}
	errs := make([]error, len(parcels))
	if len(parcels) == 1 || ctx.Err() != nil {
		for i := range errs {
			errs[i] = err
		}
	} else {
		var each sync.WaitGroup
		for i, parcel := range parcels {
			each.Go(func() { errs[i] = p.parker.Put(ctx, parcel) })
		}
		each.Wait()
	}
	for i, parcel := range parcels {
		if errs[i] == nil {
			p.parked(pl, parcels[i:i+1])
			continue
		}
		left = append(left, parcel)
		if p.streak(pl, parcel.Sink).Fail(errs[i]) {
			p.log.Error("cannot store events of a sink", append(failure(errs[i]), zap.String("sink", parcel.Sink))...)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(event.ParcelError(a), event.ParcelError(b)) })
	return left, errors.Join(slices.CompactFunc(errs, func(a, b error) bool { return event.ParcelError(a) == event.ParcelError(b) })...)
}

// streak is that of the sink's parcels which cannot be stored.
func (p *Pipeline) streak(pl *plan, sink string) *retry.Streak {
	if r := pl.route(sink); r != nil {
		return &r.parking
	}
	return &p.parking
}

// parked counts and reports parcels that were stored.
func (p *Pipeline) parked(pl *plan, parcels []event.Parcel) {
	for _, parcel := range parcels {
		p.streak(pl, parcel.Sink).End().Report(p.log, "storing events of a sink again", zap.String("sink", parcel.Sink))
		r := pl.route(parcel.Sink)
		if r == nil { // event.Unprocessed, which is counted where the processor failed
			continue
		}
		if parcel.State == event.ParcelDead {
			r.dead.Add(1)
			continue
		}
		r.parked.Add(1)
		if p.onParked != nil {
			p.onParked(parcel.Sink)
		}
	}
}

// outlive is a context with ctx's deadline that lasts d longer than ctx when that is cancelled.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if deadline, ok := ctx.Deadline(); ok {
		longer, cancel = context.WithDeadline(longer, deadline)
	}
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return longer, func() { stop(); cancel() }
}
