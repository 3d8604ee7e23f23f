package emulator

import (
	"container/list"
	"context"
	"time"
)

// waiter is a long poll that waits for an event.
type waiter struct {
	woken chan struct{}
	place *list.Element // nil while it is not on the list
	asked bool          // it was on the list before
}

// wake tells the poll that waits longest to look again.
func (app *application) wake() {
	front := app.waiters.Front()
	if front == nil {
		return
	}
	w := app.waiters.Remove(front).(*waiter)
	w.place = nil
	w.woken <- struct{}{} // has room: once for each time on the list
}

// wakeAll makes all polls look again, so that they learn when the mode changes.
func (app *application) wakeAll() {
	for app.waiters.Len() > 0 {
		app.wake()
	}
}

// pulled is what a poll got: the JSON of its events and how many.
type pulled struct {
	json  []byte
	count int
	batch []*message // whose leases start with the answer
}

// pull leases events for one answer. With none it waits until one comes or
// hold is over. An error is only that the client, or the server, went away.
func (q *queues) pull(ctx context.Context, app *application, hold time.Duration, double bool, dst []byte) (pulled, error) {
	deadline := time.Now().Add(hold)
	w := &waiter{woken: make(chan struct{}, 1)}
	var timer *time.Timer
	for {
		p, rest := q.try(app, w, deadline, double, dst)
		if p.count > 0 || rest <= 0 {
			return p, nil
		}
		if timer == nil {
			timer = time.NewTimer(rest)
			defer timer.Stop()
		} else {
			timer.Reset(rest)
		}
		var err error
		select {
		case <-w.woken:
		case <-timer.C:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-q.closed:
			err = errClosed
		}
		if err != nil {
			q.leave(app, w)
			return pulled{}, err
		}
	}
}

// try takes events, or puts the waiter on the list and returns for how long it
// may wait at most.
func (q *queues) try(app *application, w *waiter, deadline time.Time, double bool, dst []byte) (p pulled, rest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	select {
	case <-w.woken: // at the same time as the timer
	default:
	}
	paused := app.config.modeAt(now) == ModePush && q.opts.Variants.PushMode != AnswerEvents
	if !paused {
		p.json, p.batch, p.count = q.take(app, now, q.opts.MaxBatch, double, dst)
	}
	if rest = deadline.Sub(now); p.count > 0 || rest <= 0 {
		app.forget(w)
		if !paused && app.ready.len > 0 {
			app.wake()
		}
		return p, rest
	}
	if w.place == nil {
		if w.asked { // woken for an event that another poll took: its turn is still next
			w.place = app.waiters.PushFront(w)
		} else {
			w.place = app.waiters.PushBack(w)
		}
		w.asked = true
	}
	// A lease that has not started yet ends a whole Lease from now or later.
	rest = min(rest, q.opts.Lease)
	if m := app.leased.head; m != nil {
		rest = min(rest, m.expires.Sub(now))
	}
	if at := app.config.effectiveAt; at.After(now) {
		rest = min(rest, at.Sub(now))
	}
	return p, rest
}

// leave takes off a waiter whose client went away. If it was woken for an
// event, the next one gets it.
func (q *queues) leave(app *application, w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil && app.ready.len > 0 {
		app.wake()
	}
	app.forget(w)
}

func (app *application) forget(w *waiter) {
	if w.place != nil {
		app.waiters.Remove(w.place)
		w.place = nil
	}
}
