package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Breach is a promise that was not kept.
type Breach struct {
	Rule string // lost, early, bytes, unwanted, duplicate, unsettled, dead, queue, or harness
	Text string
}

// String is the breach as people read it.
func (b Breach) String() string { return b.Rule + ": " + b.Text }

// Moment is what a store and the queue hold while no relay runs.
type Moment struct {
	At      time.Time
	Stored  bool // there is a store; without one, a confirm must come after every arrival
	Parcels []Parcel
	// Queued is how many events the queue says that it holds, leased or not; negative: it was not asked.
	Queued int
	// Final demands that everything is settled: the queue is empty, and what is in the store is dead.
	Final bool
	// Relays is how many relays shared the queue.
	Relays int
}

// Report is the judgement.
type Report struct {
	Breaches                                        []Breach
	Published, Confirmed, Taken, Pushed, Redelivery int
	Arrived                                         map[string]int // by sink, different events
	Waiting, Dead                                   int
	Duplicates                                      map[string]int // by cause
}

// where is what is known of one event's way to one sink.
type where struct{ waiting, dead bool }

// Judge compares all accounts with the promises.
func (l *Ledger) Judge(m Moment) Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Report{Breaches: slices.Clone(l.breaches), Published: len(l.events), Arrived: map[string]int{}, Duplicates: map[string]int{}}
	breach := func(rule, format string, args ...any) {
		r.Breaches = append(r.Breaches, Breach{rule, fmt.Sprintf(format, args...)})
	}
	parcels := l.sortParcels(m, &r, breach)
	open := 0
	for _, serial := range slices.Sorted(maps.Keys(l.events)) {
		a := l.events[serial]
		gone := !a.confirmedAt.IsZero()
		taken := gone && l.foreign[a.confirmedBy]
		switch {
		case taken:
			r.Taken++
		case gone:
			r.Confirmed++
		case a.pushedAway:
			r.Pushed++
		case a.purged:
			breach("lost", "event %d was purged from the queue: %s", serial, a.story())
		default:
			open++
			if m.Final {
				breach("unsettled", "event %d is still in the queue: %s", serial, a.story())
			}
		}
		r.Redelivery += max(0, len(a.leases)-1)
		for _, name := range l.names {
			s := l.sinks[name]
			arrivals := a.arrivals[name]
			if len(arrivals) > 0 {
				r.Arrived[name]++
			}
			at := parcels[place{serial, name}]
			if gone && !taken && l.required(s, a) {
				switch {
				case len(arrivals) == 0 && !at.waiting && !at.dead:
					breach("lost", "event %d was confirmed, and is neither in %s nor a parcel for it: %s", serial, name, a.story())
				case !m.Stored && !s.Untimed && len(arrivals) > 0 && slices.MinFunc(arrivals, time.Time.Compare).After(a.confirmedAt):
					breach("early", "event %d was confirmed before %s had it, without a store: %s", serial, name, a.story())
				}
			}
			l.duplicates(m, s, a, &r, breach)
		}
	}
	if m.Queued >= 0 && open != m.Queued {
		breach("queue", "the queue says that it holds %d events, and %d are neither confirmed nor posted", m.Queued, open)
	}
	return r
}

// required reports whether a sink must have an event: it wants it, and was configured for as long as a relay had it.
func (l *Ledger) required(s *Sink, a *account) bool {
	if len(s.Types) > 0 && !slices.Contains(s.Types, a.Type) {
		return false
	}
	if len(s.Configured) == 0 {
		return true
	}
	return len(a.leases) > 0 && slices.ContainsFunc(s.Configured, func(p Period) bool { return p.holds(a.leases[0], a.confirmedAt) })
}

type place struct {
	serial int
	sink   string
}

// sortParcels judges what is in the stores, and says what is there.
func (l *Ledger) sortParcels(m Moment, r *Report, breach func(rule, format string, args ...any)) map[place]where {
	all := map[place]where{}
	for _, p := range m.Parcels {
		serial, ok := serialOf(p.Raw)
		a := l.events[serial]
		s := l.sinks[p.Sink]
		if !ok || a == nil || s == nil {
			breach("bytes", "the store has a parcel for %q of what was never published: %s", p.Sink, clip(p.Raw))
			continue
		}
		if !sameContent(a.Body, p.Raw) {
			breach("bytes", "the parcel of event %d for %s has other content than was published%s", serial, p.Sink, difference(a.Body, p.Raw))
		}
		at := all[place{serial, p.Sink}]
		if p.Dead {
			r.Dead++
			at.dead = true
			switch {
			case strings.TrimSpace(p.Reason) == "":
				breach("dead", "event %d is a dead letter for %s without a reason", serial, p.Sink)
			case !a.Refused || !s.Refuses:
				breach("dead", "event %d is a dead letter for %s, which does not refuse it: %s", serial, p.Sink, clip([]byte(p.Reason)))
			}
		} else {
			r.Waiting++
			at.waiting = true
			if m.Final {
				breach("unsettled", "event %d still waits in the store for %s: %s", serial, p.Sink, clip([]byte(p.Reason)))
			}
		}
		all[place{serial, p.Sink}] = at
	}
	return all
}

// story is the account of an event, for people.
func (a *account) story() string {
	clock := func(t time.Time) string { return t.Format("15:04:05.000") }
	text := fmt.Sprintf("number %d, published %s", a.Number, clock(a.Published))
	for i, at := range a.leases {
		text += ", pulled " + clock(at)
		if i < len(a.expiries) {
			text += ", back " + clock(a.expiries[i])
		}
	}
	if !a.confirmedAt.IsZero() {
		text += ", confirmed " + clock(a.confirmedAt)
	}
	for _, name := range slices.Sorted(maps.Keys(a.arrivals)) {
		for _, at := range a.arrivals[name] {
			text += fmt.Sprintf(", in %s %s", name, clock(at))
		}
	}
	return text
}
