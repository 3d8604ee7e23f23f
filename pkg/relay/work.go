package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// work has one event handled. ctx ends in time to confirm it.
func (q *queue) work(ctx context.Context, e *entry) {
	started := time.Now()
	err := q.handle(ctx, e.Delivery)
	q.relay.observer.Handled(time.Since(started), err == nil)
	if err != nil {
		q.unsettled(e, err)
		return
	}
	q.relay.stats.settled.Add(1)
	q.unsettling.EndAfter(retry.Quiet).Report(q.log, "events are settled again")
	for _, l := range q.hand.settle(e) {
		q.confirms.send(l)
	}
}

// unsettled leaves an event in the queue.
func (q *queue) unsettled(e *entry, err error) {
	total := q.relay.stats.unsettled.Add(1)
	level := zap.DebugLevel
	if q.unsettling.Fail(err) {
		level = zap.WarnLevel
	}
	q.log.Log(level, "an event could not be settled: it stays in the queue and comes back when its lease is over",
		append(errorFields(err), zap.String("event_id", e.ID), zap.String("event_type", e.Type), zap.Int64("unsettled", total))...)
	q.done(e, q.hand.drop(e), false)
}

// handle calls the handler; a panic in it is an error of this one event.
func (q *queue) handle(ctx context.Context, d event.Delivery) (err error) {
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("the handler panicked", zap.Any("panic", p), zap.Stack("stack"),
				zap.String("event_id", d.ID), zap.String("event_type", d.Type))
			err = fmt.Errorf("the handler panicked: %v", p)
		}
	}()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("no time of the lease was left to work in: %w", err)
	}
	return q.relay.handler.Handle(ctx, d)
}

// resolve ends a lease at the confirmer, and with the event's last lease the event's time in hand.
func (q *queue) resolve(l lease, ok bool) {
	if until, last, confirmed := q.hand.resolve(l, ok); last {
		if confirmed {
			q.relay.stats.confirmed.Add(1)
			q.relay.stats.lastConfirm.Store(time.Now().UnixNano())
		}
		q.done(l.entry, until, confirmed)
	}
}

// done gives back the place of an event that left the hand: confirmed, or to be delivered again after until.
func (q *queue) done(e *entry, until time.Time, confirmed bool) {
	if q.drain != nil {
		q.drain.closed(e.ID, e.ReceivedAt, until, !e.untried, confirmed)
	}
	q.relay.stats.inHand.Add(-1)
	q.relay.places.Release(1)
	q.relay.bytes.release(e.bytes)
}

// errorFields describes err to a person: what happened, what to do, and the request to ask the vendor about.
func errorFields(err error) []zap.Field {
	fields := []zap.Field{zap.Error(err)}
	if hint := retry.Hint(err); hint != "" {
		fields = append(fields, zap.String("hint", hint))
	}
	var request interface{ RequestID() string }
	if errors.As(err, &request) && request.RequestID() != "" {
		fields = append(fields, zap.String("request_id", request.RequestID()))
	}
	return fields
}
