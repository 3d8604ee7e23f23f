package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

const (
	maxLine     = 64 << 20 // bytes of one line of an import
	importRows  = 256      // parcels in one transaction of an import
	importBytes = 4 << 20
)

// line is a parcel in an export. The event's bytes are a text, or in base64 when they are none: an object
// of JSON inside the line would not keep its spaces and escapes.
type line struct {
	SubAppID   uint64     `json:"sub_app_id,omitempty"`
	ID         string     `json:"id"`
	Type       string     `json:"type"`
	Sink       string     `json:"sink"`
	State      string     `json:"state"`
	Attempts   int        `json:"attempts,omitempty"`
	Created    time.Time  `json:"created"`
	Updated    time.Time  `json:"updated"`
	Next       *time.Time `json:"next,omitempty"`
	FirstError string     `json:"first_error,omitempty"`
	LastError  string     `json:"last_error,omitempty"`
	Event      *string    `json:"event,omitempty"`
	Bytes      []byte     `json:"event_base64,omitempty"`
}

// Import stores the parcels that Export wrote, and returns how many were not there yet. Those of a key that
// is there are left as they are, so a file can be imported again. What is before a line that cannot be read
// is stored when the error comes, which names the line.
func (s *Store) Import(ctx context.Context, r io.Reader) (added int64, err error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 64<<10), maxLine)
	var waiting []event.Parcel
	size, number := 0, 0
	flush := func() error {
		n, err := s.put(ctx, waiting)
		added += n
		waiting, size = waiting[:0], 0
		return err
	}
	for scanner.Scan() {
		number++
		text := bytes.TrimSpace(scanner.Bytes())
		if len(text) == 0 {
			continue
		}
		p, err := fromLine(text)
		if err != nil {
			return added, errors.Join(flush(), retry.Permanent(fmt.Errorf("line %d: %w", number, err)))
		}
		waiting, size = append(waiting, p), size+len(p.Raw)
		if len(waiting) >= importRows || size >= importBytes {
			if err := flush(); err != nil {
				return added, fmt.Errorf("up to line %d: %w", number, err)
			}
		}
	}
	if err := flush(); err != nil {
		return added, fmt.Errorf("up to line %d: %w", number, err)
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return added, retry.Permanent(fmt.Errorf("line %d: is longer than %d MiB: not a line of an export", number+1, maxLine>>20))
	} else if err != nil {
		return added, fmt.Errorf("line %d: %w", number+1, err)
	}
	return added, nil
}

func toLine(p event.Parcel) line {
	l := line{
		SubAppID: p.SubAppID, ID: toText(p.ID), Type: toText(p.Type), Sink: toText(p.Sink), State: string(p.State),
		Attempts: p.Attempts, Created: p.Created.UTC(), Updated: p.Updated.UTC(), FirstError: p.FirstError, LastError: p.LastError,
	}
	if !p.Next.IsZero() {
		next := p.Next.UTC()
		l.Next = &next
	}
	switch {
	case len(p.Raw) == 0:
	case utf8.Valid(p.Raw):
		text := string(p.Raw)
		l.Event = &text
	default:
		l.Bytes = p.Raw
	}
	return l
}

// fromLine reads strictly: what it does not know could matter.
func fromLine(text []byte) (event.Parcel, error) {
	var l line
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return event.Parcel{}, fmt.Errorf("is not a parcel as vodrelay parcels export writes it: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return event.Parcel{}, errors.New("has more than one parcel: write each on a line of its own")
	}
	p := event.Parcel{
		Event: event.Event{ID: fromText(l.ID), Type: fromText(l.Type), SubAppID: l.SubAppID},
		Sink:  fromText(l.Sink), State: event.ParcelState(l.State), Attempts: l.Attempts,
		Created: l.Created, Updated: l.Updated, FirstError: l.FirstError, LastError: l.LastError,
	}
	if l.Next != nil {
		p.Next = *l.Next
	}
	switch {
	case l.Event != nil && l.Bytes != nil:
		return p, errors.New("has both event and event_base64: keep one")
	case l.Event != nil && *l.Event != "":
		p.Raw = json.RawMessage(*l.Event)
	case len(l.Bytes) > 0:
		p.Raw = l.Bytes
	}
	if len(p.Raw) > 0 && !event.IsJSON(p.Raw) { // an edited line: no sink could do anything with it
		return p, errors.New("event: is not JSON: correct it, or take the line that vodrelay parcels export wrote")
	}
	if id, whole, err := selection.ParseID(p.ID); err != nil || !whole || id != p.ID { // nobody could name it
		return p, fmt.Errorf("id: %.40q is not an event's ID: those are %d hexadecimal digits, in small letters", p.ID, selection.IDLength)
	}
	if l.State == "" {
		return p, errors.New("state is missing")
	}
	if l.Attempts < 0 {
		return p, fmt.Errorf("attempts: %d: is less than 0", l.Attempts)
	}
	return p, complete(&p, time.Now())
}
