// Package event holds what vodrelay moves: one notification of Tencent Cloud VOD, its stable ID, and the
// forms in which it travels on. The package is pure: it does no I/O, and an Event is never changed after
// it was decoded.
package event

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// LeaseTime is how long a pulled event can be confirmed before the queue delivers it again. Nothing
// extends it. Source: https://cloud.tencent.com/document/api/266/33433.
const LeaseTime = 30 * time.Second

// RetentionTime is how long the queue keeps an event that nobody confirms; it may delete it then. Source:
// https://cloud.tencent.com/document/api/266/33433.
const RetentionTime = 4 * 24 * time.Hour

// MaxBatch is the most events that one PullEvents returns and the most handles that one ConfirmEvents
// takes. Sources: https://cloud.tencent.com/document/api/266/33433 and .../33434.
const MaxBatch = 16

// ErrStaleHandle is wrapped by the error of a confirm that was refused because of the handles in it: one
// of them (which one, the API does not say) is expired, unknown or confirmed already. A batch of several
// is worth splitting; a single handle is worth giving up, its event comes back if it is still in the queue.
var ErrStaleHandle = errors.New("the queue refused the event handles")

// ErrQueueClosed is wrapped by the error of a pull that was refused because of the application's callback mode: it may
// change at any time, and the source is in order.
var ErrQueueClosed = errors.New("the callback mode closes the queue")

// Event is one notification. It is a value: whoever changes an event makes a new one.
type Event struct {
	// ID is the same on every delivery of the notification, pulled or pushed: a hash over Type and
	// payload, 32 hexadecimal digits. VOD itself gives events no ID, and EventHandle is not one. Two
	// applications can have events of the same ID: a target deduplicates by DedupID.
	ID string
	// Type is EventType as VOD sent it, such as "NewFileUpload", or Unknown.
	Type string
	// SubAppID is the application whose queue the event came from; 0 when none was named.
	SubAppID uint64
	// Raw is EventContent as VOD sent it, without EventHandle and signature: a JSON object with every byte of every
	// value kept. Read-only. An event that is made by hand needs JSON, too: see IsJSON.
	Raw json.RawMessage
}

// DedupID is what a target knows an event by that comes again: the application's number, a hyphen and ID, such as
// 1500000001-52d05cd274e830c9a5025e72175b57de; ID alone when no application is named. What two applications
// report is never one event, even if the content is equal. It has printable ASCII only, 53 characters at most. A
// target that keeps SubAppID and ID side by side, as CloudEvents do in source and id, has no need of it.
func (e Event) DedupID() string {
	if e.SubAppID == 0 {
		return e.ID
	}
	return strconv.FormatUint(e.SubAppID, 10) + "-" + e.ID
}

// Delivery is one event as it was pulled once.
type Delivery struct {
	Event
	// Handle confirms this delivery and no other. It is opaque, of any length, and empty when the
	// delivery cannot be confirmed.
	Handle string
	// ReceivedAt is when the reply that carried the delivery began to arrive.
	ReceivedAt time.Time
	// Deadline is ReceivedAt plus LeaseTime: past it the queue may have delivered the event again.
	Deadline time.Time
}
