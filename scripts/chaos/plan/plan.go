// Package plan makes the plan of a chaos run out of its seed: which worlds there are, and what is done to each, when.
// The same seed and length make the same plan on every machine.
package plan

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Plan is a whole run.
type Plan struct {
	Seed   uint64
	Worlds []World
}

// World is one set of processes and what happens to it.
type World struct {
	Seed     uint64
	Store    string // sqlite, postgres or none
	Disk     bool   // what relays write is on a disk that can fail
	Relays   int
	Confirm  string // handled or stored
	Sinks    []Sink
	Variants []string // of the emulator
	Rate     int      // events a second, between bursts of many at once
	Length   time.Duration
	// StopGrace is how long a stop lets relays finish their work.
	StopGrace time.Duration
	Actions   []Action
	// Abrupt ends the chaos by a power cut, after which a drain has to find everything. Else the relays settle it.
	Abrupt bool
}

// Sink is a target of the world.
type Sink struct {
	Name, Type string
	Types      []string // of events that it wants; empty: all
	// Once is set where the target keeps one of each event, Refuses where it refuses some.
	Once, Refuses bool
	// Extra is set for a sink that reloads add and remove.
	Extra bool
}

// The kinds of stores.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
	None     = "none"
)

// Verb is what an action does.
type Verb string

// The verbs.
const (
	Link        Verb = "link"        // the way between a relay and Of is disturbed; How says how
	Kill        Verb = "kill"        // SIGKILL of one relay, which starts again after For
	PowerCut    Verb = "power cut"   // SIGKILL of all relays at once
	Freeze      Verb = "freeze"      // SIGSTOP of one relay, SIGCONT after For
	Terminate   Verb = "terminate"   // SIGTERM of one relay, and a start
	Storm       Verb = "storm"       // SIGTERM again and again to every relay
	Rolling     Verb = "rolling"     // SIGTERM and a start of one relay after the other
	Reload      Verb = "reload"      // SIGHUP with a configuration: How is add, change, remove or refused
	TargetDown  Verb = "target down" // SIGKILL of a target's server
	TargetStop  Verb = "target stop" // SIGSTOP of a target's server
	StoreDown   Verb = "store down"  // SIGKILL of the store's server
	StoreStop   Verb = "store stop"  // SIGSTOP of the store's server
	ReadOnly    Verb = "read-only"   // the store can be read and not written
	DiskFull    Verb = "disk full"   // the store's disk is full
	DiskFails   Verb = "disk fails"  // every sync and write fails, until a repair leaves what was synced
	Cloud       Verb = "cloud"       // the API fails a fifth of all requests
	Consumer    Verb = "consumer"    // somebody else pulls; How says what becomes of the events
	Push        Verb = "push"        // the application is in PUSH mode
	Credentials Verb = "credentials" // How is rotate or expire
	Replay      Verb = "replay"      // an operator replays all parcels
	Drain       Verb = "drain"       // vodrelay drain beside the relays
)

// Action is one thing that is done.
type Action struct {
	At, For time.Duration
	Do      Verb
	Relay   int    // for what is done to one relay
	Of      string // the other end of a link: api, store, or a sink; or a sink
	How     string
}

// String is the action as people read it.
func (a Action) String() string {
	text := fmt.Sprintf("%6.1fs", a.At.Seconds())
	if a.For > 0 {
		text += fmt.Sprintf(" for %5.1fs", a.For.Seconds())
	} else {
		text += strings.Repeat(" ", 11)
	}
	text += " " + string(a.Do)
	switch a.Do {
	case Link, Kill, Freeze, Terminate:
		text += fmt.Sprintf(" relay %d", a.Relay)
	}
	if a.Of != "" {
		text += " " + a.Of
	}
	if a.How != "" {
		text += ": " + a.How
	}
	return text
}

// String is the world as people read it, without its actions.
func (w World) String() string {
	text := fmt.Sprintf("store %s, confirm %s, relays %d, sinks", w.Store, w.Confirm, w.Relays)
	for _, s := range w.Sinks {
		text += " " + s.Type
		if s.Extra {
			text += "(at times)"
		}
	}
	if len(w.Variants) > 0 {
		text += ", variants " + strings.Join(w.Variants, " ")
	}
	text = fmt.Sprintf("%s, %d events/s, %s of chaos", text, w.Rate, w.Length)
	if w.Abrupt {
		text += ", ends with a power cut and a drain"
	}
	return text
}

// Print is the whole plan as people read it.
func (p Plan) Print() string {
	text := fmt.Sprintf("seed %d\n", p.Seed)
	for i, w := range p.Worlds {
		text += fmt.Sprintf("world %d: %s\n", i+1, w)
		for _, a := range w.Actions {
			text += "  " + a.String() + "\n"
		}
	}
	return text
}

// Options are what a plan has to fit.
type Options struct {
	Worlds   int
	Length   time.Duration // of the chaos in each world
	Short    bool          // for the gate: nothing that needs long to recover
	Mild     bool          // for a soak: few disturbances
	Missing  []string      // what this machine has not: kinds of stores and sinks, disk
	Variants []string      // of the emulator, in place of those that are drawn
}

// New makes the plan of a seed.
func New(seed uint64, o Options) Plan {
	p := Plan{Seed: seed}
	random := rand.New(rand.NewPCG(seed, 0x6368616f73))
	first := random.IntN(3)
	for i := range o.Worlds {
		p.Worlds = append(p.Worlds, newWorld(random.Uint64(), first+i, o))
	}
	return p
}
