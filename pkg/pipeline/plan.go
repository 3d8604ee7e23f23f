package pipeline

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// closeTime bounds the closing of a sink that was removed.
const closeTime = 10 * time.Second

// plan is what a pipeline does with an event. It is never changed, only replaced: an event that began under
// a plan ends under it.
type plan struct {
	processor Processor
	routes    []*route
	users     sync.WaitGroup  // events and parcels on their way
	before    <-chan struct{} // closed when those under earlier plans have ended; nil for the first plan
}

// checkRoutes reports every route that a plan cannot have.
func checkRoutes(routes []Route) error {
	var errs []error
	names := make(map[string]bool, len(routes))
	for _, r := range routes {
		if err := r.validate(); err != nil {
			errs = append(errs, err)
		}
		if names[r.Name] {
			errs = append(errs, fmt.Errorf("sink %s: two sinks have this name: rename one", r.Name))
		}
		names[r.Name] = true
	}
	return errors.Join(errs...)
}

// newPlan builds one of routes that were checked. A route that is the same as in the plan before goes on as it
// is, with its breaker and its counters; one that changed keeps its breaker's state as long as its sink is the same.
func (p *Pipeline) newPlan(processors []Processor, routes []Route, before *plan) *plan {
	next := &plan{processor: Chain(processors...)}
	for _, r := range routes {
		if r.Parcels == (retry.Schedule{}) {
			r.Parcels = retry.DefaultSchedule()
		}
		kept := before.route(r.Name)
		if kept == nil || !same(kept.Sink, r.Sink) || kept.Route != r {
			kept = p.newRoute(r, kept)
		}
		next.routes = append(next.routes, kept)
	}
	return next
}

// route is the one of that name, nil if there is none.
func (pl *plan) route(name string) *route {
	if pl == nil {
		return nil
	}
	for _, r := range pl.routes {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// enter gives the plan to use until leave.
func (p *Pipeline) enter() (pl *plan, leave func()) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	p.current.users.Add(1)
	return p.current, p.current.users.Done
}

// Plan checks other processors and routes, and changes nothing. Its error is that of New. The function
// that it returns puts them in effect, and cannot fail: whoever has more to decide calls it last, or not at
// all. It must not be called while Close is, nor after it.
//
// Events that come from then on take the new processors and routes. A Route that is equal to one that the
// pipeline has, its Sink and Condition being the same, keeps its breaker and its counters. Events on their
// way end as they began; when the last of them has ended, the sinks that are in no route any more are closed.
func (p *Pipeline) Plan(processors []Processor, routes []Route) (apply func(), err error) {
	if err := checkRoutes(routes); err != nil {
		return nil, err
	}
	return func() { p.replace(processors, routes) }, nil
}

// Replace is Plan, and puts the plan in effect. After an error nothing has changed.
func (p *Pipeline) Replace(processors []Processor, routes []Route) error {
	apply, err := p.Plan(processors, routes)
	if err == nil {
		apply()
	}
	return err
}

func (p *Pipeline) replace(processors []Processor, routes []Route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.current
	next := p.newPlan(processors, routes, old)
	ended := make(chan struct{})
	next.before = ended
	p.current = next
	p.ended.Go(func() {
		if old.before != nil {
			<-old.before
		}
		old.users.Wait()
		close(ended)
		ctx, cancel := context.WithTimeout(p.closing, closeTime)
		defer cancel()
		gone := slices.DeleteFunc(slices.Clone(old.routes), func(r *route) bool {
			return slices.ContainsFunc(next.routes, func(kept *route) bool { return same(kept.Sink, r.Sink) })
		})
		if err := closeAll(ctx, gone); err != nil {
			p.log.Warn("a sink that was removed could not write out what it held", zap.Error(err))
		}
	})
}

// same reports whether both are one sink. A function, as SinkFunc has it, is never the same.
func same(a, b Sink) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// Close closes all sinks at the same time, also those that an earlier plan left, and waits for them as
// CloseSinks does. It must come after the last Handle has returned.
func (p *Pipeline) Close(ctx context.Context) error {
	defer p.cut()
	stop := context.AfterFunc(ctx, p.cut)
	defer stop()
	p.mu.RLock()
	current := p.current
	p.mu.RUnlock()
	err := closeAll(ctx, current.routes)
	p.ended.Wait()
	return err
}

func closeAll(ctx context.Context, routes []*route) error {
	all := make([]Route, len(routes))
	for i, r := range routes {
		all[i] = r.Route
	}
	return CloseSinks(ctx, all...)
}

// deafTime is what a Close has beyond the end of its context before it counts as one that never ends.
const deafTime = 100 * time.Millisecond

// CloseSinks closes the sinks of all routes at the same time. The error joins those that failed, each with
// the sink's name. It returns soon after ctx is done even if a Close does not, as that of a file on a server
// that is away: such a Close is left behind.
func CloseSinks(ctx context.Context, routes ...Route) error {
	results := make([]chan error, len(routes))
	for i, r := range routes {
		results[i] = make(chan error, 1)
		go func() { results[i] <- Recover(r.Sink).Close(ctx) }()
	}
	deaf, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(deafTime, cancel) })
	defer stop()
	var errs []error
	for i, r := range routes {
		var err error
		select {
		case err = <-results[i]:
		case <-deaf.Done():
			select {
			case err = <-results[i]:
			default:
				err = fmt.Errorf("does not end: %w", context.Cause(ctx))
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sink %s: close: %w", r.Name, err))
		}
	}
	return errors.Join(errs...)
}
