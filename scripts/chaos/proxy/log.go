package proxy

import (
	"slices"
	"sync"
	"time"
)

// Unanswered is the kind of a record of something that the proxy only saw: a client that had sent a request, and went
// before there was a reply. That needs no fault; a slow target is enough.
const Unanswered = "unanswered"

// Record is something that the proxy did or saw.
type Record struct {
	Kind        string // the fault in force; or "reset", "reset all", "lost reply", "lost" at a moment; or Unanswered
	From        time.Time
	Until       time.Time // zero while it goes on; From at a moment
	Connections []int     // the connections that it hit, counted from 1
}

// log keeps records. A fault in force collects the connections that come while it lasts.
type log struct {
	mu      sync.Mutex
	records []Record
	current int // the index of the fault in force, plus 1; 0 for none
}

// change ends the fault in force and begins f.
func (g *log) change(f Fault, hit []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.current > 0 {
		g.records[g.current-1].Until = now
		g.current = 0
	}
	if f != (Fault{}) {
		slices.Sort(hit)
		g.records = append(g.records, Record{Kind: f.String(), From: now, Connections: hit})
		g.current = len(g.records)
	}
}

// hit adds a new connection to the fault in force.
func (g *log) hit(number int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current > 0 {
		r := &g.records[g.current-1]
		r.Connections = append(r.Connections, number)
	}
}

func (g *log) moment(kind string, hit ...int) { g.since(kind, time.Now(), hit...) }

// since enters what began at from and ends now.
func (g *log) since(kind string, from time.Time, hit ...int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.Sort(hit)
	g.records = append(g.records, Record{Kind: kind, From: from, Until: time.Now(), Connections: hit})
}

func (g *log) stalled(number int, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records = append(g.records, Record{Kind: "lost", From: time.Now(), Until: until, Connections: []int{number}})
}

func (g *log) all() []Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	records := slices.Clone(g.records)
	for n := range records {
		records[n].Connections = slices.Clone(records[n].Connections)
	}
	return records
}
