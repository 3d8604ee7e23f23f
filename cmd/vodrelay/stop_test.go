//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/relay"
)

// stopInAnOutage has a daemon send to a sink, take the sink's target away, and stop while events wait for it: every
// event is stored, and the store is closed in order.
func stopInAnOutage(t *testing.T, sink string, outage func()) *running {
	t.Helper()
	cloud, environ := startEmulator(t, emulator.Options{})
	path := filepath.Join(t.TempDir(), "s.db")
	d := startDaemon(t, environ, fmt.Sprintf("store: {path: %q}\nsinks: [{name: away, %s}]\n", path, sink))
	cloud.Publish(testApp, emulator.GenerateUploads(5, 1)...)
	eventually(t, "events are accepted", func() bool { st := d.status(t); return st.Confirmed == 5 && st.Sinks[0].Accepted == 5 })
	outage()
	cloud.Publish(testApp, emulator.GenerateUploads(200, 2)...)
	eventually(t, "some are stored", func() bool { st := d.status(t); return st.Parcels != nil && st.Parcels.Waiting > 0 })
	require.FileExists(t, path+"-wal")
	began := time.Now()
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
	require.Less(t, time.Since(began), relay.StopLimit)
	require.NoFileExists(t, path+"-wal", "the store was closed")
	counts := cloud.Counts()
	require.Zero(t, counts.Leased, "what was pulled is confirmed")
	require.Len(t, listParcels(t, d.environ, "-c", d.path), int(counts.Confirmed)-5, "and stored")
	return d
}

func TestAStopWhileKafkaIsAway(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "vod"))
	require.NoError(t, err)
	defer cluster.Close()
	stopInAnOutage(t, fmt.Sprintf("type: kafka, brokers: [%q], topic: vod, timeout: 2s", cluster.ListenAddrs()[0]), cluster.Close)
}

// The standard output is a pipe whose reader stops reading: a target that does not accept, and whose end hangs.
func TestAStopWithoutAReaderOfTheOutput(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	path := filepath.Join(t.TempDir(), "s.db")
	d := startDaemonWith(t, environ, fmt.Sprintf("store: {path: %q}\nsinks: [{name: out, type: stdout, timeout: 200ms}]\n", path),
		func(cmd *exec.Cmd) { cmd.Stdout = stuckPipe(t) })
	cloud.Publish(testApp, emulator.GenerateUploads(50, 1)...)
	eventually(t, "all are stored", func() bool { return cloud.Counts().Confirmed == 50 })
	began := time.Now()
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
	require.Less(t, time.Since(began), relay.StopLimit)
	require.Contains(t, d.stderr.String(), "standard output does not take the last events")
	require.NoFileExists(t, path+"-wal", "the store had time of its own")
	require.Len(t, listParcels(t, d.environ, "-c", d.path), 50)
}

// Supervisors send two signals, one to the process and one to its group.
func TestTwoSignalsAtOnceAreOne(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(second.String(), func(t *testing.T) {
			cloud, environ := startEmulator(t, emulator.Options{})
			started := filepath.Join(t.TempDir(), "started")
			d := startDaemon(t, environ, fmt.Sprintf("sinks: [{type: exec, timeout: 25s, command: [sh, -c, %q]}]", "touch "+started+"; sleep 2"))
			cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
			eventually(t, "the command runs", func() bool { _, err := os.Stat(started); return err == nil })
			d.signal(syscall.SIGTERM)
			time.Sleep(100 * time.Millisecond)
			d.signal(second)
			eventually(t, "the stop has begun", func() bool { code, _ := d.try("/readyz"); return code == http.StatusServiceUnavailable })
			require.Zero(t, d.wait())
			require.EqualValues(t, 1, cloud.Counts().Confirmed, "the work was finished")
			require.Equal(t, 1, strings.Count(d.stderr.String(), "a second signal so soon counts as the first one"))
			require.NotContains(t, d.stderr.String(), "press")
		})
	}
}

// An end by force has the log out first, with what was held back of repeated lines: they say why.
func TestAnEndByForceLosesNoLines(t *testing.T) {
	for name, tt := range map[string]struct {
		signals []syscall.Signal
		code    int
		last    string
	}{
		"second signal": {[]syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, exitFailed, "second signal: ending at once"},
		"watchdog":      {[]syscall.Signal{syscall.SIGABRT}, exitCrash, "SIGABRT: abort"},
		"quit":          {[]syscall.Signal{syscall.SIGQUIT}, exitCrash, "SIGQUIT: quit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, environ := startEmulator(t, emulator.Options{})
			started := filepath.Join(t.TempDir(), "started")
			configuration := fmt.Sprintf("sinks:\n  - {name: busy, type: exec, timeout: 25s, command: [sh, -c, %q]}\n  - {name: gone, type: file, when: 'false', path: %s}\n",
				"touch "+started+"; exec sleep 25", filepath.Join(t.TempDir(), "no", "events.jsonl"))
			d := startDaemonWith(t, environ, configuration, func(*exec.Cmd) {})
			cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
			eventually(t, "the command runs", func() bool { _, err := os.Stat(started); return err == nil })
			for range 3 { // each fails to open the file again, and says so
				before := strings.Count(d.stderr.String(), "configuration reloaded")
				d.signal(syscall.SIGHUP)
				eventually(t, "the hangup is over", func() bool { return strings.Count(d.stderr.String(), "configuration reloaded") > before })
			}
			d.signal(tt.signals[0])
			for _, next := range tt.signals[1:] {
				eventually(t, "the stop is announced", func() bool { return strings.Contains(d.stderr.String(), "stopping") })
				time.Sleep(oneSignal)
				d.signal(next)
			}
			require.Equal(t, tt.code, d.wait())
			log := d.stderr.String()
			said := 0
			for line := range strings.Lines(log) {
				var entry struct {
					Msg      string
					Repeated int
				}
				if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "cannot reopen the files" {
					said += max(1, entry.Repeated)
				}
			}
			require.Equal(t, 3, said, "errors of three hangups, some of them in one line")
			require.Contains(t, log, tt.last)
			require.Zero(t, cloud.Counts().Confirmed)
		})
	}
}
