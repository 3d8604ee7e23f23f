package rabbitmq

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	queueLength = 1024 // events that wait; a further Send waits for a place
	maxInFlight = 1024 // messages without a confirm
	closeLimit  = 2 * time.Second
)

// item is one Send that waits.
type item struct {
	exchange, routingKey string
	publishing           amqp.Publishing

	claimed  atomic.Bool // by the publisher, which will send it, or by a Send that gave up
	confirm  *amqp.DeferredConfirmation
	returned *amqp.Return
	err      error // may be read once outcome is closed
	outcome  chan struct{}
}

func (it *item) settle(err error) {
	it.err = err
	close(it.outcome)
}

// giveUp is the result of a Send that waits no longer: the event's if that is just settled, else err.
func (it *item) giveUp(err error) error {
	it.claimed.Store(true)
	select {
	case <-it.outcome:
		return it.err
	default:
		return err
	}
}

// connection is one connection to a node with one channel, on which many messages are without a confirm at
// a time. Two goroutines serve it: one publishes, so that a broker which does not read holds up no Send
// beyond its context, and one settles what the broker says. It is not repaired but replaced.
type connection struct {
	client *amqp.Connection
	wire   *socket

	channel  *amqp.Channel
	returns  chan amqp.Return
	confirms chan amqp.Confirmation
	closes   chan *amqp.Error
	blocks   chan amqp.Blocking

	queue    chan *item
	slots    chan struct{}
	dying    chan struct{} // closed when nothing more is published
	finished chan struct{} // closed when every message that was published is settled
	work     sync.WaitGroup

	blocked atomic.Pointer[string] // why the broker takes nothing; nil: it does

	mu      sync.Mutex
	next    uint64 // delivery tag of the latest message
	pending map[uint64]*item
}

func newConnection(client *amqp.Connection, wire *socket) (*connection, error) {
	channel, err := client.Channel()
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return nil, err
	}
	return &connection{
		client: client, wire: wire, channel: channel,
		// Never full: the client stalls, or loses what it has to tell, where they are.
		returns:  channel.NotifyReturn(make(chan amqp.Return, maxInFlight)),
		confirms: channel.NotifyPublish(make(chan amqp.Confirmation, maxInFlight)),
		closes:   channel.NotifyClose(make(chan *amqp.Error, 1)),
		blocks:   client.NotifyBlocked(make(chan amqp.Blocking, 16)),
		queue:    make(chan *item, queueLength),
		slots:    make(chan struct{}, maxInFlight),
		dying:    make(chan struct{}),
		finished: make(chan struct{}),
		pending:  make(map[uint64]*item),
	}, nil
}

func (c *connection) start() {
	c.work.Go(c.settleAll)
	c.work.Go(c.publishAll)
}

// send returns the outcome of it. When ctx is done first, it is left out if it was not yet published.
func (c *connection) send(ctx context.Context, it *item) error {
	select {
	case c.queue <- it:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.dying:
		return errDisconnected
	}
	select {
	case <-it.outcome:
		return it.err
	case <-ctx.Done():
		return it.giveUp(ctx.Err())
	case <-c.finished:
		return it.giveUp(errDisconnected)
	}
}

func (c *connection) publishAll() {
	for {
		select {
		case <-c.dying:
			return
		case it := <-c.queue:
			select {
			case <-c.dying:
				return
			case c.slots <- struct{}{}:
			}
			if !it.claimed.CompareAndSwap(false, true) {
				<-c.slots
				continue
			}
			if !c.publish(it) {
				return
			}
		}
	}
}

// publish reports whether the connection is still of use.
func (c *connection) publish(it *item) bool {
	c.mu.Lock()
	c.next++
	tag := c.next
	c.pending[tag] = it
	c.mu.Unlock()
	confirm, err := c.channel.PublishWithDeferredConfirm(it.exchange, it.routingKey, true, false, it.publishing)
	c.mu.Lock()
	it.confirm = confirm
	c.mu.Unlock()
	if err != nil {
		// The client has counted this tag back, and the message may be out all the same.
		if errors.Is(err, amqp.ErrClosed) {
			c.awaitReason()
		}
		_ = c.wire.Close()
		<-c.finished
		c.mu.Lock()
		delete(c.pending, tag) // where it came too late to be settled
		c.mu.Unlock()
		return false
	}
	return true
}

