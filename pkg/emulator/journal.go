package emulator

import "time"

// Kind is what a journal entry tells.
type Kind string

// The kinds of journal entries.
const (
	KindPublished Kind = "published" // an event entered the queue
	KindLeased    Kind = "leased"    // an event was chosen for an answer
	KindConfirmed Kind = "confirmed" // an event was deleted by ConfirmEvents
	KindExpired   Kind = "expired"   // a lease ran out
	KindPurged    Kind = "purged"    // an event passed the retention time
	KindRefused   Kind = "refused"   // a handle or a whole request was refused, not by a fault

	KindPushed       Kind = "pushed"       // an attempt to post an event in PUSH mode began
	KindAcknowledged Kind = "acknowledged" // it was answered, and the event is done with
	KindUnanswered   Kind = "unanswered"   // it failed, and another one follows
	KindGivenUp      Kind = "given-up"     // the last one failed: the event is lost
)

// Entry is one line of the journal.
type Entry struct {
	// Seq counts from 1, without gaps, also across Reset.
	Seq int64 `json:"seq"`
	// Time is when it happened. The end of a lease and of the retention time
	// is noticed at the next use of the server, but carries its own time.
	Time     time.Time `json:"time"`
	Kind     Kind      `json:"kind"`
	SubAppID uint64    `json:"sub_app_id"`
	// Event is the event's number, 0 when a refusal is about none.
	Event int64 `json:"event,omitempty"`
	// Delivery is which delivery of the event it is about, from 1.
	Delivery uint32 `json:"delivery,omitempty"`
	// Handle is the delivery's, or the one that was refused.
	Handle string `json:"handle,omitempty"`
	// Action and Code belong to refusals; Code also to posts that failed: timeout,
	// connection, status, url, or fault for one that was asked for; and to purged
	// events: retention or deliveries.
	Action string `json:"action,omitempty"`
	Code   string `json:"code,omitempty"`
	// Try and Status belong to posts: which attempt it is, from 1, and the HTTP
	// status that it was answered with, 0 without an answer.
	Try    int `json:"try,omitempty"`
	Status int `json:"status,omitempty"`

	app uint16 // with Delivery, the handle is computed when it is read
}

// journal keeps the last entries in a ring.
type journal struct {
	ring []Entry
	size int
	last int64 // Seq of the newest entry
	base int64 // Seq before the oldest entry since reset
}

func (j *journal) add(e Entry) {
	j.last++
	e.Seq = j.last
	if len(j.ring) < j.size {
		j.ring = append(j.ring, e)
		return
	}
	j.ring[(j.last-j.base-1)%int64(j.size)] = e
}

// oldest returns the Seq of the oldest entry kept, 0 when there is none.
func (j *journal) oldest() int64 {
	if len(j.ring) == 0 {
		return 0
	}
	return j.last - int64(len(j.ring)) + 1
}

// after returns at most limit entries whose Seq is greater than seq.
func (j *journal) after(seq int64, limit int) []Entry {
	first := max(seq+1, j.oldest())
	n := min(int64(limit), j.last-first+1)
	if len(j.ring) == 0 || n <= 0 {
		return nil
	}
	entries := make([]Entry, 0, n)
	for s := first; s < first+n; s++ {
		entries = append(entries, j.ring[(s-j.base-1)%int64(j.size)])
	}
	return entries
}

func (j *journal) clear() {
	j.ring, j.base = nil, j.last
}
