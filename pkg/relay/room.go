package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// usualReply is what a poll takes of the room at least: more than most replies have.
const usualReply = 64 << 10

// room bounds the bytes of the events in hand: places are for their number. What is larger than all of it fits alone.
// No semaphore, since what came unexpectedly must not stand in line behind polls that wait.
type room struct {
	mu         sync.Mutex
	most, used int64
	line       []*waiter
}

type waiter struct {
	need  int64
	ready chan struct{}
}

func (r *room) fits(n int64) bool { return r.used == 0 || r.used+n <= r.most }

// acquire waits for its turn, and until n fits.
func (r *room) acquire(ctx context.Context, n int64) error {
	r.mu.Lock()
	w := &waiter{n, make(chan struct{})}
	r.line = append(r.line, w)
	r.serve()
	r.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := slices.Index(r.line, w); at >= 0 {
		r.line = slices.Delete(r.line, at, at+1)
	} else { // its turn came meanwhile
		r.used -= n
	}
	r.serve()
	return ctx.Err()
}

// take takes n if it fits now.
func (r *room) take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fits(n) {
		return false
	}
	r.used += n
	return true
}

func (r *room) release(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	r.serve()
}

// resize changes what fits from now on.
func (r *room) resize(most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = most
	r.serve()
}

// serve gives those in line what fits, in turn.
func (r *room) serve() {
	for len(r.line) > 0 && r.fits(r.line[0].need) {
		r.used += r.line[0].need
		close(r.line[0].ready)
		r.line = r.line[1:]
	}
}

// reserve waits for as much as the next reply may need, which is the largest of the latest.
func (q *queue) reserve(ctx context.Context) (int64, error) {
	n := min(max(q.replies.largest(), usualReply), q.relay.cfg.Load().MaxBytesInHand)
	return n, q.relay.bytes.acquire(ctx, n)
}

// fit takes room for each delivery, first of what was reserved, and returns how much each has taken; 0: there was none,
// and its content is let go at once.
func (q *queue) fit(deliveries []event.Delivery, reserved int64) []int64 {
	taken, all, most := make([]int64, len(deliveries)), int64(0), q.relay.cfg.Load().MaxBytesInHand
	for i := range deliveries {
		d := &deliveries[i]
		size := int64(512 + len(d.Raw) + len(d.Handle) + len(d.Type))
		all += size
		size = min(size, most)
		switch {
		case size <= reserved:
			reserved -= size
		case q.relay.bytes.take(size - reserved):
			reserved = 0
		default:
			d.Raw = nil
			continue
		}
		taken[i] = size
	}
	q.relay.bytes.release(reserved)
	q.replies.note(all)
	return taken
}

// sizes knows how large the replies of the latest minutes were: what had no room comes again within one.
type sizes struct {
	mu           sync.Mutex
	now, earlier int64
	since        time.Time
}

func (s *sizes) note(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.since) > time.Minute {
		s.earlier, s.now, s.since = s.now, 0, time.Now()
	}
	s.now = max(s.now, size)
}

func (s *sizes) largest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.now, s.earlier)
}

func sum(all []int64) (n int64) {
	for _, each := range all {
		n += each
	}
	return n
}
