package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Deliver sends the event of a parcel to its sink in a single attempt, under the same limit of concurrency,
// breaker and time limit as new events; who waits for a place is served in turn, whatever it comes from.
// The error wraps retry.ErrNotTried when no attempt was made: with the retry.Delay until the next one if
// the target is down, without one if no place was free in time.
//
// The sink's condition is asked again: an event that it does not want any more is done with. The event of
// a parcel for event.Unprocessed goes through the whole pipeline.
func (p *Pipeline) Deliver(ctx context.Context, sink string, e event.Event) error {
	pl, leave := p.enter()
	defer leave()
	if sink == event.Unprocessed {
		return p.run(ctx, pl, e, way{mode: p.parkMode}, func(err error) error {
			if ctx.Err() != nil {
				return err
			}
			return retry.Permanent(err)
		})
	}
	r := pl.route(sink)
	if r == nil {
		return &neverBegunError{fmt.Errorf("there is no sink %s", sink)} // any more: its parcels stay where they are
	}
	wanted, err := r.wants(ctx, e)
	if err != nil {
		r.fail(ctx, e, err)
		return err
	}
	if !wanted {
		p.onUnwanted(sink)
		return nil
	}
	return r.once(ctx, e)
}

// Available reports whether an event would be sent to the sink now: its breaker is not open.
func (p *Pipeline) Available(sink string) bool { return p.RetryAt(sink).IsZero() }

// RetryAt is when the sink, which is down, may be sent an event again. It is zero for now, and for a sink
// that is not down or does not exist.
func (p *Pipeline) RetryAt(sink string) time.Time {
	pl, leave := p.enter()
	defer leave()
	if r := pl.route(sink); r != nil && r.breaker != nil {
		return r.breaker.retryAt()
	}
	return time.Time{}
}
