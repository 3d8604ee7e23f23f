package relay

import (
	"sync/atomic"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Stats counts what a relay has done since it was made, over all its queues.
type Stats struct {
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
	InHand        int64 // events in hand now
	MaxInHand     int   // the limit of InHand now
	Pollers       int64 // pollers alive now
}

type counters struct {
	pulls, pullErrors, received, joined, remembered, settled, unsettled atomic.Int64
	confirmed, confirms, confirmErrors, refused, late, inHand, pollers  atomic.Int64

	lastConfirm atomic.Int64 // Unix nanoseconds, 0 before the first
}

// QueueStats are the failures of one queue's calls; those of a call that succeeded last are zero.
type QueueStats struct {
	SubAppID      uint64 // 0 if none is named
	Pull, Confirm retry.Run
}

// Queues says for each queue how its calls fail.
func (r *Relay) Queues() []QueueStats {
	all := make([]QueueStats, len(r.queues))
	for i, q := range r.queues {
		all[i] = QueueStats{q.subAppID, q.pulls.Now(), q.confirms.streak.Now()}
	}
	return all
}

// Stats reads the counters. Each is exact; together they are a snapshot only when nothing moves.
func (r *Relay) Stats() Stats {
	c := &r.stats
	return Stats{
		Pulls:         c.pulls.Load(),
		PullErrors:    c.pullErrors.Load(),
		Received:      c.received.Load(),
		Joined:        c.joined.Load(),
		Remembered:    c.remembered.Load(),
		Settled:       c.settled.Load(),
		Unsettled:     c.unsettled.Load(),
		Confirmed:     c.confirmed.Load(),
		Confirms:      c.confirms.Load(),
		ConfirmErrors: c.confirmErrors.Load(),
		Refused:       c.refused.Load(),
		Late:          c.late.Load(),
		InHand:        c.inHand.Load(),
		MaxInHand:     r.cfg.Load().MaxInHand,
		Pollers:       c.pollers.Load(),
	}
}
