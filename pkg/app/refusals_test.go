package app_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/admin"
)

// deadLetters are the events in the lines of the log about dead letters of a sink.
func (a *assembled) deadLetters(sink string) (events, lines int64) {
	for _, entry := range a.logs.FilterMessageSnippet("events became dead letters").All() {
		if fields := entry.ContextMap(); fields["sink"] == sink {
			require.Equal(a.t, zapcore.ErrorLevel, entry.Level)
			require.Contains(a.t, fields["hint"], "vodrelay parcels replay --state dead --sink "+sink)
			require.NotEmpty(a.t, fields["error"])
			events += fields["events"].(int64)
			lines++
		}
	}
	return events, lines
}

func (a *assembled) sink(name string) admin.SinkStatus {
	a.t.Helper()
	for _, s := range a.status().Sinks {
		if s.Name == name {
			return s
		}
	}
	require.Fail(a.t, "no such sink", name)
	return admin.SinkStatus{}
}

// Whichever way an event becomes a dead letter, the log says how many did, and how to send them again; a sink that
// refuses everything does not look healthy, although it is not down.
func TestDeadLettersAreReported(t *testing.T) {
	const events = 300
	refusing, failing := newEndpoint(t, always(http.StatusBadRequest)), newEndpoint(t, always(http.StatusServiceUnavailable))
	a := assemble(t, fmt.Sprintf(`[{name: refusing, type: webhook, url: %q}, {name: failing, type: webhook, url: %q, breaker: {failures: 0}, retry: {initial: 1ms, max: 1ms, max_attempts: 1}, parcels: {initial: 1ms, max: 1ms, max_attempts: 2}}]`, refusing.URL, failing.URL))
	a.publish(events, 1)
	stop := a.run()
	a.eventually("all are dead letters", func() bool {
		st := a.status()
		return st.Parcels != nil && st.Parcels.Dead == 2*events
	})
	s := a.sink("refusing")
	require.Equal(t, "closed", s.Breaker, "it answers")
	require.EqualValues(t, events, s.Refused)
	require.Equal(t, events, s.RefusedInARow)
	require.NotNil(t, s.RefusingSince)
	require.Contains(t, s.LastRefusal, "400")
	require.Zero(t, a.sink("failing").RefusedInARow)

	refusing.tell(always(http.StatusOK))
	a.publish(1, 2)
	a.eventually("one is accepted", func() bool { return refusing.accepted() == 1 })
	a.eventually("it refuses no more", func() bool { return a.sink("refusing").RefusedInARow == 0 })
	require.EqualValues(t, events, a.sink("refusing").Refused)
	require.Contains(t, a.sink("refusing").LastRefusal, "400")
	a.eventually("the other one is dead", func() bool { return a.sink("failing").Dead == events+1 })
	stop()
	counted, lines := a.deadLetters("refusing")
	require.EqualValues(t, events, counted)
	require.LessOrEqual(t, lines, int64(3), "at first, at most once a minute, and at the end")
	counted, lines = a.deadLetters("failing")
	require.EqualValues(t, events+1, counted)
	require.LessOrEqual(t, lines, int64(3))
	for _, refusal := range a.logs.FilterFieldKey("sink").All() {
		if refusal.ContextMap()["sink"] == "refusing" {
			require.Contains(t, refusal.Message, "events became dead letters", "a refusal is no outage, and its end no recovery")
		}
	}
}

func TestEventsThatAProcessorFailsOnAreReported(t *testing.T) {
	e := newEndpoint(t, always(http.StatusOK))
	a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q}]`, e.URL), `VODRELAY_PROCESSORS=[{filter: "payload.FileId > 5"}]`)
	a.publish(100, 1)
	stop := a.run()
	a.eventually("all are dead letters", func() bool { return a.cloud.Counts().Confirmed == 100 })
	stop()
	counted, lines := a.deadLetters("-")
	require.EqualValues(t, 100, counted)
	require.LessOrEqual(t, lines, int64(3))
}
