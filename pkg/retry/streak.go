package retry

import (
	"sync"
	"time"
)

// Streak turns a run of failures into few messages: one when it starts, one when the error's text changes,
// one when it ends. The zero value is ready, and safe for concurrent use.
type Streak struct {
	mu    sync.Mutex
	text  string
	count int
	since time.Time
}

// Fail counts a failure. It reports whether this one is worth a message: the first of a streak, or one
// that reads differently from the one before.
func (s *Streak) Fail(err error) (worthTelling bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		s.since = time.Now()
	}
	s.count++
	text := err.Error()
	worthTelling = text != s.text
	s.text = text
	return worthTelling
}

// End ends the streak after a success. count is how many failures it had, 0 if there was none, and lasted
// the time since the first.
func (s *Streak) End() (count int, lasted time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return 0, 0
	}
	count, lasted = s.count, time.Since(s.since)
	s.text, s.count = "", 0
	return count, lasted
}

// Failures is the number of failures of the streak that is on, 0 if none is.
func (s *Streak) Failures() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}
