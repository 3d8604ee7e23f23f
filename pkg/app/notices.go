package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	open map[topic]*notice
}

// topic is what notices are counted for: the dead letters of a sink, the parcels that it does not want any more, or the
// events that no sink wanted.
type topic struct {
	sink     string
	unwanted bool
}

var noSink = topic{}

// notice is what has happened since its last line.
type notice struct {
	due   time.Time // when the next line may be written
	count int
	err   error          // the latest
	types map[string]int // of events that no sink wanted
}

func newNotices(log *zap.Logger) *notices {
	return &notices{log: log, begun: make(chan struct{}, 1), open: map[topic]*notice{}}
}

// dead reports an event that became a dead letter of the sink.
func (n *notices) dead(sink string, _ event.Event, err error) { n.add(topic{sink: sink}, "", err) }

// unrouted reports an event of a type, of which there must be a bounded number, that no sink wanted.
func (n *notices) unrouted(eventType string) { n.add(noSink, eventType, nil) }

// unwanted reports a parcel whose event the sink's condition does not want any more.
func (n *notices) unwanted(sink string) { n.add(topic{sink, true}, "", nil) }

func (n *notices) add(about topic, eventType string, err error) {
	n.mu.Lock()
	on, first := n.open[about], false
	if on == nil {
		first = true
		on = &notice{due: time.Now().Add(noticeTime)}
		n.open[about] = on
		select {
		case n.begun <- struct{}{}:
		default:
		}
	}
	on.count++
	on.err = err
	if about == noSink {
		if on.types == nil {
			on.types = map[string]int{}
		}
		on.types[eventType]++
	}
	what := *on
	if first {
		*on = notice{due: on.due}
	}
	n.mu.Unlock()
	if first {
		n.write(about, what)
	}
}

func (n *notices) write(about topic, what notice) {
	sink := about.sink
	switch {
	case about.unwanted:
		n.log.Warn("parcels were deleted unsent: the condition (when) of their sink does not want them any more", zap.String("sink", sink), zap.Int("parcels", what.count),
			zap.String("hint", "if that is a mistake, correct `when`; the deleted ones do not come back"))
		return
	case about == noSink:
		n.log.Warn("events that no sink wanted were confirmed", zap.Int("events", what.count), zap.String("types", listed(what.types)),
			zap.String("hint", "if that is a mistake, correct `when` of the sinks, of which `vodrelay check` names types that are not documented; if it is meant, drop them with a `filter` processor"))
		return
	}
	hint := "see `vodrelay parcels list --state dead --sink " + sink + "`, fix the cause, then `vodrelay parcels replay --state dead --sink " + sink + "`"
	if own := retry.Hint(what.err); own != "" {
		hint = own + "; " + hint
	}
	n.log.Error("events became dead letters: they wait for a person", zap.String("sink", sink),
		zap.Int("events", what.count), zap.Error(what.err), zap.String("hint", hint))
}

// listed is how many there are of which type, the most first.
func listed(types map[string]int) string {
	names := slices.Sorted(maps.Keys(types))
	slices.SortStableFunc(names, func(a, b string) int { return types[b] - types[a] })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s: %d", name, types[name])
	}
	return strings.Join(names, ", ")
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
	due := map[topic]notice{}
	n.mu.Lock()
	for about, on := range n.open {
		switch {
		case on.due.After(then):
		case on.count == 0:
			delete(n.open, about)
			continue
		default:
			due[about] = *on
			*on = notice{due: time.Now().Add(noticeTime)}
		}
		if next.IsZero() || on.due.Before(next) {
			next = on.due
		}
	}
	n.mu.Unlock()
	for about, what := range due {
		n.write(about, what)
	}
	return next
}
