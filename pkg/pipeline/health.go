package pipeline

import (
	"slices"
	"sync"
	"time"
)

const (
	// rush is how many times as many failures are needed when they all began within rushTime, or within
	// BreakerConfig.Open if that is shorter. At hundreds of attempts a second, five of a target that fails
	// every third come in a row by chance all the time; at one a minute hardly ever.
	rush     = 4
	rushTime = 10 * time.Second
	// downShare is the share of failures from which a target counts as down, of all attempts that began between
	// the first and the last failed one. Those that are still under way count as not failed: quick failures must
	// not outvote slow successes.
	downShare = 0.75
	// moment is the time that a state must have lasted to be worth a line in the log, unless it is certain to.
	moment = time.Second
)

// verdict is what an attempt said about its target.
type verdict int

const (
	noVerdict verdict = iota
	accepted
	failed
)

// breakerClosed is the state of a breaker whose target is not down.
const breakerClosed = "closed"

// health decides whether a target is down from how the attempts to send to it end. An accepted attempt clears
// all that began before it, so the order in which attempts end does not matter. While the target is down,
// health lets one attempt at a time pass, as a probe.
type health struct {
	cfg BreakerConfig

	mu     sync.Mutex
	number uint64      // of the latest attempt
	run    []attempted // since the last accepted attempt began, in the order of their numbers
	last   error       // the latest failure that counted, nil if the target is up
	since  time.Time   // when the first failure of the outage was, or when it was found up again
	down   *outage     // nil: the target is up
}

// attempted is an attempt that has failed or is under way.
type attempted struct {
	number uint64
	began  time.Time
	failed bool
}

// outage is the time in which a target is down.
type outage struct {
	attempts, failures int       // that it was found down by
	found              time.Time // when it was found down
	suspect            uint64    // the first of the failures; whatever began later and is accepted ends the outage
	doubts             int       // attempts which began before the outage and may still be accepted
	until              time.Time // before which there is no probe
	probe              uint64    // the attempt under way as a probe, 0 if there is none
	probed             time.Time // since when
	probes, accepted   int       // that have failed, and were accepted
	told               bool
}

// change is a change of a target's health that is worth reporting.
type change struct {
	outage
	up     bool // it is up again
	err    error
	lasted time.Duration
}

func newHealth(cfg BreakerConfig) *health { return &health{cfg: cfg, since: time.Now()} }

// begin numbers an attempt; ok is false if it must not be made.
func (h *health) begin() (number uint64, ok bool, news *change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.down != nil {
		news = h.tell(now)
		if h.down.probe != 0 || now.Before(h.down.until) {
			return 0, false, news
		}
	}
	h.number++
	if h.down != nil {
		h.down.probe, h.down.probed = h.number, now
		return h.number, true, news
	}
	if len(h.run) == cap(h.run) { // what was cleared is left behind
		h.run = append(make([]attempted, 0, max(2*len(h.run), 64)), h.run...)
	}
	h.run = append(h.run, attempted{number: h.number, began: now})
	return h.number, true, news
}

// end takes the verdict of an attempt. err is that of one that failed.
func (h *health) end(number uint64, v verdict, err error) *change {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.down != nil {
		return h.endDown(number, v, err, now)
	}
	at, found := slices.BinarySearchFunc(h.run, number, func(a attempted, n uint64) int {
		if a.number < n {
			return -1
		}
		return int(min(a.number-n, 1))
	})
	switch {
	case !found: // one that began later was accepted
	case v == accepted:
		h.run = h.run[at+1:]
		h.last = nil
	case v == noVerdict:
		h.run = slices.Delete(h.run, at, at+1)
	default:
		h.run[at].failed = true
		h.last = err
		if h.down = h.judge(now); h.down != nil {
			h.run = nil
			return h.tell(now)
		}
	}
	return nil
}

func (h *health) endDown(number uint64, v verdict, err error, now time.Time) *change {
	d := h.down
	probe := number == d.probe
	if probe {
		d.probe = 0
	}
	switch {
	case v == accepted && number >= d.suspect:
		d.accepted++
		c := &change{outage: *d, up: true, lasted: now.Sub(h.since)}
		h.down, h.last, h.since = nil, nil, now
		return c
	case v == accepted:
		d.accepted++
	case v == failed && probe:
		d.probes++
		d.until = now.Add(h.cfg.Open)
		h.last = err
	}
	if !probe && number >= d.suspect {
		d.doubts--
	}
	return h.tell(now)
}

// judge is the outage that the run shows, nil if it shows none.
func (h *health) judge(now time.Time) *outage {
	first, last, failures := -1, 0, 0
	for i, a := range h.run {
		if !a.failed {
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
		failures++
	}
	need := h.cfg.Failures
	if h.run[last].began.Sub(h.run[first].began) < min(h.cfg.Open, rushTime) {
		need *= rush
	}
	if failures < need || float64(failures) < downShare*float64(last-first+1) {
		return nil
	}
	h.since = h.run[first].began
	return &outage{
		found: now, attempts: len(h.run), failures: failures, suspect: h.run[first].number,
		doubts: len(h.run) - first - failures, until: now.Add(h.cfg.Open),
	}
}

// tell is the news that the target is down, once that is certain or has lasted for a moment.
func (h *health) tell(now time.Time) *change {
	if h.down.told || h.down.doubts > 0 && now.Sub(h.down.found) < moment {
		return nil
	}
	h.down.told = true
	return &change{outage: *h.down, err: h.last}
}

// retryAt is when the next attempt may be made; zero: now.
func (h *health) retryAt() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down == nil {
		return time.Time{}
	}
	now, at := time.Now(), h.down.until
	if h.down.probe != 0 {
		if at = h.down.probed.Add(probeTime); !at.After(now) {
			at = now.Add(probeTime)
		}
	}
	if !at.After(now) {
		return time.Time{}
	}
	return at
}

// lastError is the latest failure of a target that is down, or may be.
func (h *health) lastError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *health) stats() BreakerStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := breakerClosed
	switch {
	case h.down == nil:
	case h.down.probe != 0:
		state = "half-open"
	default:
		state = "open"
	}
	return BreakerStats{State: state, Since: h.since}
}
