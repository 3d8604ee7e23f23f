package group

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// ErrClosed is what is returned after Close.
var ErrClosed = errors.New("the sink is closed")

// queueLength is how many items wait; a further Submit waits for a place.
const queueLength = 1024

// Item is embedded in what a Batcher puts into batches.
type Item struct {
	Size    int         // in bytes
	claimed atomic.Bool // by a batch, which will send it, or by a Submit that gave up
	err     error       // may be read once done is closed
	done    chan struct{}
}

// NewItem is one of size bytes.
func NewItem(size int) *Item { return &Item{Size: size, done: make(chan struct{})} }

// Finish ends the Submit of it with err. It comes once.
func (it *Item) Finish(err error) {
	it.err = err
	close(it.done)
}

// Err is what it was finished with; nil before.
func (it *Item) Err() error {
	select {
	case <-it.done:
		return it.err
	default:
		return nil
	}
}

// giveUp is the result of a Submit that waits no longer: its batch's if that just ended, else err.
func (it *Item) giveUp(err error) error {
	it.claimed.Store(true)
	select {
	case <-it.done:
		return it.err
	default:
		return err
	}
}

func (it *Item) item() *Item { return it }

// Limits bound a Batcher.
type Limits struct {
	Workers int // batches that are under way at a time
	Items   int // in a batch at most; 0: as many as wait
	Bytes   int // a batch is not made longer than this, unless by its last item
}

// Batcher puts what is submitted at the same time into common batches: nobody waits for company, but what
// arrives while the workers are busy shares the next batch.
type Batcher[T interface{ item() *Item }] struct {
	limits  Limits
	send    func(batch []T) // finishes each
	after   func()
	queue   chan T
	closing chan struct{}
	closed  sync.Once
	working atomic.Int64
	done    chan struct{}
}

// NewBatcher starts the workers. send gets whole batches, in the order in which their items were submitted,
// and must finish each item. after, unless nil, is called when the last worker has ended.
func NewBatcher[T interface{ item() *Item }](limits Limits, send func(batch []T), after func()) *Batcher[T] {
	b := &Batcher[T]{limits: limits, send: send, after: after, queue: make(chan T, queueLength), closing: make(chan struct{}), done: make(chan struct{})}
	b.working.Store(int64(limits.Workers))
	for range limits.Workers {
		go b.work()
	}
	return b
}

// Submit returns what t was finished with. When ctx is done first it returns ctx's error at once; t is then
// left out if its batch has not begun. It is safe for concurrent use.
func (b *Batcher[T]) Submit(ctx context.Context, t T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-b.closing:
		return ErrClosed
	default:
	}
	select {
	case b.queue <- t:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		return ErrClosed
	}
	it := t.item()
	select {
	case <-it.done:
		return it.err
	case <-ctx.Done():
		return it.giveUp(ctx.Err())
	case <-b.done:
		return it.giveUp(ErrClosed)
	}
}

// Waiting is how many items wait for a batch.
func (b *Batcher[T]) Waiting() int { return len(b.queue) }

// Close sends what waits and ends the workers. When ctx is done first it returns ctx's error; the workers then
// end as soon as their batches do.
func (b *Batcher[T]) Close(ctx context.Context) error {
	b.closed.Do(func() { close(b.closing) })
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-b.done:
		return nil
	default:
		return ctx.Err()
	}
}

// Done is closed when every worker has ended.
func (b *Batcher[T]) Done() <-chan struct{} { return b.done }

func (b *Batcher[T]) work() {
	defer func() {
		if b.working.Add(-1) > 0 {
			return
		}
		if b.after != nil {
			b.after()
		}
		close(b.done)
	}()
	for {
		var first T
		select {
		case first = <-b.queue:
		case <-b.closing:
			select {
			case first = <-b.queue:
			default:
				return
			}
		}
		// Others that are about to submit, often woken by the same reply of the queue, may do so first: a
		// batch was seldom more than one item without, where it costs next to nothing to send.
		runtime.Gosched()
		if batch := b.gather(first); len(batch) > 0 {
			b.send(batch)
		}
	}
}

// gather takes first and what waits behind it.
func (b *Batcher[T]) gather(first T) []T {
	var batch []T
	size := 0
	for t := first; ; {
		if it := t.item(); it.claimed.CompareAndSwap(false, true) {
			batch = append(batch, t)
			size += it.Size
		}
		if b.limits.Items > 0 && len(batch) >= b.limits.Items || size >= b.limits.Bytes {
			return batch
		}
		select {
		case t = <-b.queue:
		default:
			return batch
		}
	}
}
