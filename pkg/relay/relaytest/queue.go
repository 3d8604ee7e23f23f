// Package relaytest helps to test what stands on either side of the engine: an event queue in memory with
// the leases of the real one, and the contract suite that every relay.Source passes.
package relaytest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Queue is a relay.Source in memory. Pull waits for up to Hold for an event; a delivery that is not
// confirmed within event.LeaseTime is delivered again with another handle. Faults are set as functions, so
// that a test can say exactly which call fails. The zero value is an empty queue that answers at once.
type Queue struct {
	// Hold is how long a poll of an empty queue waits.
	Hold time.Duration
	// Latency is the time between a request and its effect, and again between the effect and its reply.
	Latency time.Duration
	// OnPull, if set, runs before each pull; its error is returned in place of events.
	OnPull func(call int) error
	// LosePull, if set, runs after a pull has leased events; its error is returned in their place, as when only
	// the reply is lost.
	LosePull func(call int) error
	// OnConfirm, if set, runs before each confirm. With applied the handles are confirmed all the same,
	// as when only the reply is lost.
	OnConfirm func(call int, handles []string) (applied bool, err error)

	mu        sync.Mutex
	wake      chan struct{}
	messages  []*Message
	pulls     int
	confirms  int
	nextToken int
}

// Message is one published event as the queue sees it.
type Message struct {
	Content     json.RawMessage
	ID          string
	Deliveries  int
	Confirmed   bool
	ConfirmedAt time.Time

	handle string
	until  time.Time
}

// Publish puts events into the queue: EventContents without EventHandle.
func (q *Queue) Publish(contents ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range contents {
		e, _, _ := event.Decode([]byte(c), 0)
		q.messages = append(q.messages, &Message{Content: json.RawMessage(c), ID: e.ID})
	}
	if q.wake != nil {
		close(q.wake)
		q.wake = nil
	}
}

// PublishUploads puts n different NewFileUpload events into the queue.
func (q *Queue) PublishUploads(n int) {
	q.mu.Lock()
	from := len(q.messages)
	q.mu.Unlock()
	contents := make([]string, n)
	for i := range contents {
		contents[i] = fmt.Sprintf(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%d","MediaBasicInfo":{"Name":"clip %d"}}}`, 5285890784273533167+uint64(from+i), i)
	}
	q.Publish(contents...)
}

// Messages is a copy of everything that was published.
func (q *Queue) Messages() []Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Message, len(q.messages))
	for i, m := range q.messages {
		all[i] = *m
	}
	return all
}

// Unconfirmed counts the messages that are still in the queue.
func (q *Queue) Unconfirmed() (n int) {
	for _, m := range q.Messages() {
		if !m.Confirmed {
			n++
		}
	}
	return n
}

// Calls is how many pulls and confirms were made.
func (q *Queue) Calls() (pulls, confirms int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pulls, q.confirms
}

// Pull implements relay.Source.
func (q *Queue) Pull(ctx context.Context) ([]event.Delivery, error) {
	q.mu.Lock()
	q.pulls++
	call, fault, lose := q.pulls, q.OnPull, q.LosePull
	q.mu.Unlock()
	if err := retry.Sleep(ctx, q.Latency); err != nil {
		return nil, err
	}
	if fault != nil {
		if err := fault(call); err != nil {
			return nil, err
		}
	}
	hold := time.NewTimer(q.Hold)
	defer hold.Stop()
	for {
		deliveries, wake, expiry := q.take()
		if len(deliveries) > 0 {
			if lose != nil {
				if err := lose(call); err != nil {
					return nil, err
				}
			}
			return deliveries, retry.Sleep(context.WithoutCancel(ctx), q.Latency)
		}
		if q.Hold <= 0 {
			return nil, retry.Sleep(ctx, q.Latency)
		}
		lease := time.NewTimer(expiry)
		select {
		case <-ctx.Done():
			lease.Stop()
			return nil, ctx.Err()
		case <-hold.C:
			lease.Stop()
			return nil, retry.Sleep(ctx, q.Latency)
		case <-lease.C:
		case <-wake:
			lease.Stop()
		}
	}
}

// take leases up to a batch. Without any it returns what announces the next publication, and the time
// until the next lease ends.
func (q *Queue) take() ([]event.Delivery, <-chan struct{}, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	expiry := time.Hour
	var out []event.Delivery
	for _, m := range q.messages {
		if m.Confirmed {
			continue
		}
		if left := m.until.Sub(now); left > 0 {
			expiry = min(expiry, left)
			continue
		}
		q.nextToken++
		m.handle = "handle-" + strconv.Itoa(q.nextToken)
		m.until = now.Add(event.LeaseTime)
		m.Deliveries++
		e, _, _ := event.Decode(m.Content, 0)
		out = append(out, event.Delivery{Event: e, Handle: m.handle, ReceivedAt: now, Deadline: m.until})
		if len(out) == event.MaxBatch {
			break
		}
	}
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	return out, q.wake, expiry
}

// Confirm implements relay.Source. A batch with a stale handle confirms nothing.
func (q *Queue) Confirm(ctx context.Context, handles []string) error {
	q.mu.Lock()
	q.confirms++
	call, fault := q.confirms, q.OnConfirm
	q.mu.Unlock()
	if err := retry.Sleep(ctx, q.Latency); err != nil {
		return err
	}
	var lost error
	if fault != nil {
		applied, err := fault(call, handles)
		if err != nil && !applied {
			return err
		}
		lost = err
	}
	if err := q.delete(handles); err != nil {
		return err
	}
	if err := retry.Sleep(ctx, q.Latency); err != nil {
		return err
	}
	return lost
}

func (q *Queue) delete(handles []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	found := make([]*Message, 0, len(handles))
	for _, h := range handles {
		for _, m := range q.messages {
			if m.handle == h && !m.Confirmed && now.Before(m.until) {
				found = append(found, m)
			}
		}
	}
	if len(found) < len(handles) {
		return fmt.Errorf("%d of %d handles: %w", len(handles)-len(found), len(handles), event.ErrStaleHandle)
	}
	for _, m := range found {
		m.Confirmed, m.ConfirmedAt = true, now
	}
	return nil
}
