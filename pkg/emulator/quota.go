package emulator

import (
	"sync"
	"time"
)

// quotas limit requests per second for each action. The real limit is known,
// how it is measured is not: here it is a bucket that holds one second's worth.
type quotas struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	limit, left float64
	last        time.Time
}

func newQuotas(limits map[string]int) *quotas {
	q := &quotas{buckets: make(map[string]*bucket)}
	for action, n := range limits {
		if n > 0 {
			q.buckets[action] = &bucket{limit: float64(n), left: float64(n)}
		}
	}
	return q
}

func (q *quotas) take(action string, now time.Time) *apiError {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.buckets[action]
	if b == nil {
		return nil
	}
	if !b.last.IsZero() {
		b.left = min(b.limit, b.left+now.Sub(b.last).Seconds()*b.limit)
	}
	b.last = now
	if b.left < 1 {
		return refuse(codeRequestLimitExceeded,
			"The request frequency exceeds the limit of %d for a second. Please retry later.", int(b.limit))
	}
	b.left--
	return nil
}

func (q *quotas) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.buckets {
		b.left = b.limit
	}
}
