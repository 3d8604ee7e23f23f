package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	// DefaultQuiet is the DrainOptions.QuietFor that proves a queue empty: what another consumer had pulled
	// and never confirmed, is back by then. A second is for the clocks to differ.
	DefaultQuiet = event.LeaseTime + time.Second

	// drainMostLeft bounds the events left: with more, something is broken that no drain will cure.
	drainMostLeft = 10_000
	// drainPatience is how long a drain goes on while every pull fails, or the store, or waits for the store to
	// be opened.
	drainPatience = 2 * time.Minute
	// countTime bounds a count of what is left in the store or in a queue, countLeast that of the store after
	// a stop.
	countTime  = 10 * time.Second
	countLeast = time.Second
	// arrivalsAfter and arrivalsEvery say when a drain that does not end reports that events keep arriving.
	arrivalsAfter = 2 * time.Minute
	arrivalsEvery = time.Minute
)

// ErrTooManyLeft ends a drain in which more than 10,000 events could not be settled or confirmed.
var ErrTooManyLeft = errors.New("too many events cannot be settled or confirmed: see the errors above, fix their cause, and drain again")

// DrainOptions say when a drain ends. The zero value ends it early, see QuietFor; DefaultDrain proves that
// nothing is left.
type DrainOptions struct {
	// QuietFor is how long all polls of a queue must bring nothing new before it counts as empty. Less than
	// DefaultQuiet leaves open what other consumers hold; with 0, two polls in a row are enough, and the
	// number of Depth is not waited for.
	QuietFor time.Duration
	// Max, if not 0, ends the drain when so many events have been pulled, over all queues. The last reply may
	// bring up to 15 more.
	Max int
	// Depth is about how many events wait in the queue of an application; it may be late by three minutes. A
	// queue of which it knows more is not called empty. nil, or an error, decides nothing; but an error that is
	// permanent, and not doubtful, ends the drain of a queue that had no event: one that does not exist looks
	// empty, too.
	Depth func(ctx context.Context, subAppID uint64) (uint64, error)
}

// DefaultDrain are the options that prove a queue empty, as far as polls can.
func DefaultDrain() DrainOptions { return DrainOptions{QuietFor: DefaultQuiet} }

// Summary is the result of a drain.
type Summary struct {
	Stats
	// Empty reports that nothing is left in any queue.
	Empty bool
	// Stopped reports that the drain was ended, by its context, DrainOptions.Max or an error, before every
	// queue had been quiet for long enough: more events may be there than those Left.
	Stopped bool
	// Left counts the events that the drain leaves in the queue: those that could not be settled or
	// confirmed in two deliveries, and those that were unfinished when it was stopped.
	Left int
	// Counted is how many events, beside those Left, DrainOptions.Depth still counted when they should have
	// come long since, or when DrainOptions.QuietFor was too short to wait for them.
	Counted uint64
	// Waiting and Dead count the parcels in the store at the end: those that will be tried again by
	// themselves, and those that wait for a person. They are 0 without Counts.
	Waiting, Dead int64
	// Elapsed is the time from the start to the last confirm; without any, to the end.
	Elapsed time.Duration
}

