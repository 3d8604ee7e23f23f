package relay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	// drainPolls is how many polls in a row must bring nothing before a queue counts as empty. One is not
	// enough: a queue spread over several servers may answer for one of them.
	drainPolls = 2
	// drainTries is how often a drain works on an event that does not settle, or does not let itself be
	// confirmed, before it leaves it in the queue.
	drainTries = 2
	// drainSlack is how long after the end of a lease an event may come back: the clocks differ.
	drainSlack = time.Second
	// depthLag is how late DrainOptions.Depth may be. Source: DescribeEventsState,
	// https://cloud.tencent.com/document/api/266/48758.
	depthLag = 3 * time.Minute
)

const waitingForLeases = "the queue is empty; waiting for the end of the lease of events that may come back"

// drain decides when one queue is drained.
type drain struct {
	all   *drains
	queue *queue

	mu     sync.Mutex
	finish context.CancelFunc // ends the queue's pollers
	ended  bool
	over   bool // ended because the queue was empty

	polls     int                   // that have begun and not ended
	open      int                   // events in hand
	left      map[string]*straggler // by event ID
	unknown   time.Time             // until when events may be hidden that a pull leased whose reply was lost
	lastPull  time.Time             // the last one that worked
	lastEvent time.Time             // the last one that meant anything new, or the start
	events    bool                  // one meant anything new

	// The polls in a row that brought nothing new.
	row    int
	since  time.Time // when the first of them began
	latest time.Time // when the latest of them began

	counted uint64 // events that are said to wait, beside those that are known to be left
	told    map[string]bool
}

// straggler is an event that was pulled and not confirmed.
type straggler struct {
	tries int
	due   time.Time // when its lease ends and it can come again
}

// begin takes over the function that ends the queue's pollers.
func (d *drain) begin(finish context.CancelFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finish = finish
	if d.ended {
		finish()
	}
}

// end ends the queue's pollers.
func (d *drain) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endLocked()
}

func (d *drain) endLocked() {
	d.ended = true
	if d.finish != nil {
		d.finish()
	}
}

// polling waits until another poll is allowed, and counts it. failed or polled follow, unless ctx is done.
func (d *drain) polling(ctx context.Context) error {
	if err := d.all.reserve(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.polls++
	return ctx.Err() // done if the drain has ended meanwhile
}

// failed records a poll that failed. It may have leased events all the same.
func (d *drain) failed(err error) {
	d.all.took(0)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.polls--
	if !retry.HadNoEffect(err) {
		d.unknown = time.Now().Add(event.LeaseTime)
	}
}

// polled records a poll that worked and brought so many events that mean anything new, and ends the drain when
// the queue is empty.
func (d *drain) polled(ctx context.Context, started time.Time, fresh int) {
	d.all.took(fresh)
	since, quiet := d.quiet(started, fresh)
	if !quiet {
		return
	}
	counted, err := d.all.count(ctx, d.queue.subAppID)
	switch {
	case ctx.Err() != nil:
	case retry.IsPermanent(err) && !retry.IsDoubtful(err) && !d.hadEvents():
		d.queue.fail(&fatalError{fmt.Errorf("the queue looks empty, but may be one that does not exist: %w", err)})
	default:
		d.conclude(since, counted, err == nil)
	}
}

// quiet records a poll that worked, and reports whether the polls have brought nothing for long enough, and
// since when.
func (d *drain) quiet(started time.Time, fresh int) (since time.Time, quiet bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.polls--
	d.lastPull = time.Now()
	if fresh > 0 {
		d.lastEvent, d.events = d.lastPull, true
	}
	if fresh > 0 || d.open > 0 {
		d.row = 0
		return d.since, false
	}
	if d.row++; d.row == 1 {
		d.since, d.latest = later(started, d.lastEvent), started
	}
	before := d.latest
	d.latest = started
	if started.Before(before) { // polls that overlapped
		before = started
	}
	switch {
	case d.polls > 0 || d.row < drainPolls: // the last one to return decides
		return d.since, false
	case d.awaits(before):
		d.tell(waitingForLeases)
		return d.since, false
	case started.Sub(d.since) < d.all.opts.QuietFor:
		d.tell("the queue is empty; waiting one lease for events that another consumer may hold", zap.Duration("quiet_for", d.all.opts.QuietFor))
		return d.since, false
	}
	return d.since, true
}

func (d *drain) hadEvents() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.events
}

