package pipeline

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Limits of the memory of events that some sinks accepted and others did not.
const (
	defaultMemorySize = 65_536
	// An event whose sinks fail comes back every 30 s; one that stayed away for an hour was settled or
	// dropped elsewhere.
	defaultMemoryAge = time.Hour
)

// memory knows which sinks accepted an event that is not settled as a whole, so that its next delivery
// leaves them out. A settled event is forgotten: if VOD sends the same once more, it is sent once more.
type memory struct {
	age time.Duration

	mu     sync.Mutex
	events *simplelru.LRU[memoryKey, remembered]
}

type memoryKey struct {
	subAppID uint64
	id       string
}

type remembered struct {
	accepted sinkSet
	touched  time.Time
}

// sinkSet is which sinks, by name. It is never changed.
type sinkSet []string

func (s sinkSet) has(name string) bool { return slices.Contains(s, name) }

func newMemory(size int, age time.Duration) *memory {
	events, _ := simplelru.NewLRU[memoryKey, remembered](max(size, 1), nil) // fails for a size below 1 only
	return &memory{age: age, events: events}
}

func keyOf(e event.Event) memoryKey { return memoryKey{e.SubAppID, e.ID} }

// recall returns which sinks accepted the event, nil if none is known to have.
func (m *memory) recall(key memoryKey) sinkSet {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	known, ok := m.events.Get(key)
	if !ok {
		return nil
	}
	m.events.Add(key, remembered{known.accepted, time.Now()})
	return known.accepted
}

// add remembers further sinks that accepted the event.
func (m *memory) add(key memoryKey, accepted sinkSet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	if known, ok := m.events.Get(key); ok {
		accepted = append(slices.Clone(known.accepted), accepted...)
	}
	m.events.Add(key, remembered{accepted, time.Now()})
}

func (m *memory) forget(key memoryKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events.Remove(key)
}

// expire drops what was not touched for too long. Every touch moves an event to the young end, so the
// oldest one is always the first to go.
func (m *memory) expire() {
	for {
		key, oldest, ok := m.events.GetOldest()
		if !ok || time.Since(oldest.touched) < m.age {
			return
		}
		m.events.Remove(key)
	}
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.events.Len()
}
