package app

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// noticeTime is the shortest time between two lines about the same thing.
const noticeTime = time.Minute

// notices report what may happen to every event: the first at once, and what follows in one line a minute with
// its number. What has not been written when the work ends is written by flush.
type notices struct {
	log   *zap.Logger
	begun chan struct{} // somebody must look after a notice from now on

	mu   sync.Mutex
	open map[string]*notice // by sink
}

// notice is what has happened since its last line.
type notice struct {
	due   time.Time // when the next line may be written
	count int
	err   error // the latest
}

func newNotices(log *zap.Logger) *notices {
	return &notices{log: log, begun: make(chan struct{}, 1), open: map[string]*notice{}}
}

// dead reports an event that became a dead letter of the sink.
func (n *notices) dead(sink string, _ event.Event, err error) {
	if n.add(sink, err) {
		n.write(sink, notice{count: 1, err: err})
	}
}

// add counts, and returns whether this is to be written now.
func (n *notices) add(sink string, err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if on := n.open[sink]; on != nil {
		on.count++
		on.err = err
		return false
	}
	n.open[sink] = &notice{due: time.Now().Add(noticeTime)}
	select {
	case n.begun <- struct{}{}:
	default:
	}
	return true
}

func (n *notices) write(sink string, what notice) {
	hint := "see `vodrelay parcels list --state dead --sink " + sink + "`, fix the cause, then `vodrelay parcels replay --state dead --sink " + sink + "`"
	if own := retry.Hint(what.err); own != "" {
		hint = own + "; " + hint
	}
	n.log.Error("events became dead letters: they wait for a person", zap.String("sink", sink),
		zap.Int("events", what.count), zap.Error(what.err), zap.String("hint", hint))
}

// run writes what is due until ctx is done.
func (n *notices) run(ctx context.Context) {
	for ctx.Err() == nil {
		n.wait(ctx, n.writeUntil(time.Now()))
	}
}

// wait waits until the time, or without end if that is zero, for a notice to begin, or for ctx.
func (n *notices) wait(ctx context.Context, until time.Time) {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-n.begun:
	case <-due:
	}
}

// flush writes all that has not been written.
func (n *notices) flush() { n.writeUntil(time.Now().Add(noticeTime)) }

// writeUntil writes what is due by then, forgets what has not happened again, and returns when to look again;
// zero: when something new begins.
func (n *notices) writeUntil(then time.Time) (next time.Time) {
	due := map[string]notice{}
	n.mu.Lock()
	for sink, on := range n.open {
		switch {
		case on.due.After(then):
		case on.count == 0:
			delete(n.open, sink)
			continue
		default:
			due[sink] = *on
			*on = notice{due: time.Now().Add(noticeTime)}
		}
		if next.IsZero() || on.due.Before(next) {
			next = on.due
		}
	}
	n.mu.Unlock()
	for sink, what := range due {
		n.write(sink, what)
	}
	return next
}
