package event

import (
	"time"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Parcel is the unit of durable work: one event for one sink, kept in a store until the sink has accepted
// it. There is at most one for each Key, however often the event is delivered.
type Parcel struct {
	Event // as the processors left it
	Sink  string
	State ParcelState
	// Attempts counts the sends that were made and failed.
	Attempts int
	// Next is when it is due again; without meaning when it is dead.
	Next time.Time
	// FirstError and LastError are the texts of the first and the latest failure; "" when none was made.
	FirstError, LastError string
	Created, Updated      time.Time
}

// Unprocessed is the Sink of a parcel that is not for one sink: a processor failed on its event, which is
// kept as it came. It is a dead letter. When it is replayed, the event goes through the whole pipeline, as if
// it had just arrived, so that what processors do is never skipped.
const Unprocessed = "-"

// ParcelState tells who acts next on a parcel.
type ParcelState string

// The states.
const (
	ParcelWaiting ParcelState = "waiting" // the relay sends it when it is due
	ParcelDead    ParcelState = "dead"    // a person decides
)

// ParcelKey identifies a parcel.
type ParcelKey struct {
	SubAppID uint64
	EventID  string
	Sink     string
}

// Key identifies the parcel. The application is part of it: two applications can have events of the same
// content, and so of the same ID.
func (p Parcel) Key() ParcelKey { return ParcelKey{p.SubAppID, p.ID, p.Sink} }

// ParcelOutcome is what became of an attempt that failed.
type ParcelOutcome struct {
	Key ParcelKey
	// Err is the text of the failure, as ParcelError makes it.
	Err string
	// Next is when the parcel is due again; without meaning when it is Dead.
	Next time.Time
	// Dead makes it a dead letter.
	Dead bool
}

// MaxParcelError is the longest text of a failure in a parcel, in bytes.
const MaxParcelError = 1 << 10

// ParcelError is the text of err as a parcel keeps it: one line of at most MaxParcelError bytes, with nothing in it
// that cannot be seen or that a database refuses. It is "" for a nil error.
func ParcelError(err error) string {
	if err == nil {
		return ""
	}
	return safetext.Line(err.Error(), MaxParcelError)
}

// SettledMark remembers an event of an application that was settled and whose confirm has not succeeded.
type SettledMark struct {
	EventID string
	At      time.Time // when it was settled
}
