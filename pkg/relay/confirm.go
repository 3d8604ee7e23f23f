package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// linger is how long a batch waits for more handles. A full one goes at once: at the quota of 1,600
// events per second, 16 settle within 10 ms.
const linger = 25 * time.Millisecond

var confirmRetry = retry.Policy{Initial: 100 * time.Millisecond, Max: 5 * time.Second}

// confirmer gathers the leases of settled events into batches and confirms them.
type confirmer struct {
	queue   *queue
	in      chan lease
	sending sync.WaitGroup
	mu      sync.Mutex
	worked  bool // a confirm has succeeded
	streak  retry.Streak
}

func newConfirmer(q *queue) *confirmer {
	return &confirmer{queue: q, in: make(chan lease, event.MaxBatch)}
}

// send hands a lease to the confirmer, which settles its fate with queue.resolve.
func (c *confirmer) send(l lease) { c.in <- l }

// close ends run when all batches are done. No send may follow.
func (c *confirmer) close() { close(c.in) }

// run confirms until close. After ctx is done it gives up on what is left.
func (c *confirmer) run(ctx context.Context) {
	for first := range c.in {
		batch := c.gather(first)
		c.sending.Go(func() { c.confirm(ctx, batch) }) // as many as there are places, at most
	}
	c.sending.Wait()
}

// gather fills a batch from its first lease.
func (c *confirmer) gather(first lease) []lease {
	batch := append(make([]lease, 0, event.MaxBatch), first)
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for len(batch) < event.MaxBatch {
		select {
		case l, open := <-c.in:
			if !open {
				return batch
			}
			batch = append(batch, l)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// confirm brings a batch to an end: every lease in it is resolved when it returns. It tries again while a
// lease lasts. A batch that is refused for its handles is split, so that a stale handle costs only itself. One
// that is refused for the key waits for another key.
func (c *confirmer) confirm(ctx context.Context, batch []lease) {
	pause := confirmRetry.Backoff()
	for {
		batch = c.live(batch)
		if len(batch) == 0 {
			return
		}
		end := batch[0].deadline
		for _, l := range batch {
			if l.deadline.After(end) {
				end = l.deadline
			}
		}
		changed := c.queue.credentialChanged()
		err := c.attempt(ctx, end, batch)
		switch {
		case err == nil:
			c.resolve(batch, true)
			return
		case errors.Is(err, event.ErrStaleHandle) && len(batch) > 1:
			half := len(batch) / 2
			c.confirm(ctx, batch[:half])
			c.confirm(ctx, batch[half:])
			return
		case errors.Is(err, event.ErrStaleHandle):
			// Refused while the lease lasts, after an attempt whose reply was lost: that one confirmed it.
			// Otherwise it was too late: the event is settled, and remembered in case it comes again.
			l := batch[0]
			confirmed := l.unanswered && time.Now().Before(l.deadline)
			c.queue.relay.stats.refused.Add(1)
			c.queue.log.Debug("a handle was refused", zap.Bool("confirmed_before", confirmed),
				zap.String("event_id", l.entry.ID), zap.String("event_type", l.entry.Type), zap.Error(err))
			c.resolve(batch, confirmed)
			return
		}
		if !retry.HadNoEffect(err) {
			for i := range batch {
				batch[i].unanswered = true
			}
		}
		wait, left := c.queue.pauseAfter(err, pause), time.Until(end)
		replaceable := changed != nil && retry.IsKeyRefused(err)
		if !replaceable && (retry.IsPermanent(err) || left <= wait) || retry.SleepOr(ctx, min(wait, left), changed) != nil {
			c.resolve(batch, false)
			return
		}
	}
}

// attempt makes one call, as soon as the rate limiter lets it.
func (c *confirmer) attempt(ctx context.Context, end time.Time, batch []lease) error {
	attempt, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	r := c.queue.relay
	waiting := time.Now()
	if err := r.confirmLimit.Wait(attempt); err != nil {
		return retry.NoEffect(fmt.Errorf("no request was free before the lease ended: %w", err))
	}
	started := time.Now()
	r.observer.ConfirmWaited(started.Sub(waiting))
	defer r.steps.begin("a confirm")()
	handles, first := make([]string, len(batch)), end
	for i, l := range batch {
		handles[i] = l.handle
		if l.deadline.Before(first) {
			first = l.deadline
		}
	}
	r.stats.confirms.Add(1)
	err := c.queue.source.Confirm(attempt, handles)
	r.observer.Confirmed(time.Since(started), len(batch), time.Until(first), err)
	switch {
	case err == nil:
		c.succeeded()
	case ctx.Err() == nil && !errors.Is(err, event.ErrStaleHandle):
		c.failed(err)
	}
	return err
}

// live resolves the leases that can no longer be confirmed and returns the others.
func (c *confirmer) live(batch []lease) []lease {
	now := time.Now()
	kept := batch[:0]
	for _, l := range batch {
		if l.handle != "" && now.Before(l.deadline) {
			kept = append(kept, l)
			continue
		}
		c.queue.relay.stats.late.Add(1)
		c.queue.log.Debug("settled too late to confirm: the event will come again and be confirmed then",
			zap.String("event_id", l.entry.ID), zap.String("event_type", l.entry.Type), zap.Bool("has_handle", l.handle != ""))
		c.queue.resolve(l, false)
	}
	return kept
}

func (c *confirmer) resolve(batch []lease, ok bool) {
	for _, l := range batch {
		c.queue.resolve(l, ok)
	}
}

func (c *confirmer) succeeded() {
	c.mu.Lock()
	c.worked = true
	c.mu.Unlock()
	c.streak.End().Report(c.queue.log, "confirming again")
}

func (c *confirmer) failed(err error) {
	c.queue.relay.stats.confirmErrors.Add(1)
	c.mu.Lock()
	worked := c.worked
	c.mu.Unlock()
	// A key that pulled before is not wrong from the start: somebody replaces it.
	if retry.IsPermanent(err) && !worked && (!retry.IsKeyRefused(err) || !c.queue.worked.Load()) {
		c.queue.fail(&fatalError{err})
		return
	}
	if c.streak.Fail(err) {
		c.queue.log.Error("cannot confirm settled events; trying again while their leases last", errorFields(err)...)
	}
}
