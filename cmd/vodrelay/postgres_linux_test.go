package main

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// TestAFailoverOfTheDatabase: sessions that stay read-only are no reason to stand still.
func TestAFailoverOfTheDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	cloud, environ := startEmulator(t, emulator.Options{Hold: 200 * time.Millisecond})
	good, bad := newTarget(t, http.StatusOK), newTarget(t, http.StatusServiceUnavailable)
	d := startDaemon(t, environ, fmt.Sprintf("store: {driver: postgres, url: %q}\n", server.Database())+twoSinks(good, bad))
	cloud.Publish(testApp, otherEvents(t, 100)...)
	eventually(t, "all are stored", func() bool { return cloud.Counts().Confirmed == 100 })

	server.MakeReadOnly()
	cloud.Publish(testApp, emulator.GenerateUploads(100, 1)...)
	cloud.Publish(testApp, otherEventsFrom(t, 300, 8)...)
	eventually(t, "the store refuses, the healthy sink goes on", func() bool {
		code, body := d.try("/readyz?verbose")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "read-only transaction") && cloud.Counts().Confirmed == 200
	})
	require.Len(t, good.accepted(), 100)

	server.MakeWritable()
	// An event that could not wait any longer for the store comes back when its lease is over.
	require.Eventually(t, func() bool { return cloud.Counts().Confirmed == 500 }, event.LeaseTime+patient, 10*time.Millisecond, "everything is confirmed again")
	eventually(t, "it is ready", func() bool { code, _ := d.try("/readyz"); return code == http.StatusOK })
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}

// TestAStopWhileTheDatabaseHangs: the limits of a stop hold, and it is one in order.
func TestAStopWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	// What a stop takes beyond its grace; the rest is for a busy machine.
	const grace, after = time.Second, relay.StopLimit - relay.MaxStopGrace + 2*time.Second
	server := pgtest.Start(t)
	cloud, environ := startEmulator(t, emulator.Options{Hold: 200 * time.Millisecond})
	good, bad := newTarget(t, http.StatusOK), newTarget(t, http.StatusServiceUnavailable)
	configuration := fmt.Sprintf("store: {driver: postgres, url: %q}\nrelay: {stop_grace: %s}\n", server.Database(), grace) + twoSinks(good, bad)
	for round := range 2 {
		d := startDaemon(t, environ, configuration)
		before := cloud.Counts().Confirmed
		cloud.Publish(testApp, otherEventsFrom(t, 50, uint64(100+round))...)
		eventually(t, "they are stored", func() bool { return cloud.Counts().Confirmed >= before+50 })
		stored := cloud.Counts().Confirmed
		server.Freeze()
		cloud.Publish(testApp, otherEventsFrom(t, 50, uint64(200+round))...)
		eventually(t, "events wait for the store", func() bool { return cloud.Counts().Leased >= 50 })
		ended := make(chan struct{})
		probed := make(chan struct{})
		go func() { // probes never stop
			defer close(probed)
			for {
				select {
				case <-ended:
					return
				default:
					d.try("/readyz")
				}
			}
		}()
		time.Sleep(time.Duration(round) * 400 * time.Millisecond) // the claims and the looks are at another point each time
		began := time.Now()
		d.signal(syscall.SIGTERM)
		code := d.wait()
		close(ended)
		<-probed
		require.Zero(t, code, "what was not stored stays in the queue")
		require.Less(t, time.Since(began), grace+after)
		require.Equal(t, stored, cloud.Counts().Confirmed)
		server.Thaw()
	}
}
