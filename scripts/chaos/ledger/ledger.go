// Package ledger keeps account of events from outside: what was published, what the queue did with it, what arrived
// where, what waits in a store, and what was done to all of them. From these it judges whether a relay kept its
// promises. It does no input or output and shares no code with what it judges.
package ledger

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Event is one that was published.
type Event struct {
	Serial    int    // its mark, see Mark
	Number    int64  // the queue's number of it
	Type      string // its EventType
	Body      []byte // what every target must get, byte for byte
	Refused   bool   // targets that refuse anything refuse it
	Published time.Time
}

// Sink is a target that the relay is configured to send to.
type Sink struct {
	Name string
	// Types are the types that it wants; empty: all.
	Types []string
	// Once is set where the target keeps one of each event, whatever is sent again.
	Once bool
	// Untimed is set where an arrival is noticed only some time after it.
	Untimed bool
	// Refuses is set where the target refuses the events that are Refused.
	Refuses bool
	// Configured are the times in which it surely was in the configuration of every relay. Empty: always.
	Configured []Period
}

// Period is a time from From to To; a zero To is open.
type Period struct{ From, To time.Time }

// holds reports whether the whole of from..to is in the period.
func (p Period) holds(from, to time.Time) bool {
	return !from.Before(p.From) && (p.To.IsZero() || !to.After(p.To))
}

// touches reports whether the two have an instant in common.
func (p Period) touches(from, to time.Time) bool {
	return !p.From.After(to) && (p.To.IsZero() || !p.To.Before(from))
}

// Entry is one line of the queue's journal.
type Entry struct {
	Seq    int64     `json:"seq"`
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Event  int64     `json:"event"`
	Handle string    `json:"handle"`
}

// The kinds of entries that count here.
const (
	leased       = "leased"
	confirmed    = "confirmed"
	expired      = "expired"
	purged       = "purged"
	acknowledged = "acknowledged" // posted in PUSH mode, and answered
	givenUp      = "given-up"     // posted in PUSH mode, and never answered
)

// Parcel is what a store keeps of one event for one sink.
type Parcel struct {
	Sink   string
	Dead   bool
	Reason string
	Raw    []byte
}

// Ledger is the account of one world. Its methods may be called at the same time.
type Ledger struct {
	mu       sync.Mutex
	sinks    map[string]*Sink
	names    []string
	events   map[int]*account
	numbers  map[int64]*account
	lastSeq  int64
	early    map[int64][]Entry // of events whose number is not known yet
	foreign  map[string]bool   // handles that another consumer confirms
	deeds    []Deed
	breaches []Breach // what was wrong when it was entered
}

// account is what became of one event.
type account struct {
	Event
	leases, expiries []time.Time
	confirmedAt      time.Time
	confirmedBy      string // the handle
	pushedAway       bool   // VOD posted it elsewhere, as PUSH mode does, or gave up to
	purged           bool
	arrivals         map[string][]time.Time
}

// New is an empty ledger.
func New(sinks ...Sink) *Ledger {
	l := &Ledger{sinks: map[string]*Sink{}, events: map[int]*account{}, numbers: map[int64]*account{},
		early: map[int64][]Entry{}, foreign: map[string]bool{}}
	for _, s := range sinks {
		l.sinks[s.Name] = &s
		l.names = append(l.names, s.Name)
	}
	return l
}

// Configure says from when to when a sink surely was configured; see Sink.
func (l *Ledger) Configure(sink string, periods ...Period) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sinks[sink].Configured = periods
}

// Mark is the text by which an event with this serial number is known wherever it is found.
func Mark(serial int) string { return fmt.Sprintf("chaos=%d;", serial) }

var mark = regexp.MustCompile(`chaos=(\d+);`)

// serialOf is the serial number in a text.
func serialOf(text []byte) (int, bool) {
	found := mark.FindSubmatch(text)
	if found == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(found[1]))
	return n, err == nil
}

// Publish enters events before they are published; their Number comes with Number.
func (l *Ledger) Publish(events ...Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		a := &account{Event: e, arrivals: map[string][]time.Time{}}
		l.events[e.Serial] = a
		if e.Number != 0 {
			l.numbers[e.Number] = a
		}
	}
}

// Number enters the queue's number of an event.
func (l *Ledger) Number(serial int, number int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.events[serial]
	a.Event.Number = number
	l.numbers[number] = a
	for _, e := range l.early[number] {
		a.note(e)
	}
	delete(l.early, number)
}

// Journal enters lines of the queue's journal, in order.
func (l *Ledger) Journal(entries ...Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		if e.Seq != l.lastSeq+1 {
			l.breach("harness", "the journal has a gap before its line %d: the ledger cannot judge", e.Seq)
		}
		l.lastSeq = e.Seq
		if a := l.numbers[e.Event]; a != nil {
			a.note(e)
		} else if e.Event != 0 {
			l.early[e.Event] = append(l.early[e.Event], e)
		}
	}
}

func (a *account) note(e Entry) {
	switch e.Kind {
	case leased:
		a.leases = append(a.leases, e.Time)
	case expired:
		a.expiries = append(a.expiries, e.Time)
	case confirmed:
		a.confirmedAt, a.confirmedBy = e.Time, e.Handle
	case acknowledged, givenUp:
		a.pushedAway = true
	case purged:
		a.purged = true
	}
}

// LastSeq is the last line of the journal that was entered.
func (l *Ledger) LastSeq() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastSeq
}

// Took enters a handle that another consumer of the queue confirms, before it does.
func (l *Ledger) Took(handle string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.foreign[handle] = true
}

// Arrive enters what a target accepted, and judges its bytes.
func (l *Ledger) Arrive(sink string, at time.Time, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sinks[sink]
	serial, ok := serialOf(body)
	a := l.events[serial]
	switch {
	case s == nil:
		l.breach("harness", "an event arrived at %s, which the ledger does not know", sink)
	case !ok || a == nil:
		l.breach("bytes", "%s got what was never published: %s", sink, clip(body))
	default:
		if !bytes.Equal(body, a.Body) {
			l.breach("bytes", "%s got event %d with other bytes than were published%s", sink, serial, difference(a.Body, body))
		}
		if len(s.Types) > 0 && !slices.Contains(s.Types, a.Type) {
			l.breach("unwanted", "%s got event %d of type %s, which it does not want", sink, serial, a.Type)
		}
		a.arrivals[sink] = append(a.arrivals[sink], at)
	}
}

// Forget takes back all arrivals at a sink, for one that is read anew from the beginning.
func (l *Ledger) Forget(sink string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.events {
		delete(a.arrivals, sink)
	}
}

// Did enters what the harness did, for the causes of duplicates.
func (l *Ledger) Did(d Deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deeds = append(l.deeds, d)
}

func (l *Ledger) breach(rule, format string, args ...any) {
	if b := (Breach{rule, fmt.Sprintf(format, args...)}); !slices.Contains(l.breaches, b) {
		l.breaches = append(l.breaches, b)
	}
}

// difference shows where two texts part.
func difference(want, have []byte) string {
	i := 0
	for i < len(want) && i < len(have) && want[i] == have[i] {
		i++
	}
	from := max(0, i-20)
	return fmt.Sprintf(", from byte %d on: published %s, arrived %s", i, clip(want[from:]), clip(have[from:]))
}

func clip(text []byte) string {
	const most = 120
	if len(text) > most {
		return fmt.Sprintf("%q...", text[:most])
	}
	return fmt.Sprintf("%q", text)
}
