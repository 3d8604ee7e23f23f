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

// closeTime bounds the closing of a sink that Replace took out.
const closeTime = 10 * time.Second

// plan is what a pipeline does with an event. It is never changed, only replaced: an event that began under
// a plan ends under it.
type plan struct {
	processor Processor
	routes    []*route
	users     sync.WaitGroup  // events and parcels on their way
	before    <-chan struct{} // closed when those under earlier plans have ended; nil for the first plan
}

// plan builds one. A route that is the same as in the plan before goes on as it is, with its breaker and
// its counters.
func (p *Pipeline) plan(processors []Processor, routes []Route, before *plan) (*plan, error) {
	next := &plan{processor: Chain(processors...)}
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
		if errs != nil {
			continue
		}
		if r.Parcels == (retry.Schedule{}) {
			r.Parcels = retry.DefaultSchedule()
		}
		kept := before.route(r.Name)
		if kept == nil || !same(kept.Sink, r.Sink) || kept.Route != r {
			kept = p.newRoute(r)
		}
		next.routes = append(next.routes, kept)
	}
	return next, errors.Join(errs...)
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

// Replace has events that come from now on take other processors and routes. A Route that is equal to one
// that the pipeline has, its Sink and Condition being the same, keeps its breaker and its counters. Events
// on their way end as they began; when the last of them has ended, the sinks that are in no route any more
// are closed. After an error, which is that of New, nothing has changed. It must not be called while Close
// is, nor after it.
func (p *Pipeline) Replace(processors []Processor, routes []Route) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.current
	next, err := p.plan(processors, routes, old)
	if err != nil {
		return err
	}
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
			p.log.Warn("a sink that was taken out could not write out what it held", zap.Error(err))
		}
	})
	return nil
}

// same reports whether both are one sink. A function, as SinkFunc has it, is never the same.
func same(a, b Sink) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// Close closes all sinks at the same time and waits for them. The error joins those that failed, each with
// the sink's name. It must come after the last Handle has returned.
func (p *Pipeline) Close(ctx context.Context) error {
	defer p.cut()
	stop := context.AfterFunc(ctx, p.cut)
	defer stop()
	p.ended.Wait()
	return closeAll(ctx, p.current.routes)
}

func closeAll(ctx context.Context, routes []*route) error {
	errs := make([]error, len(routes))
	var all sync.WaitGroup
	for i, r := range routes {
		all.Go(func() {
			if err := r.limit.Close(ctx); err != nil {
				errs[i] = fmt.Errorf("sink %s: close: %w", r.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
