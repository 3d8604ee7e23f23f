//go:build unix

package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/relay"
)

// stuckPipe is one that is full, and that nobody reads.
func stuckPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	fd := int(w.Fd())
	require.NoError(t, syscall.SetNonblock(fd, true))
	for err == nil {
		_, err = syscall.Write(fd, []byte{'\n'})
	}
	require.True(t, errors.Is(err, syscall.EAGAIN), err)
	require.NoError(t, syscall.SetNonblock(fd, false))
	return w
}

func stuckLog(t *testing.T) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Stderr = stuckPipe(t) }
}

func TestAReaderOfTheLogThatStopsReading(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	dir := t.TempDir()
	out := filepath.Join(dir, "events.jsonl")
	d := startDaemonWith(t, environ, fmt.Sprintf("log: {level: debug}\nsinks:\n  - {name: a, type: file, path: %s}\n"+
		"  - {name: gone, type: webhook, url: http://%s, retry: {max_attempts: 1}}\n", out, programtest.FreeAddress(t)), stuckLog(t))
	const events = 60
	ticker := time.NewTicker(time.Second / 20)
	defer ticker.Stop()
	for i := range events { // one by one, as events come: each causes lines
		<-ticker.C
		cloud.Publish(testApp, emulator.GenerateUploads(1, uint64(i+1))...)
	}
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == events })
	require.Equal(t, events, count(out))
	for _, probe := range []string{"/livez", "/readyz"} {
		code, text := d.try(probe)
		require.Equal(t, http.StatusOK, code, text)
	}
	began := time.Now()
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
	require.Less(t, time.Since(began), relay.StopLimit)
	require.Len(t, listParcels(t, d.environ), events, "for the sink that is gone")
}

func TestASecondSignalEndsAtOnceAlsoWithoutAReaderOfTheLog(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	started := filepath.Join(t.TempDir(), "started")
	d := startDaemonWith(t, environ, fmt.Sprintf("sinks: [{type: exec, timeout: 25s, command: [sh, -c, %q]}]", "touch "+started+"; exec sleep 25"), stuckLog(t))
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	eventually(t, "the command runs", func() bool { _, err := os.Stat(started); return err == nil })
	d.signal(syscall.SIGTERM)
	eventually(t, "the stop has begun", func() bool { code, _ := d.try("/readyz"); return code == http.StatusServiceUnavailable })
	time.Sleep(oneSignal)
	began := time.Now()
	d.signal(syscall.SIGTERM)
	require.Equal(t, exitFailed, d.wait())
	require.Less(t, time.Since(began), 5*time.Second)
}
