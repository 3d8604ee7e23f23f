package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Recover makes a panic of s an error of the event, a *PanicError. No error of s shows a secret of its configuration.
func Recover(s Sink) Sink { return &recovering{s} }

type recovering struct{ Sink }

func (r *recovering) Send(ctx context.Context, e event.Event) (err error) {
	defer recoverTo(&err)
	return redact.Error(r.Sink.Send(ctx, e))
}

func (r *recovering) Close(ctx context.Context) (err error) {
	defer recoverTo(&err)
	return redact.Error(r.Sink.Close(ctx))
}

// Timeout ends the context of one Send after d, or up to a hundredth of d earlier; 0 is no limit. It does not
// leave a Send that ignores its context behind: that one holds up its event, and nothing else, until it
// returns.
func Timeout(s Sink, d time.Duration) Sink {
	if d <= 0 {
		return s
	}
	return &timed{s, d}
}

type timed struct {
	Sink
	limit time.Duration
}

func (t *timed) Send(ctx context.Context, e event.Event) error {
	limited, cancel := attemptUnder(ctx, t.limit)
	defer cancel()
	err := t.Sink.Send(limited, e)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("not accepted within %s: %w", t.limit, err)
	}
	return err
}

// observed tells of every Send how long it took and what came of it.
type observed struct {
	Sink
	tell func(d time.Duration, err error)
}

func (o *observed) Send(ctx context.Context, e event.Event) error {
	started := time.Now()
	err := o.Sink.Send(ctx, e)
	o.tell(time.Since(started), err)
	return err
}

// Limit lets n Sends run at a time; the others wait in their order, as long as their contexts last. 0 is no
// limit. The error of a Send that was never begun wraps retry.ErrNotTried.
func Limit(s Sink, n int) Sink { return newLimited(s, n) }

func newLimited(s Sink, n int) *limited {
	if n <= 0 {
		return &limited{s, nil}
	}
	return &limited{s, make(chan struct{}, n)}
}

// limited relies on Go's channels: what waits to send on a full one is served first in, first out, and
// nobody who comes later gets ahead.
type limited struct {
	Sink
	places chan struct{} // nil: no limit
}

func (l *limited) Send(ctx context.Context, e event.Event) error {
	release, err := l.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	return l.Sink.Send(ctx, e)
}

// take waits for a place.
func (l *limited) take(ctx context.Context) (release func(), err error) {
	if l.places == nil {
		return func() {}, nil
	}
	select {
	case l.places <- struct{}{}:
		return func() { <-l.places }, nil
	case <-ctx.Done():
		return nil, &neverBegunError{fmt.Errorf("still waiting for one of %d concurrent sends: %w", cap(l.places), ctx.Err())}
	}
}

// neverBegunError is a retry.ErrNotTried for another reason than that the target is down.
type neverBegunError struct{ err error }

func (n *neverBegunError) Error() string        { return n.err.Error() }
func (n *neverBegunError) Unwrap() error        { return n.err }
func (n *neverBegunError) Is(target error) bool { return target == retry.ErrNotTried }

// Retry repeats a failed Send as p says, and within the context's deadline. The zero Policy is a single
// attempt. observe, which may be nil, is told of every attempt, counted from 1.
func Retry(s Sink, p retry.Policy, observe func(e event.Event, attempt int, err error)) Sink {
	if p == (retry.Policy{}) {
		p = retry.DefaultPolicy()
		p.MaxAttempts = 1
	}
	return &retrying{s, p, 0, observe}
}

type retrying struct {
	Sink
	policy  retry.Policy
	window  time.Duration // time in which attempts are begun, 0: as long as the context lasts
	observe func(e event.Event, attempt int, err error)
}

func (r *retrying) Send(ctx context.Context, e event.Event) error {
	began, attempt := time.Now(), 0
	try := func() error {
		attempt++
		err := r.Sink.Send(ctx, e) // the window bounds the waits, not the attempt
		if r.observe != nil {
			r.observe(e, attempt, err)
		}
		return err
	}
	err := try()
	if err == nil { // nearly always, so nothing is made ready before for the other case
		return nil
	}
	waits := ctx
	if r.window > 0 {
		var cancel context.CancelFunc
		waits, cancel = context.WithDeadline(ctx, began.Add(r.window))
		defer cancel()
	}
	first := true
	return r.policy.Do(waits, func(context.Context) error {
		if first {
			first = false
			return err
		}
		return try()
	})
}