// awaitReason gives the client time to tell why it has closed the channel, which it does after it has: whoever
// closes the connection before is the reason then, and a message that is too large is sent again.
func (c *connection) awaitReason() {
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	select {
	case <-c.finished:
	case <-limit.C:
	}
}

// settleAll runs until the channel or the connection is closed, by whichever side.
func (c *connection) settleAll() {
	for {
		select {
		case r, ok := <-c.returns:
			if !ok {
				c.returns = nil // a closed channel is always ready
				continue
			}
			c.markReturned(r)
		case b, ok := <-c.blocks:
			if !ok {
				c.blocks = nil
				continue
			}
			c.blocked.Store(nil)
			if b.Active {
				c.blocked.Store(&b.Reason)
			}
		case confirm, ok := <-c.confirms:
			c.drainReturns() // a message is returned before it is confirmed
			if !ok {
				c.finish()
				return
			}
			c.settle(confirm)
		}
	}
}

func (c *connection) drainReturns() {
	for {
		select {
		case r, ok := <-c.returns:
			if !ok {
				c.returns = nil
				return
			}
			c.markReturned(r)
		default:
			return
		}
	}
}

// markReturned finds the message by its ID, which is all that a return tells. Of several with the same ID
// all are marked: one too many is only sent again.
func (c *connection) markReturned(r amqp.Return) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.pending {
		if it.publishing.MessageId == r.MessageId && it.exchange == r.Exchange && it.routingKey == r.RoutingKey {
			it.returned = &r
		}
	}
}

func (c *connection) settle(confirm amqp.Confirmation) {
	c.mu.Lock()
	it := c.pending[confirm.DeliveryTag]
	delete(c.pending, confirm.DeliveryTag)
	c.mu.Unlock()
	if it == nil {
		return
	}
	<-c.slots
	it.settle(it.verdict(confirm.Ack, errRejected))
}

// verdict is what a message without an ack fails with, unless it was returned.
func (it *item) verdict(ack bool, otherwise error) error {
	switch {
	case it.returned != nil:
		return &returnedError{exchange: it.exchange, routingKey: it.routingKey, code: it.returned.ReplyCode}
	case ack:
		return nil
	}
	return otherwise
}

// finish settles what has no confirm when the channel is closed.
func (c *connection) finish() {
	var reason *amqp.Error
	select {
	case reason = <-c.closes: // comes before the other channels are closed
	default:
	}
	close(c.dying)
	if reason != nil && reason.Server && !c.client.IsClosed() { // only the channel is closed
		c.closeClient(time.Now().Add(closeLimit))
	}
	_ = c.wire.Close() // also ends a publish that the broker does not read
	c.mu.Lock()
	defer c.mu.Unlock()
	for tag, it := range c.pending {
		delete(c.pending, tag)
		// Confirms come in order from the client. One that was ahead of the others counts all the same.
		it.settle(it.verdict(it.confirm != nil && it.confirm.Acked(), c.failureOf(it, reason)))
	}
	close(c.finished)
}

// failureOf is why it was not confirmed.
func (c *connection) failureOf(it *item, reason *amqp.Error) error {
	if reason == nil {
		return errDisconnected
	}
	if !reason.Server {
		return closedBy(c.wire, reason)
	}
	if !it.blameable(reason) {
		return errors.Join(errDisconnected, reason)
	}
	return reason
}

// close waits until what was published is confirmed. When ctx is done first it gives the rest up, and
// returns how many those were.
func (c *connection) close(ctx context.Context) (left int) {
	for range maxInFlight { // each place that a message without a confirm has
		select {
		case c.slots <- struct{}{}:
			continue
		case <-ctx.Done():
		case <-c.finished:
		}
		break
	}
	left = c.unsettled()
	deadline := time.Now().Add(closeLimit)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	if left == 0 {
		c.closeClient(deadline)
	}
	_ = c.wire.Close()
	c.work.Wait()
	return left
}

// closeClient says goodbye, so that the broker does not log a broken connection.
func (c *connection) closeClient(deadline time.Time) {
	// A publish that hangs would hold up the client's own deadline.
	stop := time.AfterFunc(time.Until(deadline), func() { _ = c.wire.Close() })
	defer stop.Stop()
	_ = c.client.CloseDeadline(deadline)
}

func (c *connection) unsettled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}
