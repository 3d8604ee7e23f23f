package app_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// The status says since when a sink takes nothing, how often, and why; however it is tried meanwhile. After a restart
// it does not say that a sink is up that has yet to accept something.
func TestStatusSaysWhyASinkFails(t *testing.T) {
	const events = 300
	down, refusing, good := newEndpoint(t, always(http.StatusServiceUnavailable)), newEndpoint(t, always(http.StatusBadRequest)), newEndpoint(t, always(http.StatusOK))
	sinks := fmt.Sprintf(`[{name: down, type: webhook, url: %q, breaker: {open: 50ms}, parcels: {initial: 1h, max: 1h}}, {name: refusing, type: webhook, url: %q}, {name: good, type: webhook, url: %q}, {name: idle, type: webhook, url: %q, when: 'type == "FileDeleted"'}]`,
		down.URL, refusing.URL, good.URL, good.URL)
	store := "VODRELAY_STORE_PATH=" + filepath.Join(t.TempDir(), "store.db")
	t.Run("in trouble", func(t *testing.T) {
		a := assemble(t, sinks, store)
		require.Zero(t, down.count(http.StatusServiceUnavailable))
		stop := a.run()
		a.eventually("it answers", func() bool { return len(a.status().Sinks) >= 4 })
		for _, name := range []string{"down", "refusing", "good", "idle"} {
			require.Equal(t, "unknown", a.sink(name).State)
		}
		began := time.Now()
		a.publish(events, 1)
		a.eventually("it is down", func() bool { return a.sink("down").State == "down" })
		first := a.sink("down")
		require.WithinRange(t, *first.FailingSince, began, *first.LastFailed)
		probes := down.count(http.StatusServiceUnavailable)
		a.eventually("it was probed", func() bool { return down.count(http.StatusServiceUnavailable) > probes+5 })
		a.eventually("all are confirmed", func() bool { return a.cloud.Counts().Confirmed == events })
		s := a.sink("down")
		require.Equal(t, "down", s.State)
		require.Equal(t, first.FailingSince, s.FailingSince, "not since the last probe")
		require.Equal(t, first.BreakerSince, s.BreakerSince)
		require.WithinRange(t, *s.BreakerSince, began, *first.LastFailed)
		require.GreaterOrEqual(t, s.FailedInARow, events, "each delivery failed, tried or not")
		require.Contains(t, s.LastError, "503 Service Unavailable")
		require.NotEmpty(t, s.Hint)

		r := a.sink("refusing")
		require.Equal(t, "refusing", r.State)
		require.Equal(t, events, r.FailedInARow)
		require.Equal(t, r.RefusingSince, r.FailingSince)
		require.NotEmpty(t, r.RefusalHint)
		require.Equal(t, "up", a.sink("good").State)
		require.Nil(t, a.sink("good").FailingSince)
		require.Equal(t, "unknown", a.sink("idle").State)
		stop()
	})
	t.Run("after a restart", func(t *testing.T) {
		down.tell(always(http.StatusOK))
		a := assemble(t, sinks, store)
		a.run()
		a.eventually("the dead letters are counted", func() bool { return a.sink("refusing").Dead == events })
		require.Equal(t, "unknown", a.sink("refusing").State)
		a.publish(1, 2)
		a.eventually("it is up", func() bool { return a.sink("down").State == "up" })
		require.Nil(t, a.sink("down").FailingSince)
		a.eventually("it refuses", func() bool { return a.sink("refusing").State == "refusing" })
	})
}

// The source and the store say why they fail, too.
func TestStatusSaysWhyTheRestFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	failing := newEndpoint(t, always(http.StatusServiceUnavailable))
	a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q}]`, failing.URL), "VODRELAY_STORE_PATH="+path)
	a.run()
	a.publish(1, 1)
	a.eventually("it is stored", func() bool { return a.cloud.Counts().Confirmed == 1 })
	require.Nil(t, a.status().StoreFailing)
	require.Nil(t, a.status().Queues[0].PullFailing)
	for _, action := range []string{emulator.ActionPullEvents, emulator.ActionConfirmEvents} {
		_, err := a.cloud.AddFault(emulator.Fault{Kind: emulator.FaultError, Action: action, Times: 1 << 30, Code: "InternalError", Message: "out of order"})
		require.NoError(t, err)
	}
	a.eventually("pulls fail", func() bool { f := a.status().Queues[0].PullFailing; return f != nil && f.FailedInARow > 1 })
	f := a.status().Queues[0].PullFailing
	require.Contains(t, f.LastError, "out of order")
	require.False(t, f.Since.After(f.LastFailed))
	require.NoError(t, os.Rename(path, path+".gone"))
	a.eventually("the store is lost", func() bool { return a.status().StoreFailing != nil })
	lost := a.status().StoreFailing
	require.Contains(t, lost.LastError, "is lost")
	require.NotEmpty(t, lost.Hint)
	a.cloud.ClearFaults()
	a.eventually("pulls succeed", func() bool { return a.status().Queues[0].PullFailing == nil })
}
