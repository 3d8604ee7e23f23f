package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	// pollFloor is the shortest time between two empty polls. A queue holds a poll for about 5 s before
	// it answers that it is empty; one that does not hold must not make the relay spin.
	pollFloor = time.Second
	// maxGrowth is how many pollers a full reply adds at most. With a long round trip the start would last, if
	// each brought only one more: 20 have to be under way for the quota at 200 ms.
	maxGrowth = 8
	// configPause is the wait after a Permanent error of a source that has worked before: whoever broke
	// the configuration may correct it again.
	configPause = 30 * time.Second
)

// errNoRoom leaves an event in the queue that is too large for what is in hand already.
var errNoRoom = retry.WithHint(errors.New("the events in hand are too large together for one more"),
	"raise relay.max_bytes_in_hand if the machine has the memory; nothing is lost, the event comes again")

var pullRetry = retry.Policy{Initial: 500 * time.Millisecond, Max: 30 * time.Second}

// queue is the way of one source's events through the relay.
type queue struct {
	relay    *Relay
	source   Source
	subAppID uint64
	log      *zap.Logger
	hand     *hand
	confirms *confirmer
	drain    *drain      // nil: run without end
	fail     func(error) // stops the whole relay

	pollers sync.WaitGroup
	mu      sync.Mutex
	polling int         // pollers alive
	worked  atomic.Bool // a pull has succeeded
	replies sizes
	pulls   retry.Streak
	// unsettling is of events that could not be settled, mostly by their own fault.
	unsettling retry.Streak
}

func newQueue(r *Relay, source Source) *queue {
	log := r.log
	if named, ok := source.(fmt.Stringer); ok {
		log = log.With(zap.String("queue", named.String()))
	}
	q := &queue{relay: r, source: source, log: log}
	if s, ok := source.(interface{ SubAppID() uint64 }); ok {
		q.subAppID = s.SubAppID()
	}
	q.hand = newHand(q.subAppID)
	q.confirms = newConfirmer(q)
	return q
}

// run polls until ctx is done or the drain is over. Work on what it pulls may go on until working is done.
func (q *queue) run(ctx, working context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if q.drain != nil {
		q.drain.begin(cancel)
	}
	q.grow(ctx, working, 0)
	q.pollers.Wait()
}

// grow adds pollers after a poll that took so long, but none that could only wait: for the rate limiter, or
// for places. Polls that began together come back together, so that there is a line at the limiter long
// before it is busy all the time. It is when the line lasts for a good part of a poll.
func (q *queue) grow(ctx, working context.Context, took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for added := range maxGrowth {
		var line float64 // in seconds, with those just added
		if limit := q.relay.pullLimit.Limit(); limit != rate.Inf {
			line = (float64(added) - q.relay.pullLimit.Tokens()) / float64(limit)
		}
		full := (q.polling+1)*event.MaxBatch > q.relay.cfg.Load().MaxInHand
		if q.polling > 0 && (full || line >= took.Seconds()/2) {
			return
		}
		q.polling++
		q.relay.stats.pollers.Add(1)
		q.pollers.Go(func() {
			q.poll(ctx, working)
			q.relay.stats.pollers.Add(-1)
		})
	}
}

// shrink reports whether the calling poller should end because another one goes on.
func (q *queue) shrink() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.polling == 1 {
		return false
	}
	q.polling--
	return true
}

// poll is one poller: reserve, pull, hand out, again.
func (q *queue) poll(ctx, working context.Context) {
	pause := pullRetry.Backoff()
	for {
		if q.drain != nil && q.drain.polling(ctx) != nil {
			return
		}
		// Bytes come before places, here and in admit, so that nobody who has places waits for bytes.
		bytes, err := q.reserve(ctx)
		if err != nil {
			return
		}
		if q.relay.places.Acquire(ctx, event.MaxBatch) != nil {
			q.relay.bytes.release(bytes)
			return
		}
		waiting := time.Now()
		if q.relay.pullLimit.Wait(ctx) != nil {
			q.relay.places.Release(event.MaxBatch)
			q.relay.bytes.release(bytes)
			return
		}
		started, changed := time.Now(), q.credentialChanged()
		q.relay.observer.PullWaited(started.Sub(waiting))
		deliveries, err := q.pull(ctx)
		if err == nil || ctx.Err() == nil {
			q.relay.observer.PullDone(time.Since(started), len(deliveries), err)
		}
		if err != nil {
			q.relay.places.Release(event.MaxBatch)
			q.relay.bytes.release(bytes)
			if q.drain != nil {
				q.drain.failed(err)
			}
			if !q.pullFailed(ctx, err) || q.shrink() || retry.SleepOr(ctx, q.rest(q.pauseAfter(err, pause)), changed) != nil {
				return
			}
			continue
		}
		pause.Reset()
		q.pullWorked()
		fresh := q.admit(ctx, working, deliveries, q.fit(deliveries, bytes))
		if q.drain != nil {
			q.drain.polled(ctx, started, fresh)
		}
		switch {
		case len(deliveries) >= event.MaxBatch:
			q.grow(ctx, working, time.Since(started))
		case fresh == 0:
			if q.shrink() || retry.Sleep(ctx, q.rest(pollFloor-time.Since(started))) != nil {
				return
			}
		}
	}
}

