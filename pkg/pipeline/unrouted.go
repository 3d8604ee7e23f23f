package pipeline

import (
	"maps"
	"sync"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

const (
	// OtherTypes stands for the types beyond maxOddTypes.
	OtherTypes = "other"
	// maxOddTypes is how many types are told apart that VOD does not document: types come from outside.
	maxOddTypes = 20
	// maxTypeName is the longest name of a type that is kept, in bytes.
	maxTypeName = 64
)

// typeCounts counts events by their type. The zero value is ready.
type typeCounts struct {
	mu     sync.Mutex
	counts map[string]uint64
	odd    int // names in counts that are not documented
}

// add counts an event and returns the name that it is counted under.
func (c *typeCounts) add(eventType string) string {
	name := typeName(eventType)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.counts[name]; !known && !event.Known(name) {
		if c.odd == maxOddTypes {
			name = OtherTypes
		} else {
			c.odd++
		}
	}
	if c.counts == nil {
		c.counts = map[string]uint64{}
	}
	c.counts[name]++
	return name
}

func (c *typeCounts) stats() (total uint64, byType map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.counts {
		total += n
	}
	return total, maps.Clone(c.counts)
}

// typeName is a type as it can stand in a line.
func typeName(eventType string) string { return safetext.Line(eventType, maxTypeName) }
