package admin

import (
	"context"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// Options is what the server shows. It asks for all of it again whenever somebody looks.
type Options struct {
	Version string // of the program
	// Stats reads the counters. It must be quick and safe for concurrent use.
	Stats func() Stats
	// Observer is what the engine and the pipeline report to.
	Observer *Observer
	// Alive returns an error when a loop has stopped moving. It must never depend on the cloud or a sink:
	// a restart cures neither. nil: always alive.
	Alive func() error
	// Stopping reports that no more events are pulled. nil: never.
	Stopping func() bool
	// Applications are those whose queues are pulled from and watched; 0 stands for none named. Without any,
	// no pull is waited for until the server is ready.
	Applications []uint64
	// Depth asks about how many events wait in an application's queue. It is called every 30 s, and less
	// often while it fails. nil: the depth is not shown.
	Depth func(ctx context.Context, subAppID uint64) (uint64, error)
	// Parcels is the store; nil: there is none.
	Parcels Parcels
	// StoreID identifies the store without saying where it is; "" if that is not known yet. nil: there is none.
	StoreID func() string
	// StoreDriver is sqlite or postgres; "" without a store. StoreLabel differs for all stores that the replicas of one
	// deployment may have, and is the same for those that share one.
	StoreDriver string
	StoreLabel  func() string
	// MaxParcels and MaxBytes are the configured limits; 0: none.
	MaxParcels, MaxBytes int64
	// MaxShare is the most that the parcels of one sink may take now, in percent of these limits; 0, or nil: no
	// such limit.
	MaxShare func() int
	// StoreLog is how many bytes the store's write-ahead log has on the disk; nil: it has none of its own.
	StoreLog func() int64
	// StoreLogExcess is how many bytes of it count into MaxBytes; nil: it has none.
	StoreLogExcess func() int64
}

// Stats are the counters since the start, all but the gauges among them only ever growing.
type Stats struct {
	Relay    RelayStats
	Pipeline PipelineStats
	// LogDropped is how many lines are missing in the log.
	LogDropped int64
	// Scheduler is nil without a store.
	Scheduler *SchedulerStats
	// Queues are how the calls fail about the queue of each of Options.Applications.
	Queues []QueueStats
	// Store is how opening the store or writing to it fails.
	Store Failing
	// Callback is nil without a receiver of VOD's normal callback.
	Callback *CallbackStats
}

// RelayStats are the engine's counters.
type RelayStats struct {
	Pulls         int64 // polls sent, the failed ones included
	PullErrors    int64 // polls that failed
	Received      int64 // deliveries
	Joined        int64 // deliveries of an event that was in hand
	Remembered    int64 // deliveries of an event that was settled before and only had to be confirmed
	Settled       int64 // events handled with success
	Unsettled     int64 // events handled in vain; each comes again
	Confirmed     int64 // events gone from the queue
	Confirms      int64 // confirm calls, the failed ones included
	ConfirmErrors int64 // confirm calls that failed for another reason than a handle
	Refused       int64 // handles that the queue did not accept
	Late          int64 // handles whose lease ended before they could be confirmed
	InHand        int64 // gauge: events in hand now
	MaxInHand     int   // gauge: most that may be
	Pollers       int64 // gauge: pollers alive now
}

// QueueStats are how the calls about one application's queue fail.
type QueueStats struct {
	SubAppID      uint64
	Pull, Confirm Failing
}

// PipelineStats are the counters of the processors and the sinks.
type PipelineStats struct {
	Dropped  uint64 // events that a processor dropped
	Failed   uint64 // deliveries on which a processor failed
	Unrouted uint64 // events that no sink wanted
	// UnroutedTypes are those by their type, of which there must be a bounded number.
	UnroutedTypes map[string]uint64
	Remembered    int // gauge: events that some sinks accepted and that are not settled
	Sinks         []SinkStats
}

// SinkStats are the counters of one sink.
type SinkStats struct {
	Name         string
	Sent         uint64 // events that it accepted
	Failed       uint64 // deliveries on which it failed after all attempts
	Attempts     uint64 // sends, repeated ones among them
	Skipped      uint64 // deliveries that its condition did not match
	Deduplicated uint64 // deliveries left out because it had accepted the event before
	Parked       uint64 // waiting parcels that were stored
	Dead         uint64 // dead letters that were stored
	State        string // unknown, up, failing, refusing or down
	Failing      Failing
	Breaker      string    // closed, open or half-open; "" without a breaker
	BreakerSince time.Time // since when it is down or, if closed, up
	Refusals     Refusals
}

// Failing is how something fails; a success ends it.
type Failing struct {
	InARow int       // gauge: failures since the last success
	Since  time.Time // of the first of them; zero if there is none
	Last   time.Time // of the latest; zero if there was none
	Error  string    // of the latest
	Hint   string    // what a person can do about it
}

// Refusals are the deliveries that a sink refused: it blamed the event.
type Refusals struct {
	Total  uint64
	InARow int       // gauge: since an event was accepted last
	Since  time.Time // of the first in a row; zero if there is none
	Last   time.Time // of the latest; zero if there was none
	Error  string    // of the latest
	Hint   string    // what a person can do about it
}

// CallbackStats are the counters of the receiver of VOD's normal callback.
type CallbackStats struct {
	Requests   int64 // requests answered, whatever for
	Accepted   int64 // notifications answered with 200
	Joined     int64 // notifications of an event that was in hand
	Remembered int64 // notifications of an event that had been settled too late for its last attempt
	Unsigned   int64 // refused with 401
	Refused    int64 // refused with another status below 500
	Unsettled  int64 // not accepted: the event could not be settled or stored, or there was no time or room
	InHand     int64 // gauge: events being worked on

	Connections httpserver.Stats
}

// SchedulerStats are the counters of what sends parcels again.
type SchedulerStats struct {
	Delivered   int64 // parcels that their sink accepted
	Failed      int64 // attempts that failed, those of Dead among them
	Dead        int64 // parcels that became dead letters
	NotTried    int64 // claims given back because the target is down or no place was free
	StoreErrors int64 // calls of the store that failed
}

// Parcels is the store as the server uses it. Every method ends with its context.
type Parcels interface {
	selection.Finder
	// Healthy writes and commits.
	Healthy(ctx context.Context) error
	// Counts says how much there is, by sink and state, quickly however much that is.
	Counts(ctx context.Context) ([]Count, error)
	// List returns at most limit parcels that fit, from behind the cursor after, and the cursor to go on
	// from; empty is the beginning, and as a result the end. An error that is retry.Permanent blames after.
	List(ctx context.Context, f Filter, after string, limit int) ([]event.Parcel, string, error)
	// Latest returns the parcels in a state that were stored last, the latest first.
	Latest(ctx context.Context, state event.ParcelState, limit int) ([]event.Parcel, error)
	// Get returns the parcels of an event, of one sink only when sink is not empty.
	Get(ctx context.Context, id, sink string) ([]event.Parcel, error)
	// Replay makes the parcels that fit due now, and Drop deletes them. Both return how many they were,
	// also beside an error, after which they can be called again.
	Replay(ctx context.Context, f Filter) (int64, error)
	Drop(ctx context.Context, f Filter) (int64, error)
	// Move hands the parcels of one sink, of those before the mark unless it is 0, to another, and reports what
	// it did, also beside an error, after which it can be called again. PlanMove looks at what it would do. An
	// error about the names is retry.Permanent.
	PlanMove(ctx context.Context, m selection.Move) (*selection.Plan, error)
	Move(ctx context.Context, m selection.Move) (selection.Moved, error)
}

// Filter selects parcels.
type Filter = selection.Filter

// Count is what a sink has in one state.
type Count struct {
	Sink    string
	State   event.ParcelState
	Parcels int64
	Bytes   int64     // of the events
	Oldest  time.Time // when the oldest was stored
}