// credentialChanged is the source's channel of that name, nil if it has none.
func (q *queue) credentialChanged() <-chan struct{} {
	if s, ok := q.source.(interface{ CredentialChanged() <-chan struct{} }); ok {
		return s.CredentialChanged()
	}
	return nil
}

// pull makes one poll. After a stop it goes on while it is young, see youngPoll.
func (q *queue) pull(ctx context.Context) ([]event.Delivery, error) {
	defer q.relay.steps.begin("a poll")()
	poll, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started := time.Now()
	ended := make(chan struct{})
	stopWatching := context.AfterFunc(ctx, func() {
		defer close(ended)
		defer cancel()
		_ = retry.Sleep(poll, youngPoll-time.Since(started))
	})
	q.relay.stats.pulls.Add(1)
	deliveries, err := q.source.Pull(poll)
	cancel()
	if !stopWatching() {
		<-ended
	}
	return deliveries, err
}

// pullFailed counts and tells a failed pull, and reports whether to try again.
func (q *queue) pullFailed(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	q.relay.stats.pullErrors.Add(1)
	// A daemon waits for another key; nobody replaces one while a drain waits.
	if refused := retry.IsPermanent(err) || q.drain != nil && retry.IsKeyRefused(err); refused && !q.worked.Load() {
		q.fail(&fatalError{retry.Permanent(err)})
		return false
	}
	if q.pulls.Fail(err) {
		q.log.Error("cannot pull events; trying again", errorFields(err)...)
	}
	if q.drain != nil && q.drain.pullFailing() {
		q.fail(&fatalError{fmt.Errorf("giving up the drain after %s without a successful pull: %w", drainPatience, err)})
		return false
	}
	return true
}

func (q *queue) pauseAfter(err error, pause *retry.Backoff) time.Duration {
	wait := max(pause.Next(), retry.Delay(err))
	if retry.IsPermanent(err) {
		wait = max(wait, configPause)
	}
	return wait
}

// rest is how long the next poll waits, pause at least.
func (q *queue) rest(pause time.Duration) time.Duration {
	if q.drain == nil {
		return pause
	}
	return q.drain.rest(pause)
}

func (q *queue) pullWorked() {
	q.pulls.End().Report(q.log, "pulling again")
	if q.worked.CompareAndSwap(false, true) {
		q.log.Info("connected to the queue")
	}
}

// admit hands out what a poll brought and returns the places that are not needed. fresh counts the
// deliveries that mean anything new: a drain is over when nothing of the kind comes any more. bytes is the room that each
// has taken; what has none is left in the queue.
func (q *queue) admit(ctx, working context.Context, deliveries []event.Delivery, bytes []int64) (fresh int) {
	q.relay.stats.received.Add(int64(len(deliveries)))
	reserved := event.MaxBatch
	var together *shared
	defer func() {
		together.done()
		q.relay.bytes.release(sum(bytes))
		q.relay.places.Release(int64(reserved))
	}()
	for i, d := range deliveries {
		q.relay.observer.Received(d.Type)
		if q.drain != nil && q.drain.exhausted(d.ID) {
			continue
		}
		fresh++
		if reserved == 0 { // more than the API allows in one reply: each further event waits for its place
			if q.relay.places.Acquire(ctx, 1) != nil {
				return fresh // not worked on, so the queue delivers them again
			}
			reserved = 1
		}
		entry, lease, how := q.hand.admit(d)
		if how == joinedWorking || how == joinedSettled {
			q.relay.stats.joined.Add(1)
			if how == joinedSettled {
				q.confirms.send(lease)
			}
			continue
		}
		q.relay.stats.inHand.Add(1)
		if q.drain != nil {
			q.drain.opened()
		}
		reserved--
		entry.bytes, bytes[i] = bytes[i], 0
		switch {
		case how == remembered:
			q.relay.stats.remembered.Add(1)
			q.confirms.send(lease)
		case entry.bytes == 0:
			entry.untried = true
			q.unsettled(entry, errNoRoom)
		default:
			together = together.join(working, entry.Deadline.Add(-confirmMargin), q.relay.prepare)
			ctx := together
			q.relay.workers.run(func() {
				defer ctx.done()
				q.work(ctx.Context, entry)
			})
		}
	}
	return fresh
}
