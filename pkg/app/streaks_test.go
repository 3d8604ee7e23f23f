package app_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// inTurn answers with the statuses, one after the other.
func inTurn(statuses ...int) func() (int, time.Duration) {
	n := 0
	return func() (int, time.Duration) { // called under a lock
		n++
		return statuses[n%len(statuses)], 0
	}
}

// count is how many requests were answered with a status.
func (e *endpoint) count(status int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answers[status]
}

// about are the lines of the log that name the sink or an event.
func (a *assembled) about() (lines []string) {
	for _, entry := range a.logs.All() {
		if fields := entry.ContextMap(); fields["sink"] != nil || fields["event_id"] != nil {
			lines = append(lines, fmt.Sprint(entry.Level, " ", entry.Message, " ", fields))
		}
	}
	return lines
}

// However events that are refused, that fail and that are accepted take turns, it makes a few lines, and not some for
// each.
func TestTheLogOfAMixIsShort(t *testing.T) {
	const events = 1000
	once := ", retry: {initial: 1ms, max: 1ms, max_attempts: 1}, breaker: {failures: 0}, parcels: {initial: 10ms, max: 10ms}"
	for _, tt := range []struct {
		name, sink string
		answer     func() (int, time.Duration)
		environ    []string
		lines      int
		atOnce     int // events that are accepted at their first delivery
	}{
		{"every third is refused", "", inTurn(200, 400, 200), nil, 2, events},
		{"every third is refused, without a store", "", inTurn(200, 400, 200), []string{"VODRELAY_STORE_DRIVER=none"}, 1, events * 2 / 3},
		{"a processor fails on some, without a store", "", always(200), []string{"VODRELAY_STORE_DRIVER=none",
			`VODRELAY_PROCESSORS=[{filter: '!(payload.FileId endsWith "3") || payload.FileId > 5'}]`}, 2, events / 2},
		{"every second attempt fails", once, inTurn(503, 200), nil, 2, events},
		{"two errors and acceptance take turns", once, inTurn(503, 200, 500), nil, 4, events},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEndpoint(t, tt.answer)
			a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q%s}]`, e.URL, tt.sink), tt.environ...)
			a.publish(events, 1)
			stop := a.run()
			a.eventually("all were tried", func() bool {
				counts := a.Stats()
				return int(a.cloud.Counts().Confirmed) >= tt.atOnce && counts.Settled+counts.Unsettled >= events
			})
			stop()
			lines := a.about()
			require.NotEmpty(t, lines)
			minutes := int(time.Since(a.logs.All()[0].Time)/time.Minute) + 1
			require.LessOrEqual(t, len(lines), tt.lines*minutes, lines)
		})
	}
}

// A target that is down and up again all the time is reported once a minute.
func TestATargetThatComesAndGoesKeepsTheLogShort(t *testing.T) {
	const events = 1000
	n := 0
	e := newEndpoint(t, func() (int, time.Duration) { // called under a lock
		if n++; n%40 < 20 {
			return http.StatusServiceUnavailable, 0
		}
		return http.StatusOK, 0
	})
	a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q, concurrency: 8, retry: {initial: 1ms, max: 1ms, max_attempts: 1}, breaker: {failures: 1, open: 10ms}, parcels: {initial: 10ms, max: 10ms}}]`, e.URL))
	a.publish(events, 1)
	stop := a.run()
	a.eventually("all arrive", func() bool { return e.accepted() == events })
	stop()
	require.Greater(t, e.count(http.StatusServiceUnavailable), 300)
	minutes := int(time.Since(a.logs.All()[0].Time)/time.Minute) + 1
	require.NotEmpty(t, a.logs.FilterMessageSnippet("sink is down").All())
	require.LessOrEqual(t, len(a.about()), 4*minutes, a.about())
}

// Two errors that take turns are two lines while a sink is in trouble, and one with both numbers when that is over.
func TestErrorsThatTakeTurnsAreNoNews(t *testing.T) {
	const events = 300
	e := newEndpoint(t, inTurn(http.StatusServiceUnavailable, http.StatusInternalServerError))
	a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q, retry: {initial: 1ms, max: 1ms, max_attempts: 2}, breaker: {failures: 0}, parcels: {initial: 10ms, max: 10ms}}]`, e.URL))
	a.publish(events, 1)
	stop := a.run()
	a.eventually("each was tried several times", func() bool { return e.count(503) > 5*events && e.count(500) > 5*events })
	require.Len(t, a.logs.FilterMessage("sink does not accept an event").All(), 2)
	s := a.sink("site")
	require.Equal(t, "failing", s.State)
	e.tell(always(http.StatusOK))
	a.eventually("all arrive", func() bool { return e.accepted() == events })
	a.eventually("it is up", func() bool { return a.sink("site").State == "up" })
	stop()
	again := a.logs.FilterMessage("sink accepts events again").All()
	require.Len(t, again, 1)
	require.Contains(t, again[0].ContextMap()["errors"], "500 Internal Server Error")
	require.Contains(t, again[0].ContextMap()["errors"], "503 Service Unavailable")
	require.Len(t, a.logs.FilterMessage("sink does not accept an event").All(), 2)
}
