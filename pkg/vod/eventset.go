package vod

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"go.uber.org/zap"
)

// maxEvents is how many events of one reply are taken. VOD documents at most event.MaxBatch; what is beyond
// this can be nothing but an error of the server, and would be pulled long before there is room for it.
const maxEvents = 1024

// eventSet is what a reply to PullEvents holds.
type eventSet struct {
	deliveries []event.Delivery
	// What is not as documented, by kind; see oddityKinds.
	odd [oddities]struct {
		count int
		err   error // of the last one
	}
}

// The kinds of what is not as documented in an EventSet.
const (
	unread        = iota // no notification
	unconfirmable        // an event that cannot be confirmed
	nothing              // no event at all
	excess               // beyond maxEvents
	oddities             // how many kinds there are
)

var oddityKinds = [oddities]struct {
	err     error // when there is no other
	message string
}{
	unread:        {message: "events are not as documented; they are relayed with the type unknown"},
	unconfirmable: {errors.New("the event has no EventHandle"), "events cannot be confirmed; they are relayed, and stay in the queue"},
	nothing:       {errors.New("the item is not a JSON object"), "a reply has items that are no events; they are left out"},
	excess:        {errors.New("a reply holds more than 1024 items"), "a reply holds more items than can be taken; the others stay in the queue"},
}

func (s *eventSet) note(kind int, err error) {
	if err == nil {
		err = oddityKinds[kind].err
	}
	s.odd[kind].count++
	s.odd[kind].err = err
}

// reader reads the events into s. A bad item costs itself alone: what cannot be parsed becomes an event of the
// type unknown, which goes on, and what has no place for a handle is left out.
func (s *eventSet) reader(subAppID uint64) fieldFunc {
	return func(name string, value jsontext.Value) error {
		if name != "EventSet" || value.Kind() == 'n' {
			return nil
		}
		if value.Kind() != '[' {
			return errBadSet
		}
		_, err := event.EachItem(value, func(item []byte) error {
			switch {
			case len(s.deliveries) == maxEvents:
				s.note(excess, nil)
				return nil
			case jsontext.Value(item).Kind() != '{':
				s.note(nothing, nil)
				return nil
			case s.deliveries == nil:
				s.deliveries = make([]event.Delivery, 0, event.MaxBatch)
			}
			e, handle, err := event.Decode(item, subAppID)
			if err != nil {
				s.note(unread, err)
			}
			if handle == "" {
				s.note(unconfirmable, nil)
			}
			s.deliveries = append(s.deliveries, event.Delivery{Event: e, Handle: handle})
			return nil
		})
		return err
	}
}

// report logs each kind of what is not as documented when it starts to come, not at each reply.
func (q *Queue) report(s *eventSet) {
	for kind := range s.odd {
		switch odd := &s.odd[kind]; {
		case odd.count > 0:
			if q.oddities[kind].Fail(odd.err) {
				q.client.log.Warn(oddityKinds[kind].message, zap.Uint64("sub_app_id", q.subAppID), zap.Int("count", odd.count), zap.Error(odd.err))
			}
		case len(s.deliveries) > 0:
			q.oddities[kind].EndAfter(retry.Quiet)
		}
	}
}
