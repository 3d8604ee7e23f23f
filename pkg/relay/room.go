package relay

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// limit is a number of things in hand that can be changed while it is in use.
type limit struct {
	*semaphore.Weighted       // of most; what is above now is taken
	most                int64 // that it can be
	now                 int64 // the resizer's
	wanted              atomic.Int64
}

func newLimit(most, now int64) *limit {
	l := &limit{Weighted: semaphore.NewWeighted(most), most: most, now: now}
	l.wanted.Store(now)
	l.TryAcquire(most - now) // all are free
	return l
}

// resize brings it to what is wanted. Fewer come about as things leave the hand.
func (l *limit) resize(ctx context.Context) error {
	wanted := l.wanted.Load()
	if wanted > l.now {
		l.Release(wanted - l.now)
	} else if err := l.Acquire(ctx, l.now-wanted); err != nil {
		return err
	}
	l.now = wanted
	return nil
}

// usualReply is what a poll takes of Config.MaxBytesInHand at least: more than most replies have.
const usualReply = 64 << 10

// room is what a poll took for the events that it may bring. Places are for their number, room is for their size.
type room struct {
	relay *Relay
	held  int64
}

// reserve waits for as much as the next reply may need: twice the largest of the latest, or all that there is.
func (q *queue) reserve(ctx context.Context) (*room, error) {
	n := min(max(2*q.largest.Load(), usualReply), q.relay.bytes.wanted.Load())
	if err := q.relay.bytes.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return &room{q.relay, n}, nil
}

// sized remembers how large replies are; those that are smaller count for less each time.
func (q *queue) sized(deliveries []event.Delivery) {
	size := int64(0)
	for i := range deliveries {
		size += sizeOf(&deliveries[i])
	}
	q.largest.Store(max(size, q.largest.Load()/2))
}

// fit takes room for each delivery, and returns how much that is; 0: there is none. The content of such a one is
// let go at once. One that is larger than all the room there is takes all of it.
func (r *room) fit(deliveries []event.Delivery) []int64 {
	most := r.relay.bytes.wanted.Load()
	taken := make([]int64, len(deliveries))
	for i := range deliveries {
		size := min(sizeOf(&deliveries[i]), most)
		if lacks := size - r.held; lacks > 0 {
			if !r.relay.bytes.TryAcquire(lacks) {
				deliveries[i].Raw = nil
				continue
			}
			r.held += lacks
		}
		r.held -= size
		taken[i] = size
	}
	r.done()
	return taken
}

// done gives back what is left.
func (r *room) done() {
	r.relay.bytes.Release(r.held)
	r.held = 0
}

// sizeOf is about the memory that a delivery takes.
func sizeOf(d *event.Delivery) int64 { return int64(512 + len(d.Raw) + len(d.Handle) + len(d.Type)) }

func sum(all []int64) (n int64) {
	for _, each := range all {
		n += each
	}
	return n
}
