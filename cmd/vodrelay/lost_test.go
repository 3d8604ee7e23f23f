//go:build unix

package main

import (
	"bytes"
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
)

// lostSink sends into tg what a store in path keeps, with short times.
func lostSink(path string, tg *target) string {
	return fmt.Sprintf("store: {path: %s}\nrelay: {stop_grace: 1s}\nsinks: [{name: site, type: webhook, url: %q, breaker: {open: 200ms}, parcels: {initial: 100ms, max: 1s}, retry: {initial: 20ms}}]\n", path, tg.URL)
}

// TestTheStoreIsLostWhileEventsAreParked: from then on nothing is confirmed that only the store would have.
func TestTheStoreIsLostWhileEventsAreParked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm func(t *testing.T, path string)
		// kept: what was stored before is still sent.
		kept bool
	}{
		"deleted":                    {func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, true},
		"deleted with its directory": {func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(filepath.Dir(path))) }, true},
		"replaced": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path+".new", nil, 0o600))
			require.NoError(t, os.Rename(path+".new", path))
		}, true},
		"cut off": {func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
			tg := newTarget(t, http.StatusServiceUnavailable)
			path := filepath.Join(t.TempDir(), "state", "s.db")
			d := startDaemon(t, environ, lostSink(path, tg))
			before := emulator.GenerateUploads(300, 1)
			cloud.Publish(testApp, before...)
			eventually(t, "some are stored", func() bool { return cloud.Counts().Confirmed > 100 })

			c.harm(t, path)
			eventually(t, "it is not ready", func() bool { code, _ := d.try("/readyz"); return code == http.StatusServiceUnavailable })
			_, why := d.try("/readyz?verbose")
			require.Contains(t, why, "[-]store failed: the store is lost")
			after := emulator.GenerateUploads(100, 2)
			cloud.Publish(testApp, after...)
			eventually(t, "they are pulled", func() bool { return cloud.Counts().Waiting == 0 && d.status(t).InHand >= 100 })
			eventually(t, "they cannot be stored", func() bool { return strings.Contains(d.stderr.String(), "cannot store events") })
			code, _ := d.try("/readyz")
			require.Equal(t, http.StatusServiceUnavailable, code)
			require.Equal(t, 1, strings.Count(d.stderr.String(), "the store is lost until a restart"), "it is said once")

			tg.answer(http.StatusOK)
			if c.kept {
				stored := confirmed(t, cloud, before)
				eventually(t, "those that were stored are accepted", func() bool { return accepted(tg, stored) })
			}
			d.signal(syscall.SIGTERM)
			code = d.wait()
			if c.kept {
				require.Zero(t, code)
			}
			for id := range confirmed(t, cloud, append(before, after...)) {
				require.True(t, !ids(t, after)[id] || accepted(tg, map[string]bool{id: true}), "an event was confirmed that nobody has")
			}
		})
	}
}

// confirmed are the IDs of those events that were, of all that were published.
func confirmed(t *testing.T, cloud *emulator.Server, contents []json.RawMessage) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for i, id := range orderedIDs(t, contents) {
		if cloud.Confirmed(int64(i + 1)) {
			all[id] = true
		}
	}
	return all
}

func accepted(tg *target, wanted map[string]bool) bool {
	got := tg.accepted()
	for id := range wanted {
		if got[id] == 0 {
			return false
		}
	}
	return true
}

// TestADamagedStoreIsRefused by run, drain and check alike, before anything is pulled.
func TestADamagedStoreIsRefused(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	tg := newTarget(t, http.StatusServiceUnavailable)
	dir := t.TempDir()
	original := filepath.Join(dir, "s.db")
	d := startDaemon(t, environ, lostSink(original, tg))
	cloud.Publish(testApp, emulator.GenerateUploads(500, 1)...)
	eventually(t, "all are stored", func() bool { return cloud.Counts().Confirmed == 500 })
	d.signal(syscall.SIGKILL)
	d.wait()
	logged := contentOf(t, original+"-wal")
	require.NotEmpty(t, logged)
	d = startDaemon(t, environ, lostSink(original, tg))
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
	whole := contentOf(t, original)
	require.Greater(t, len(whole), 500<<10)

	for name, c := range map[string]struct {
		database, wal []byte
		want          string
	}{
		"half":              {whole[:len(whole)/2], nil, "is cut off"},
		"garbage":           {bytes.Repeat([]byte("no database "), 10_000), nil, "is not an SQLite database"},
		"flipped bytes":     {flipped(whole, 100<<10, 300<<10), nil, "damaged"},
		"empty with a log":  {[]byte{}, logged, "write-ahead log"},
		"none with a log":   {nil, logged, "write-ahead log"},
		"with a broken log": {whole, flipped(logged, 0, 32), "write-ahead log"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			for name, content := range map[string][]byte{path: c.database, path + "-wal": c.wal} {
				if content != nil {
					require.NoError(t, os.WriteFile(name, content, 0o600))
				}
			}
			pulls := cloud.Counts()
			for _, args := range [][]string{{"run"}, {"drain"}, {"check"}} {
				cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
				p := start(t, webhookSink(environ, tg), append(args, "--set", "store.path="+path)...)
				require.Equal(t, exitConfig, p.wait(), args)
				said := p.stderr.String() + p.stdout.String()
				require.Contains(t, said, c.want, args)
				require.Regexp(t, "backup|move", said, "the hint")
			}
			require.Equal(t, pulls.Confirmed, cloud.Counts().Confirmed)
			require.Zero(t, cloud.Counts().Leased)
			is, err := os.ReadFile(path)
			require.Equal(t, c.database == nil, err != nil)
			require.True(t, bytes.Equal(c.database, is), "it is left as it is")
			is, _ = os.ReadFile(path + "-wal")
			require.True(t, bytes.Equal(c.wal, is), "its log is left as it is")
		})
	}
}

func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func flipped(data []byte, from, to int) []byte {
	data = bytes.Clone(data)
	for i := from; i < to; i++ {
		data[i] ^= 0xff
	}
	return data
}
