//go:build unix

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// fileSink is the environment of a relay into a file.
func fileSink(environ []string, path string) []string {
	return append(environ, fmt.Sprintf(`VODRELAY_SINKS=[{type: file, path: %q}]`, path))
}

// requireNothingLost checks that every event that was confirmed is in the file.
func requireNothingLost(t *testing.T, cloud *emulator.Server, files ...string) {
	t.Helper()
	written := map[string]bool{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		for id := range idsOfLines(t, data) {
			written[id] = true
		}
	}
	require.GreaterOrEqual(t, int64(len(written)), cloud.Counts().Confirmed, "an event was confirmed that is not in the file")
}

func TestSIGTERMUnderLoadFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Latency: 10 * time.Millisecond})
	cloud.Publish(testApp, emulator.GenerateUploads(5000, 1)...)
	out := filepath.Join(t.TempDir(), "events.jsonl")
	p := start(t, fileSink(environ, out), "run")
	eventually(t, "some are confirmed", func() bool { return cloud.Counts().Confirmed > 200 })
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	counts := cloud.Counts()
	require.Less(t, counts.Confirmed, counts.Published, "the stop came under load")
	require.Zero(t, counts.Leased, "everything that was pulled was confirmed")
	requireNothingLost(t, cloud, out)
	require.Contains(t, p.stderr.String(), "stopped")
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	started := filepath.Join(t.TempDir(), "started")
	p := start(t, append(environ, fmt.Sprintf(`VODRELAY_SINKS=[{type: exec, timeout: 25s, command: [sh, -c, "touch %s; exec sleep 25"]}]`, started)), "run")
	eventually(t, "the command runs", func() bool { _, err := os.Stat(started); return err == nil })
	p.signal(syscall.SIGTERM)
	eventually(t, "the stop is announced", func() bool { return strings.Contains(p.stderr.String(), "stopping") })
	time.Sleep(oneSignal)
	began := time.Now()
	p.signal(syscall.SIGINT)
	require.Equal(t, exitFailed, p.wait())
	require.Less(t, time.Since(began), 10*time.Second)
	require.Zero(t, cloud.Counts().Confirmed)
}

func TestSIGHUPReopensTheFile(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	dir := t.TempDir()
	out, old := filepath.Join(dir, "events.jsonl"), filepath.Join(dir, "events.jsonl.1")
	p := start(t, fileSink(environ, out), "run")
	cloud.Publish(testApp, emulator.GenerateUploads(50, 1)...)
	eventually(t, "the first are confirmed", func() bool { return cloud.Counts().Confirmed == 50 })
	require.NoError(t, os.Rename(out, old))
	p.signal(syscall.SIGHUP)
	eventually(t, "the file is opened anew", func() bool { _, err := os.Stat(out); return err == nil })
	cloud.Publish(testApp, emulator.GenerateUploads(50, 2)...)
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == 100 })
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	requireNothingLost(t, cloud, old, out)
	fresh, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Len(t, idsOfLines(t, fresh), 50)
}

// A reload that is asked for while the relay starts is not lost: what it is to read may have been written after the
// relay had read its configuration.
func TestSIGHUPAtTheStartReloads(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	for range 8 { // the time between the first line of the log and the end of the start is short
		p := start(t, fileSink(environ, filepath.Join(t.TempDir(), "events.jsonl")), "run")
		for end := time.Now().Add(20 * time.Second); !strings.Contains(p.stderr.String(), "starting") && time.Now().Before(end); {
			time.Sleep(100 * time.Microsecond)
		}
		p.signal(syscall.SIGHUP)
		eventually(t, "it reloads", func() bool { return strings.Contains(p.stderr.String(), "configuration reloaded") })
		p.signal(syscall.SIGTERM)
		require.Zero(t, p.wait())
	}
}

func TestSIGKILLUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Latency: 5 * time.Millisecond, Lease: 2 * time.Second})
	contents := emulator.GenerateUploads(4000, 1)
	cloud.Publish(testApp, contents...)
	out := filepath.Join(t.TempDir(), "events.jsonl")
	for round := 1; round <= 3; round++ {
		p := start(t, fileSink(environ, out), "run")
		target := min(int64(round*500), cloud.Counts().Published)
		eventually(t, "some are confirmed", func() bool { return cloud.Counts().Confirmed >= target })
		p.signal(syscall.SIGKILL)
		require.Equal(t, -1, p.wait())
	}
	p := start(t, fileSink(environ, out), "run")
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == int64(len(contents)) })
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, ids(t, contents), idsOfLines(t, data))
}

func TestDrainPrintsEveryEventAndEnds(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	contents := emulator.GenerateUploads(300, 1)
	cloud.Publish(testApp, contents...)
	p := start(t, environ, "drain", "--quiet-for", "0")
	require.Equal(t, exitDone, p.wait())
	require.Equal(t, ids(t, contents), idsOfLines(t, []byte(p.stdout.String())))
	require.EqualValues(t, 300, cloud.Counts().Confirmed)
	require.Contains(t, p.stderr.String(), "drain ended")
}

func TestADrainThatIsStoppedSaysThatEventsAreLeft(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, emulator.GenerateUploads(10, 1)...)
	// Nothing listens on port 1 of this machine.
	p := start(t, append(environ, "VODRELAY_STORE_DRIVER=none", `VODRELAY_SINKS=[{type: webhook, url: "http://127.0.0.1:1"}]`), "drain", "--for", "1s", "--set", "relay.stop_grace=1s")
	require.Equal(t, exitLeft, p.wait())
	require.Zero(t, cloud.Counts().Confirmed)
	require.Contains(t, p.stderr.String(), "stopped as --for says, before the queue was empty")
}

func TestAReaderThatLeavesStopsTheConfirms(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	cloud.Publish(testApp, emulator.GenerateUploads(3000, 1)...)
	path := programtest.Path(t)
	cmd := exec.Command(path, "drain", "--quiet-for", "0")
	cmd.Env = environ
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr programtest.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	reader := bufio.NewReader(pipe)
	for range 5 {
		_, err := reader.ReadString('\n')
		require.NoError(t, err)
	}
	require.NoError(t, pipe.Close())
	require.Error(t, cmd.Wait())
	require.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), stderr.String())
	require.Contains(t, stderr.String(), "closed by its reader")
	require.Less(t, cloud.Counts().Confirmed, int64(3000))
	require.Empty(t, listParcels(t, environ), "what was not read stays in the queue")
}

func TestAReadOnlyKeyEndsTheRun(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	_, err := cloud.AddFault(emulator.Fault{Kind: emulator.FaultError, Action: emulator.ActionConfirmEvents, Code: "UnauthorizedOperation", Rate: 1})
	require.NoError(t, err)
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	p := start(t, environ, "run")
	require.Equal(t, exitConfig, p.wait())
	require.Contains(t, p.stderr.String(), "vod:ConfirmEvents")
}
