package selection

// Move hands the parcels of one sink to another. As JSON it is the body of a move.
type Move struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Before is the mark of the dry run: what was stored since then is left out. 0: no bound.
	Before int64 `json:"before,omitempty"`
	// DryRun asks for the Plan only.
	DryRun bool `json:"dry_run,omitempty"`
}

// Moved is what became of the parcels of a Move. What was not moved is where it was.
type Moved struct {
	Parcels    int64 `json:"parcels"`              // moved
	Collisions int64 `json:"collisions,omitempty"` // not moved: the event has a parcel for the new sink already
	Sending    int64 `json:"sending,omitempty"`    // not moved: being sent at the moment
	Unwanted   int64 `json:"unwanted,omitempty"`   // not moved: the condition of the new sink is not true for the event
}

// Plus adds two up.
func (m Moved) Plus(n Moved) Moved {
	return Moved{m.Parcels + n.Parcels, m.Collisions + n.Collisions, m.Sending + n.Sending, m.Unwanted + n.Unwanted}
}
