package kafka

import (
	"context"
	"sync"
	"time"
)

const (
	// A record that was written after its Send had given up is remembered for as long, so that the next
	// Send of it succeeds at once and no second copy is written.
	unclaimedAge = 10 * time.Minute
	maxUnclaimed = maxBufferedRecords
)

// fingerprint is the same for records that are the same in every byte.
type fingerprint [32]byte

// flights are the records between produce and acknowledgement. A record that may have been sent cannot be
// taken back, so its Send leaves it behind when its time is over; the next attempt then joins it, where a
// second record would be a duplicate.
type flights struct {
	mu        sync.Mutex
	inAir     map[fingerprint]*flight
	unclaimed map[fingerprint]time.Time // when it was written
	order     []landing                 // of unclaimed, oldest first; may name records that were claimed since
}

type landing struct {
	record fingerprint
	at     time.Time
}

type flight struct {
	waiting int // guarded by flights.mu
	done    chan struct{}
	err     error // may be read once done is closed
}

func newFlights() *flights {
	return &flights{inAir: make(map[fingerprint]*flight), unclaimed: make(map[fingerprint]time.Time)}
}

// send waits for the outcome of record. If no such record is on its way it calls produce, which must call
// landed exactly once and must not wait for that.
func (f *flights) send(ctx context.Context, record fingerprint, produce func(landed func(error))) error {
	f.mu.Lock()
	if at, ok := f.unclaimed[record]; ok {
		delete(f.unclaimed, record)
		if time.Since(at) < unclaimedAge {
			f.mu.Unlock()
			return nil
		}
	}
	fl, found := f.inAir[record]
	if !found {
		fl = &flight{done: make(chan struct{})}
		f.inAir[record] = fl
	}
	fl.waiting++
	f.mu.Unlock()
	if !found {
		produce(func(err error) { f.land(record, fl, err) })
	}
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-fl.done: // its outcome may have counted on this Send
		return fl.err
	default:
		fl.waiting--
		return ctx.Err()
	}
}

func (f *flights) land(record fingerprint, fl *flight, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.inAir, record)
	if err == nil && fl.waiting == 0 {
		f.remember(record, time.Now())
	}
	fl.err = err
	close(fl.done)
}

func (f *flights) remember(record fingerprint, now time.Time) {
	f.unclaimed[record] = now
	f.order = append(f.order, landing{record, now})
	for len(f.order) > maxUnclaimed || now.Sub(f.order[0].at) >= unclaimedAge {
		oldest := f.order[0]
		f.order = f.order[1:]
		if f.unclaimed[oldest.record].Equal(oldest.at) {
			delete(f.unclaimed, oldest.record)
		}
	}
}
