package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// away is a store that cannot be opened, in one of several ways.
type away struct {
	name    string
	prepare func(t *testing.T) (store string, back func())
}

// volume is a small file system of its own.
func volume(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("NOT TESTED: cannot mount a tmpfs (run as root): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

var waysToBeAway = []away{
	{name: "full disk", prepare: func(t *testing.T) (string, func()) {
		dir := volume(t)
		ballast := filepath.Join(dir, "ballast")
		err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600)
		require.ErrorIs(t, err, syscall.ENOSPC)
		return "store: {path: " + filepath.Join(dir, "s.db") + "}\n", func() { require.NoError(t, os.Remove(ballast)) }
	}},
	{name: "almost full disk", prepare: func(t *testing.T) (string, func()) { // room for the lock, none for the tables
		dir := volume(t)
		ballast := filepath.Join(dir, "ballast")
		err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.NoError(t, os.Truncate(ballast, 8<<20-12<<10))
		return "store: {path: " + filepath.Join(dir, "s.db") + "}\n", func() { require.NoError(t, os.Remove(ballast)) }
	}},
	{name: "read-only volume", prepare: func(t *testing.T) (string, func()) {
		dir := volume(t)
		require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		return "store: {path: " + filepath.Join(dir, "s.db") + "}\n", func() { require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, "")) }
	}},
	{name: "PostgreSQL is away", prepare: func(t *testing.T) (string, func()) {
		server := pgtest.Start(t)
		store := fmt.Sprintf("store: {driver: postgres, url: %q}\n", server.Database())
		server.Stop()
		return store, server.Run
	}},
}

// twoSinks are one that accepts uploads, and one for all other events.
func twoSinks(good, bad *target) string {
	const short = `breaker: {open: 200ms}, parcels: {initial: 100ms, max: 1s}, retry: {initial: 20ms, max_attempts: 1}`
	return fmt.Sprintf("sinks:\n  - {name: good, type: webhook, url: %q, when: 'type == \"NewFileUpload\"', %s}\n  - {name: bad, type: webhook, url: %q, when: 'type != \"NewFileUpload\"', %s}\n",
		good.URL, short, bad.URL, short)
}

// otherEvents are none of uploads.
func otherEvents(t *testing.T, n int) []json.RawMessage { t.Helper(); return otherEventsFrom(t, n, 7) }

func otherEventsFrom(t *testing.T, n int, seed uint64) []json.RawMessage {
	t.Helper()
	all, err := emulator.Generate(emulator.Generation{Count: n, Seed: seed, Types: []string{"FileDeleted"}})
	require.NoError(t, err)
	return all
}

func TestAStartWithoutItsStore(t *testing.T) {
	t.Parallel()
	for _, way := range waysToBeAway {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel() // most of the time is waiting
			cloud, environ := startEmulator(t, emulator.Options{Lease: 2 * time.Second})
			good, bad := newTarget(t, http.StatusOK), newTarget(t, http.StatusServiceUnavailable)
			store, back := way.prepare(t)
			cloud.Publish(testApp, emulator.GenerateUploads(50, 1)...)
			cloud.Publish(testApp, otherEvents(t, 5)...)
			d := launch(t, environ, store+twoSinks(good, bad))
			eventually(t, "it serves", func() bool { code, _ := d.try("/livez"); return code == http.StatusOK })
			eventually(t, "the healthy sink gets its events", func() bool { return cloud.Counts().Confirmed == 50 })
			require.Len(t, good.accepted(), 50)
			code, body := d.try("/readyz?verbose")
			require.Equal(t, http.StatusServiceUnavailable, code)
			require.Contains(t, body, "the store is not open yet")
			require.Contains(t, strings.Join(d.status(t).Reasons, " "), "the store is not open yet")
			code, _ = d.try("/")
			require.Equal(t, http.StatusOK, code)
			again := cloud.Counts().Redelivered + 5
			eventually(t, "what needs the store comes back", func() bool { return cloud.Counts().Redelivered >= again })
			require.EqualValues(t, 50, cloud.Counts().Confirmed)
			require.LessOrEqual(t, strings.Count(d.stderr.String(), "cannot open the store"), 2, "a line for each reason")

			back()
			eventually(t, "the others are stored", func() bool { return cloud.Counts().Confirmed == 55 })
			eventually(t, "it is ready", func() bool { code, _ := d.try("/readyz"); return code == http.StatusOK })
			require.EqualValues(t, 5, d.status(t).Parcels.Waiting)
			bad.answer(http.StatusOK)
			eventually(t, "the parcels are sent", func() bool { return len(bad.accepted()) == 5 && d.status(t).Parcels.Waiting == 0 })
			d.signal(syscall.SIGTERM)
			require.Zero(t, d.wait())
		})
	}
}

// Everything needs the store with confirm: stored, so nothing is pulled before it is open.
func TestAStartWithConfirmStoredWaitsForTheStore(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	good := newTarget(t, http.StatusOK)
	store, back := waysToBeAway[0].prepare(t)
	cloud.Publish(testApp, emulator.GenerateUploads(50, 1)...)
	d := launch(t, environ, store+"relay: {confirm: stored}\n"+twoSinks(good, good))
	eventually(t, "it says so", func() bool {
		code, body := d.try("/status")
		return code == http.StatusOK && strings.Contains(body, "without it nothing is pulled (relay.confirm: stored)")
	})
	require.Zero(t, cloud.Counts().Delivered)
	back()
	eventually(t, "all are sent", func() bool { return len(good.accepted()) == 50 && cloud.Counts().Confirmed == 50 })
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}

func TestAStopWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	good, bad := newTarget(t, http.StatusOK), newTarget(t, http.StatusServiceUnavailable)
	store, _ := waysToBeAway[0].prepare(t)
	cloud.Publish(testApp, otherEvents(t, 5)...)
	d := launch(t, environ, store+"relay: {stop_grace: 1s}\n"+twoSinks(good, bad))
	eventually(t, "events need the store", func() bool { return strings.Contains(d.stderr.String(), "cannot store events") })
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait(), "they stay in the queue, in order")
	require.Zero(t, cloud.Counts().Confirmed)

	drain := start(t, environ, "drain", "-c", d.path, "--for", "1s")
	require.Equal(t, exitLeft, drain.wait())
	require.Contains(t, drain.stderr.String(), "cannot open the store")
}
