package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Types come from outside: however many and whatever they are, what is kept of them is small and fit for a line.
func TestUnroutedEventsAreCountedByType(t *testing.T) {
	var told []string
	p, err := New(nil, nil, []Route{{Name: "site", Sink: &target{}, When: condition(t, `type == "NewFileUploaded"`)}},
		OnUnrouted(func(eventType string) { told = append(told, eventType) }))
	require.NoError(t, err)
	handle := func(eventType string) {
		raw, err := json.Marshal(map[string]any{"EventType": eventType})
		require.NoError(t, err)
		require.NoError(t, p.Handle(t.Context(), event.Delivery{Event: event.Event{Type: eventType, Raw: raw}}))
	}
	for i := range 1000 {
		handle(fmt.Sprint(strings.Repeat("long \n\x1b\u202e视频", 1+i%7), i))
		handle("NewFileUpload")
	}
	handle("FileDeleted")
	handle(event.Unknown)
	handle("NewFileUploaded")

	stats := p.Stats()
	require.EqualValues(t, 2002, stats.Unrouted)
	require.Len(t, stats.UnroutedTypes, 3+maxOddTypes+1)
	require.EqualValues(t, 1000, stats.UnroutedTypes["NewFileUpload"])
	require.EqualValues(t, 1, stats.UnroutedTypes["FileDeleted"], "documented types have their own place")
	require.EqualValues(t, 1, stats.UnroutedTypes[event.Unknown])
	require.GreaterOrEqual(t, stats.UnroutedTypes[OtherTypes], uint64(250))
	require.NotContains(t, stats.UnroutedTypes, "NewFileUploaded")
	for name := range stats.UnroutedTypes {
		require.LessOrEqual(t, len(name), maxTypeName)
		require.False(t, strings.ContainsAny(name, "\n\x1b\u202e"), "%q", name)
	}
	require.Len(t, told, 2002)
	for _, name := range told {
		require.Contains(t, stats.UnroutedTypes, name)
	}
}

// What a processor drops on purpose, and what a sink accepted before, is not unrouted.
func TestWhatIsNotUnrouted(t *testing.T) {
	told := 0
	p, err := New(nil, []Processor{Filter(condition(t, `type == "NewFileUpload"`))}, []Route{{Name: "site", Sink: &target{}}},
		OnUnrouted(func(string) { told++ }))
	require.NoError(t, err)
	require.NoError(t, p.Handle(t.Context(), delivery(t, `{"EventType":"FileDeleted","FileDeleteEvent":{}}`)))
	require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
	require.Zero(t, told)
	require.Empty(t, p.Stats().UnroutedTypes)
	require.EqualValues(t, 1, p.Stats().Dropped)
}