// Drain relays until nothing is left in the queues, as far as opts ask for proof, or ctx is done, which is a
// stop as in Run. A queue is empty after two polls in a row without anything new while nothing is in hand, and
// when the polls have been quiet for opts.QuietFor. What may come back is waited for: an event that was not
// confirmed, until its last lease is over, and then it is tried a second time; if that fails too it is left. A
// pull whose fate is unknown may have leased events that nobody knows of: two polls must begin after their lease,
// too. With a scheduler, every parcel that is due is then tried once; those of a sink that is down are left,
// after a probe. The error is that of Run, or says that the drain cannot get on.
func (r *Relay) Drain(ctx context.Context, opts DrainOptions) (Summary, error) {
	if begin, err := r.drainable(ctx); !begin {
		return Summary{Stats: r.Stats(), Stopped: true}, err
	}
	started := time.Now()
	all := newDrains(r, opts)
	watching, endWatch := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { all.watchArrivals(watching, r) })
	err := r.run(ctx, all.queues)
	endWatch()
	watcher.Wait()

	sum := Summary{Stats: r.Stats(), Elapsed: time.Since(started)}
	if last := r.stats.lastConfirm.Load(); last != 0 {
		sum.Elapsed = time.Unix(0, last).Sub(started)
	}
	for _, d := range all.queues {
		sum.Stopped = sum.Stopped || !d.over
		sum.Left += len(d.left)
		sum.Counted += d.counted
	}
	sum.Empty = err == nil && !sum.Stopped && sum.Left == 0 && sum.Counted == 0
	if r.counts == nil {
		return sum, err
	}
	limit := countTime
	if ctx.Err() != nil {
		limit = countLeast
	}
	counting, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var failed error
	if sum.Waiting, sum.Dead, failed = r.counts.Counts(counting); failed != nil {
		err = errors.Join(err, fmt.Errorf("count what is left in the store: %w", failed))
	}
	return sum, err
}

// drains are the drains of all queues, with what they share.
type drains struct {
	opts    DrainOptions
	log     *zap.Logger
	queues  []*drain
	room    *semaphore.Weighted // for events that Max still allows; nil: any number
	taken   atomic.Int64
	unknown sync.Once // it was said that nobody counts
}

func newDrains(r *Relay, opts DrainOptions) *drains {
	all := &drains{opts: opts, log: r.log}
	if opts.Max > 0 {
		// A poll reserves a whole batch, and begins while one event is still allowed.
		all.room = semaphore.NewWeighted(int64(opts.Max) + event.MaxBatch - 1)
	}
	now := time.Now()
	for _, q := range r.queues {
		all.queues = append(all.queues, &drain{all: all, queue: q, left: make(map[string]*straggler), lastPull: now, lastEvent: now})
	}
	return all
}

// reserve waits until a poll cannot exceed Max.
func (a *drains) reserve(ctx context.Context) error {
	if a.room == nil {
		return nil
	}
	return a.room.Acquire(ctx, event.MaxBatch)
}

// took gives back what a poll reserved and did not use, and ends all drains when Max is reached.
func (a *drains) took(events int) {
	if a.room == nil {
		return
	}
	a.room.Release(int64(max(event.MaxBatch-events, 0)))
	if a.taken.Add(int64(events)) >= int64(a.opts.Max) {
		for _, d := range a.queues {
			d.end()
		}
	}
}

// count asks how many events wait in a queue. That nobody knows is said once.
func (a *drains) count(ctx context.Context, subAppID uint64) (n uint64, err error) {
	if a.opts.Depth == nil {
		return 0, errNoDepth
	}
	counting, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	n, err = a.opts.Depth(counting, subAppID)
	if err != nil && ctx.Err() == nil {
		a.unknown.Do(func() {
			a.log.Warn("cannot ask how many events wait: the polls alone decide when the drain ends", errorFields(err)...)
		})
	}
	return n, err
}

// errNoDepth is the answer to how many events wait where nobody can be asked.
var errNoDepth = errors.New("nobody counts the events")

// watchArrivals reports now and then that events keep arriving, when the drain goes on although more events are
// confirmed than were counted at the start.
func (a *drains) watchArrivals(ctx context.Context, r *Relay) {
	started := time.Now()
	var atStart uint64
	for _, d := range a.queues {
		n, _ := a.count(ctx, d.queue.subAppID)
		atStart += n
	}
	ticker := time.NewTicker(arrivalsEvery)
	defer ticker.Stop()
	for before := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		confirmed := r.stats.confirmed.Load()
		if time.Since(started) >= arrivalsAfter && confirmed > before && uint64(confirmed) > atStart {
			a.log.Info("events keep arriving: more were confirmed than were counted at the start", zap.Int64("confirmed", confirmed), zap.Uint64("counted_at_start", atStart),
				zap.String("hint", "--for 10m or --max 10000 end a drain of such a queue; vodrelay run relays without end"))
		}
		before = confirmed
	}
}
