package pipeline

import "time"

// Stats are what a pipeline counted since it was made.
type Stats struct {
	Dropped  uint64 // events that a processor dropped
	Failed   uint64 // deliveries on which a processor failed
	Unrouted uint64 // events that no sink wanted
	// UnroutedTypes are those by their type: the documented ones, and up to 20 others as far as 64 bytes can be
	// printed of them; what is left is OtherTypes.
	UnroutedTypes map[string]uint64
	// Remembered is how many events are not settled although some sinks accepted them.
	Remembered int
	Sinks      []SinkStats // in the order of the routes
}

// SinkStats are what was counted for one sink.
type SinkStats struct {
	Name         string
	Sent         uint64 // events that it accepted
	Failed       uint64 // deliveries on which it, or its condition, failed after all attempts
	Attempts     uint64 // Sends, repeated ones among them
	Skipped      uint64 // deliveries that its condition did not match
	Deduplicated uint64 // deliveries left out because it had accepted the event before
	Parked       uint64 // waiting parcels that were stored
	Dead         uint64 // dead letters that were stored
	State        State
	Failing      Failing
	Refusals     Refusals
	// Breaker is the state of the breaker; zero without one.
	Breaker BreakerStats
}

// BreakerStats tell whether a target counts as down.
type BreakerStats struct {
	State string // closed, open (it is down) or half-open (down, and being tried with a single event)
	// Since is when the first of the failures was that it is down by or, if it is closed, when it was found up again;
	// that of a new one is when it was made.
	Since time.Time
}

// Stats is a snapshot; the counters in it were read one after the other.
func (p *Pipeline) Stats() Stats {
	pl, leave := p.enter()
	defer leave()
	unrouted, byType := p.unrouted.stats()
	s := Stats{
		Dropped:    p.dropped.Load(),
		Failed:     p.failed.Load(),
		Unrouted:   unrouted,
		Remembered: p.memory.len(),
		Sinks:      make([]SinkStats, len(pl.routes)),

		UnroutedTypes: byType,
	}
	for i, r := range pl.routes {
		state, failing, refusals := r.standing.read()
		s.Sinks[i] = SinkStats{
			Name:         r.Name,
			Sent:         r.sent.Load(),
			Failed:       r.failed.Load(),
			Attempts:     r.attempts.Load(),
			Skipped:      r.skipped.Load(),
			Deduplicated: r.deduplicated.Load(),
			Parked:       r.parked.Load(),
			Dead:         r.dead.Load(),
			State:        state,
			Failing:      failing,
			Refusals:     refusals,
		}
		if r.breaker != nil {
			s.Sinks[i].Breaker = r.breaker.stats()
			if s.Sinks[i].Breaker.State != breakerClosed {
				s.Sinks[i].State = StateDown
			}
		}
	}
	return s
}
