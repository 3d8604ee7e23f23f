package retry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// kindsMost is how many kinds of errors a Streak tells apart.
	kindsMost = 8
	// kindTime is the shortest time between two messages about one kind of error, and the time after which a kind
	// that did not come again gives its place to another.
	kindTime = time.Minute
	// Quiet is the time for EndAfter.
	Quiet = time.Minute
	// kindText is how many bytes of an error's text are compared, and shown of it where kinds are listed.
	kindText = 512
)

// Streak turns a run of failures into few messages: one when it starts, one for each further kind of error in it,
// one when it ends. Errors are of one kind if their texts differ in numbers only (see Kind). However often a streak
// starts and ends, and errors take turns, a kind is reported once a minute at most. The zero value is ready, and safe
// for concurrent use.
//
// What is the fault of a single event is no failure of what it was sent to: it must not start or end a Streak that
// others share, or else each of them starts and ends one. It may have a Streak of its own, for EndAfter.
type Streak struct {
	mu       sync.Mutex
	on       Run
	reported bool // there was a message in this streak
	kinds    []kind
	others   int // failures that are of none of the kinds
}

// kind is one of the kinds of errors in a streak.
type kind struct {
	text, example  string
	count          int       // in this streak
	seen, reported time.Time // last; reported: zero for never
	news           bool      // it was reported in this streak
}

// Run is a run of failures.
type Run struct {
	Failures int       // 0: there is none
	Since    time.Time // of the first failure
	Last     time.Time // of the latest
	Err      error     // of the latest

	reported bool
	ended    time.Time
	errors   string
}

// Fail counts a failure. It reports whether this one is worth a message: the first of its kind in the streak, unless
// there was a message about that kind within the last minute.
func (s *Streak) Fail(err error) (worthTelling bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.on.Failures == 0 {
		s.begin(now)
	}
	s.on.Failures++
	s.on.Last, s.on.Err = now, err
	k := s.kind(err.Error(), now)
	if k == nil {
		s.others++
		return false
	}
	k.count++
	k.seen = now
	if k.news || now.Sub(k.reported) < kindTime {
		return false
	}
	k.news, k.reported, s.reported = true, now, true
	return true
}

// begin forgets the kinds of earlier streaks, but for those of the last minute.
func (s *Streak) begin(now time.Time) {
	s.on, s.reported, s.others = Run{Since: now}, false, 0
	s.kinds = slices.DeleteFunc(s.kinds, func(k kind) bool { return now.Sub(k.seen) >= kindTime })
	for i := range s.kinds {
		s.kinds[i].count, s.kinds[i].news = 0, false
	}
}

// kind is the one of an error's text. It is nil for a new one if there is no place for it.
func (s *Streak) kind(text string, now time.Time) *kind {
	example := strings.ToValidUTF8(text[:min(len(text), kindText)], "")
	text = Kind(example)
	oldest := 0
	for i, k := range s.kinds {
		if k.text == text {
			return &s.kinds[i]
		}
		if k.seen.Before(s.kinds[oldest].seen) {
			oldest = i
		}
	}
	fresh := kind{text: text, example: example}
	if len(s.kinds) < kindsMost {
		s.kinds = append(s.kinds, fresh)
		return &s.kinds[len(s.kinds)-1]
	}
	if now.Sub(s.kinds[oldest].seen) < kindTime {
		return nil
	}
	s.others += s.kinds[oldest].count
	s.kinds[oldest] = fresh
	return &s.kinds[oldest]
}

// End ends the streak after a success, and returns it; Failures is 0 if there was none.
func (s *Streak) End() Run { return s.EndAfter(0) }

// EndAfter is End for failures that are the fault of single events, which the success of others does not end: the
// streak ends when there was no failure for the time quiet, such as Quiet. Failures is 0 if it does not end.
func (s *Streak) EndAfter(quiet time.Duration) Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.on.Failures == 0 || now.Sub(s.on.Last) < quiet {
		return Run{}
	}
	run := s.on
	run.reported, run.ended, run.errors = s.reported, now, s.list()
	s.on = Run{}
	return run
}

// list is how often there was which kind of error; empty for a single kind.
func (s *Streak) list() string {
	var all []string
	for _, k := range s.kinds {
		if k.count > 0 {
			all = append(all, fmt.Sprintf("%d × %s", k.count, k.example))
		}
	}
	if s.others > 0 {
		all = append(all, fmt.Sprintf("%d others", s.others))
	}
	if len(all) < 2 {
		return ""
	}
	return strings.Join(all, "; ")
}

// Now is the streak that is on; Failures is 0 if none is.
func (s *Streak) Now() Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// Report writes to the log that the streak is over, with the number of its failures, how long it lasted and, if they
// were of several kinds, of which. It writes nothing of a streak without failures, or that nothing was reported of.
func (r Run) Report(log *zap.Logger, message string, fields ...zap.Field) {
	if r.Failures == 0 || !r.reported {
		return
	}
	fields = append(fields, zap.Int("failures", r.Failures), zap.Duration("lasted", r.ended.Sub(r.Since)))
	if r.errors != "" {
		fields = append(fields, zap.String("errors", r.errors))
	}
	log.Info(message, fields...)
}

// Reported says that the streak had a message, so that its end deserves one, too.
func (r Run) Reported() bool { return r.reported }

// number is what begins with a digit, or with letters that belong to a number in hexadecimal notation: a port, an
// address, a time, a duration, an ID. A word before it, with a blank or an equals sign, says that it is a status.
var number = regexp.MustCompile(`(?:\b(?:status|code|HTTP|SQLSTATE)(?: |: |=))?[0-9a-fA-F]*[0-9][0-9A-Za-zµ.:_-]*`)

// Kind is an error's text with its numbers made equal, so that errors can be compared that differ in ports, times,
// sizes or IDs only. The number of a status is left as it is. It is for comparing and not for showing.
func Kind(text string) string {
	return number.ReplaceAllStringFunc(text, func(found string) string {
		if strings.ContainsAny(found, " =") {
			return found
		}
		return "0"
	})
}
