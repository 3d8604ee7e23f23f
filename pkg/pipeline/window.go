package pipeline

import (
	"context"
	"sync"
	"time"
)

// window is the time in which events whose leases end together are sent. It holds the contexts that each of
// them would otherwise make for itself, which was a seventh of what an event cost.
type window struct {
	prepared context.Context //nolint:containedctx // for the Handles of many events
	sending  context.Context //nolint:containedctx // for their Sends: ends in time to park what was not sent
	cancel   context.CancelFunc

	mu       sync.Mutex
	attempts []attempt
}

// attempt is the context of Sends that began at about the same time.
type attempt struct {
	ctx    context.Context //nolint:containedctx // as in window
	cancel context.CancelFunc
	limit  time.Duration
	until  time.Time
}

type windowKey struct{}

// Prepare derives from ctx a context for the Handles of several events whose time ends with ctx's deadline. It
// saves each of them some contexts of its own, and changes nothing else. end must be called when the last
// Handle has returned.
func (p *Pipeline) Prepare(ctx context.Context) (prepared context.Context, end context.CancelFunc) {
	w := &window{}
	w.prepared = context.WithValue(ctx, windowKey{}, w)
	w.sending, w.cancel = w.prepared, func() {}
	if p.parker != nil {
		w.sending, w.cancel = leaveTimeToPark(w.prepared)
	}
	return w.prepared, w.end
}

func (w *window) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		a.cancel()
	}
	w.cancel()
}

// windowOf is the one that ctx comes from, or nil.
func windowOf(ctx context.Context) *window {
	w, _ := ctx.Value(windowKey{}).(*window)
	return w
}

// sendingUnder is ctx as fanOut needs it.
func (p *Pipeline) sendingUnder(ctx context.Context) (context.Context, context.CancelFunc) {
	if w := windowOf(ctx); w != nil && w.prepared == ctx {
		return w.sending, func() {}
	}
	if p.parker == nil {
		return ctx, func() {}
	}
	return leaveTimeToPark(ctx)
}

// attemptUnder is ctx for an attempt that may take as long as limit from now. Under a window, those that began
// within a hundredth of the limit share one.
func attemptUnder(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	until := time.Now().Add(limit)
	if deadline, ok := ctx.Deadline(); ok && !deadline.After(until) {
		return ctx, func() {}
	}
	if w := windowOf(ctx); w != nil && w.sending == ctx {
		return w.attempt(limit, until), func() {}
	}
	return context.WithDeadline(ctx, until)
}

func (w *window) attempt(limit time.Duration, until time.Time) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		if a.limit == limit && until.Sub(a.until) <= limit/100 {
			return a.ctx
		}
	}
	a := attempt{limit: limit, until: until}
	a.ctx, a.cancel = context.WithDeadline(w.sending, until)
	w.attempts = append(w.attempts, a)
	return a.ctx
}
