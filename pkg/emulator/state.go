package emulator

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// Publish puts events into the queue of an application and returns their
// numbers, which count from 1 over all applications. Each content is the JSON
// of an event as VOD sends it; an EventHandle in it is left out. The contents
// are kept, so they must not change afterwards. Publish panics where Enqueue
// returns an error.
func (s *Server) Publish(subAppID uint64, content ...json.RawMessage) []int64 {
	numbers, err := s.Enqueue(subAppID, content...)
	if err != nil {
		panic("emulator: " + err.Error())
	}
	return numbers
}

// Enqueue is Publish with an error for a content that is not a JSON object, an
// application that does not exist, or a full queue. Then no event is
// published.
func (s *Server) Enqueue(subAppID uint64, content ...json.RawMessage) ([]int64, error) {
	first, err := s.enqueue(subAppID, content)
	if err != nil {
		return nil, err
	}
	numbers := make([]int64, len(content))
	for i := range numbers {
		numbers[i] = first + int64(i)
	}
	return numbers, nil
}

// HandleMark stands for the handle in the items of EnqueueRaw.
const HandleMark = "{{EventHandle}}"

// EnqueueRaw is Enqueue of items as they are to stand in EventSet, whatever they are: nothing is checked, added or
// left out, only HandleMark is replaced in each by the handle of its delivery. An item without it cannot be confirmed.
func (s *Server) EnqueueRaw(subAppID uint64, items ...[]byte) error {
	app, refused := s.queues.application(subAppID)
	if refused != nil {
		return fmt.Errorf("publish: %w", refused)
	}
	if _, err := s.queues.add(app, items, true); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	s.push()
	return nil
}

func (s *Server) enqueue(subAppID uint64, content []json.RawMessage) (first int64, err error) {
	app, apiErr := s.queues.application(subAppID)
	if apiErr != nil {
		return 0, fmt.Errorf("publish: %w", apiErr)
	}
	if first, err = s.queues.publish(app, content); err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	s.push()
	return first, nil
}

// Counts returns the counts of all applications together.
func (s *Server) Counts() Counts {
	var total Counts
	for _, c := range s.CountsBySubApp() {
		total.add(c)
	}
	return total
}

// CountsBySubApp returns the counts of each application.
func (s *Server) CountsBySubApp() map[uint64]Counts {
	q := s.queues
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance(time.Now())
	counts := make(map[uint64]Counts, len(q.order))
	for _, app := range q.order {
		c := app.counts
		c.Ready = int64(app.ready.len)
		c.Leased = app.leasedNow()
		c.Waiting = int64(app.waiters.Len())
		counts[app.id] = c
	}
	return counts
}

// leasedNow counts the events whose lease runs or starts with an answer that is on
// its way.
func (app *application) leasedNow() int64 {
	c := &app.counts
	return c.Published - c.Confirmed - c.Purged - int64(app.ready.len) - c.Acknowledged - c.GivenUp - c.Pushing
}

// Journal returns the entries that are kept, oldest first.
func (s *Server) Journal() []Entry { return s.JournalAfter(0, math.MaxInt) }

// JournalAfter returns at most limit entries whose Seq is greater than seq.
func (s *Server) JournalAfter(seq int64, limit int) []Entry {
	q := s.queues
	q.mu.Lock()
	q.advance(time.Now())
	entries := q.journal.after(max(seq, 0), limit)
	q.mu.Unlock()
	for i := range entries {
		if e := &entries[i]; e.Delivery > 0 {
			d := delivery{event: e.Event, app: e.app, count: e.Delivery}
			if s.opts.Variants.StableHandles {
				d.count = 0
			}
			e.Handle = string(s.handles.append(nil, d))
		}
	}
	return entries
}

// Confirmed reports whether the event was confirmed since the last Reset.
func (s *Server) Confirmed(event int64) bool {
	s.queues.mu.Lock()
	defer s.queues.mu.Unlock()
	return s.queues.confirmed.has(event)
}

// Pending returns the numbers of the events that are neither confirmed nor
// purged, in ascending order.
func (s *Server) Pending() []int64 {
	q := s.queues
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance(time.Now())
	numbers := make([]int64, 0, len(q.messages))
	for n := range q.messages {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}

// SetMode changes an application's callback mode at once.
func (s *Server) SetMode(subAppID uint64, mode string) error {
	if !oneOf(mode, ModePull, ModePush) {
		return fmt.Errorf("mode: %q, write PULL or PUSH", mode)
	}
	app, apiErr := s.queues.application(subAppID)
	if apiErr != nil {
		return fmt.Errorf("mode: %w", apiErr)
	}
	q := s.queues
	q.mu.Lock()
	defer q.mu.Unlock()
	app.config.setMode(mode, time.Now(), 0)
	app.wakeAll()
	return nil
}

// Reset forgets all events, counts, journal entries, faults, used quota and
// event configurations. Event numbers and journal sequence go on, so that a
// handle from before stays unknown.
func (s *Server) Reset() {
	s.ClearFaults()
	s.quotas.reset()
	s.queues.reset()
}

func (q *queues) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		m.place = placeGone // also for an answer that is on its way
		m.tail = nil
	}
	clear(q.messages)
	q.pushes = messageList{}
	q.confirmed = nil
	q.journal.clear()
	for _, app := range q.order {
		app.ready, app.leased, app.ages = messageList{}, messageList{}, messageList{kind: byAge}
		app.counts = Counts{}
		app.config = newEventConfig(q.opts)
		app.reported, app.reportedAt = 0, time.Time{}
		app.wakeAll()
	}
}