// awaits reports that something may not have been back in the queue yet at that time.
func (d *drain) awaits(at time.Time) bool {
	hidden := func(until time.Time) bool { return !at.After(until.Add(drainSlack)) }
	if !d.unknown.IsZero() && hidden(d.unknown) {
		return true
	}
	for _, s := range d.left {
		if s.tries < drainTries && hidden(s.due) {
			return true
		}
	}
	return false
}

// rest is how long the next poll waits, pause at least. While a queue looks empty and events may be hidden, more
// polls would prove nothing until these are back, and each one whose reply is lost would hide them anew.
func (d *drain) rest(pause time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := time.Until(d.unknown.Add(drainSlack)) + time.Millisecond
	if d.row == 0 || wait <= pause {
		return pause
	}
	d.tell(waitingForLeases)
	d.lastPull = d.lastPull.Add(wait - pause) // the patience is with attempts
	return wait
}

// conclude ends the drain of a queue that has been quiet since then, unless more events are counted that may
// still come, or it is not quiet any more.
func (d *drain) conclude(since time.Time, counted uint64, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || d.polls > 0 || d.row < drainPolls || !d.since.Equal(since) {
		return
	}
	exhausted := uint64(0)
	for _, s := range d.left {
		if s.tries >= drainTries {
			exhausted++
		}
	}
	if known {
		d.counted = max(counted, exhausted) - exhausted
	}
	if until := d.lastEvent.Add(depthLag + DefaultQuiet); d.counted > 0 && d.all.opts.QuietFor > 0 && time.Now().Before(until) {
		d.tell("the polls bring no more events, but some are still counted; polling on, since the number may be late by three minutes",
			zap.Uint64("counted", d.counted), zap.Time("until", until))
		return
	}
	// What is not back by now is not in the queue: its confirm arrived although the reply did not, or another
	// consumer has it.
	for id, s := range d.left {
		if s.tries < drainTries {
			delete(d.left, id)
		}
	}
	d.over = true
	d.endLocked()
}

// tell logs what the drain waits for, once.
func (d *drain) tell(message string, fields ...zap.Field) {
	if d.told[message] {
		return
	}
	if d.told == nil {
		d.told = make(map[string]bool)
	}
	d.told[message] = true
	d.queue.log.Info(message, fields...)
}

// exhausted reports an event that has had its tries and is left alone.
func (d *drain) exhausted(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.left[id]
	return s != nil && s.tries >= drainTries
}

// opened and closed record that an event came into hand, and that it left it: confirmed, or to come again after
// until. received is when it came first. Without tried nothing was attempted, since there was no room for it.
func (d *drain) opened() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
}

func (d *drain) closed(id string, received, until time.Time, tried, confirmed bool) {
	d.mu.Lock()
	d.open--
	s := d.left[id]
	switch {
	case !confirmed:
		if s == nil {
			s = &straggler{}
			d.left[id] = s
		}
		if tried {
			s.tries++
		}
		s.due = until
	case s != nil && !received.Before(s.due.Add(-drainSlack)): // what came earlier was a second message of the same content
		delete(d.left, id)
	}
	full := len(d.left) > drainMostLeft
	d.mu.Unlock()
	if full {
		d.queue.fail(&fatalError{ErrTooManyLeft})
	}
}

// pullFailing reports that pulls have failed for longer than a drain waits.
func (d *drain) pullFailing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.lastPull) > drainPatience
}
