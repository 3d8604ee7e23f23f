// Package selection says which parcels somebody means: what a person or a program wrote becomes filters that
// name exactly that, or it is refused. The commands and the admin server share it, so that both have one rule.
// It does no I/O of its own.
package selection

import (
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Filter selects parcels: those that fit everything that is set. The zero Filter selects all.
type Filter struct {
	State   event.ParcelState
	Sink    string
	Type    string
	EventID string // what the event's ID begins with; a whole ID stands for that event alone
	Error   string // what the first or the last error contains, upper and lower case as written
	// OlderThan and NewerThan bound Created: before the one, not before the other.
	OlderThan, NewerThan time.Time
	SubAppID             *uint64 // the application; nil: any
	// Before bounds when the store got it: before the mark, see Finder.Mark. 0: no bound.
	Before int64
}

// All reports whether f selects every parcel, of those before its mark.
func (f Filter) All() bool {
	f.Before = 0
	return f == Filter{}
}
