package ledger

import (
	"slices"
	"time"
)

// The kinds of deeds, by what they can do to an event on its way.
const (
	Killed  = "killed"  // a relay ended without warning, or stood still
	Stopped = "stopped" // a relay ended in order
	Target  = "target"  // a sink, or the way to it, was disturbed: Of names it
	API     = "api"     // the queue's API, the way to it or the key for it was disturbed
	Store   = "store"   // the store, its disk or the way to it was disturbed
	Slow    = "slow"    // the machine itself stood still for a moment
)

// Deed is something that was done to the world, and may be why an event arrived twice.
type Deed struct {
	Kind, Of, What string
	Period
}

// attempt is how long one attempt to send takes at most, with what stays in the buffers on its way.
const attempt = 12 * time.Second

// reach is how long after a relay's end its events come again at most: a lease, the claim of a parcel, and some time
// to send them.
const reach = 2 * time.Minute

// duplicates looks for the cause of each arrival after an event's first.
func (l *Ledger) duplicates(m Moment, s *Sink, a *account, r *Report, breach func(rule, format string, args ...any)) {
	arrivals := slices.SortedFunc(slices.Values(a.arrivals[s.Name]), time.Time.Compare)
	for i := 1; i < len(arrivals); i++ {
		if s.Once {
			breach("duplicate", "%s keeps one of each event, and has event %d twice: %s", s.Name, a.Serial, a.story())
			continue
		}
		cause := l.cause(m, s, a, arrivals[i-1], arrivals[i])
		if cause == "" {
			breach("duplicate", "event %d arrived at %s at %s and again after %s, and nothing explains it: %s",
				a.Serial, s.Name, arrivals[i-1].Format("15:04:05.000"), arrivals[i].Sub(arrivals[i-1]).Round(time.Millisecond), a.story())
			continue
		}
		r.Duplicates[cause]++
	}
}

// cause is why an event that had arrived arrived again; "" if nothing explains it.
func (l *Ledger) cause(m Moment, s *Sink, a *account, first, again time.Time) string {
	done := func(kind string, from, to time.Time) bool {
		return slices.ContainsFunc(l.deeds, func(d Deed) bool {
			return d.Kind == kind && (d.Of == "" || d.Of == s.Name || kind != Target) && d.touches(from, to)
		})
	}
	const moment = 3 * time.Second // what was on its way arrives so long after its sender's end
	// What was confirmed comes again only from a store.
	kept := m.Stored || a.confirmedAt.IsZero() || !a.confirmedAt.Before(first)
	switch {
	case done(Target, first.Add(-attempt), first.Add(attempt)), done(Target, again.Add(-moment), again):
		return "the answer of the target was lost or late"
	case kept && done(Killed, later(first.Add(-moment), again.Add(-reach)), again):
		return "the relay was killed or stood still between acceptance and confirm"
	case m.Stored && done(Store, first.Add(-attempt), again):
		return "the store could not note the acceptance"
	}
	// Pulled again though it was accepted: the confirm failed. Who remembers that does not send it again, so another
	// relay must have got it, or the same one after a restart.
	i := slices.IndexFunc(a.leases, func(t time.Time) bool { return t.After(first) && !t.After(again) })
	if i > 0 && (m.Relays > 1 || done(Stopped, first, again)) && done(API, a.leases[i-1].Add(-moment), a.leases[i]) {
		return "the confirm was lost, and another relay got the event"
	}
	if kept && done(Slow, first.Add(-attempt), again) {
		return "the machine was overloaded, so that an attempt or a lease ended too early"
	}
	return ""
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
