package emulator

import "time"

// place is where an event is.
type place uint8

const (
	placeReady     place = iota // can be pulled
	placeAnswering              // chosen, its lease not started (Variants.LeaseFromAnswer)
	placeLeased
	placePushing // posted, or to be posted
	placeGone    // confirmed, purged or reset
)

// message is an event in a queue.
type message struct {
	number    int64
	app       *application
	tail      []byte // what follows the handle in an answer; all of the item if raw
	raw       bool
	published time.Time
	expires   time.Time // end of the lease
	count     uint32    // deliveries so far
	firstOpen uint32    // the first delivery of the present lease
	place     place
	aging     bool // in the list byAge
	expired   bool // past retention, to be purged when its lease ends
	links     [2]link
}

// stopAging takes the event off the list byAge.
func (m *message) stopAging() {
	if m.aging {
		m.app.ages.remove(m)
		m.aging = false
	}
}

// The two lists that a message can be in at once.
const (
	byPlace = iota // ready, or leased in order of the lease's end
	byAge          // all of an application, in order of publication
)

type link struct{ prev, next *message }

// messageList is a doubly linked list through messages' links, so that every move is
// of constant cost and allocates nothing.
type messageList struct {
	head, tail *message
	len        int
	kind       int // byPlace or byAge
}

func (l *messageList) pushBack(m *message) { l.insertAfter(l.tail, m) }

// insertAfter puts m behind at, or first when at is nil.
func (l *messageList) insertAfter(at, m *message) {
	next := l.head
	if at != nil {
		next = at.links[l.kind].next
	}
	m.links[l.kind] = link{prev: at, next: next}
	if at == nil {
		l.head = m
	} else {
		at.links[l.kind].next = m
	}
	if next == nil {
		l.tail = m
	} else {
		next.links[l.kind].prev = m
	}
	l.len++
}

func (l *messageList) remove(m *message) {
	at := m.links[l.kind]
	if at.prev == nil {
		l.head = at.next
	} else {
		at.prev.links[l.kind].next = at.next
	}
	if at.next == nil {
		l.tail = at.prev
	} else {
		at.next.links[l.kind].prev = at.prev
	}
	m.links[l.kind] = link{}
	l.len--
}
