//go:build unix

package main

import (
	"bufio"
	"database/sql"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// TestASlowReaderOfParcelsExport keeps the daemon from nothing, not from emptying its write-ahead log either.
func TestASlowReaderOfParcelsExport(t *testing.T) {
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	tg := newTarget(t, http.StatusServiceUnavailable)
	path := filepath.Join(t.TempDir(), "s.db")
	d := startDaemon(t, environ, lostSink(path, tg))
	const events = 2500 // some pages, and more than a pipe and the buffers before it hold
	cloud.Publish(testApp, emulator.GenerateUploads(events, 1)...)
	eventually(t, "all are stored", func() bool { return cloud.Counts().Confirmed == events })

	program := programtest.Path(t)
	export := exec.Command(program, "parcels", "export", "-c", d.path)
	export.Env = d.environ
	var log programtest.Buffer
	export.Stderr = &log
	pipe, err := export.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, export.Start())
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<20)
	require.True(t, lines.Scan(), "it has begun")

	cloud.Publish(testApp, emulator.GenerateUploads(500, 2)...)
	eventually(t, "more are stored beside it", func() bool { return cloud.Counts().Confirmed == events+500 })
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	eventually(t, "the log can be emptied beside it", func() bool {
		var busy, frames, moved int
		err := db.QueryRowContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
		return err == nil && busy == 0
	})
	require.Positive(t, d.status(t).Parcels.Bytes)
	require.Less(t, d.status(t).Parcels.LogBytes, int64(32<<20))

	n := 1
	for lines.Scan() {
		n++
	}
	require.NoError(t, lines.Err())
	require.NoError(t, export.Wait(), log.String())
	require.Equal(t, events, n)
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}
