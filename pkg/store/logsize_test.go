//go:build unix

package store

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// large is a parcel of about 1 MB.
func large(n int) event.Parcel {
	p := parcel(n, "large")
	p.Raw = json.RawMessage(`"` + strings.Repeat("a", 1<<20) + `"`)
	return p
}

// TestASlowReaderOfAnExport holds up nobody, and the write-ahead log is emptied beside it.
func TestASlowReaderOfAnExport(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine) {
		s := open(t, e.fresh(t))
		const before = 3*exportRows + 7
		require.NoError(t, s.Put(t.Context(), parcels(0, before, "a")...))
		require.NoError(t, s.Put(t.Context(), large(5000), large(5001), large(5002), large(5003), large(5004)))
		r, w := io.Pipe()
		type result struct {
			n   int64
			err error
		}
		ended := make(chan result, 1)
		go func() {
			n, err := s.Export(t.Context(), Filter{}, w)
			ended <- result{n, err}
			_ = w.Close()
		}()
		var out bytes.Buffer
		_, err := io.CopyN(&out, r, 1000) // and no more
		require.NoError(t, err)

		for n := range 50 {
			require.NoError(t, s.Put(t.Context(), large(6000+n)))
		}
		require.Less(t, s.LogSize(), int64(walKept))
		// What changes its place meanwhile is neither missed nor written twice.
		require.NoError(t, s.Fail(t.Context(), Outcome{Key: parcel(3000, "a").Key(), Err: "x", Dead: true}, Outcome{Key: parcel(1, "a").Key(), Err: "x", Dead: true}))
		_, err = s.Drop(t.Context(), Filter{EventID: parcel(3001, "a").ID})
		require.NoError(t, err)

		_, err = io.Copy(&out, r)
		require.NoError(t, err)
		got := <-ended
		require.NoError(t, got.err)
		require.EqualValues(t, before+5-1, got.n)
		require.EqualValues(t, got.n, bytes.Count(out.Bytes(), []byte("\n")))
		require.Equal(t, 1, bytes.Count(out.Bytes(), []byte(parcel(3000, "a").ID)))
		require.Equal(t, 1, bytes.Count(out.Bytes(), []byte(parcel(1, "a").ID)))

		for want, f := range map[int64]Filter{
			1: {EventID: parcel(7, "a").ID}, 2: {State: event.ParcelDead}, 55: {Sink: "large"}, 0: {Type: "none"}, 100: {OlderThan: parcel(101, "a").Created, Sink: "a", State: event.ParcelWaiting},
		} {
			n, err := s.Export(t.Context(), f, io.Discard)
			require.NoError(t, err)
			require.Equal(t, want, n, "%+v", f)
		}
	})
}

// TestAForeignReaderIsReported, bounded by max_bytes, and got over.
func TestAForeignReaderIsReported(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	cfg := sqliteConfig(t)
	cfg.MaxBytes = 160 << 20
	s, err := Open(t.Context(), cfg, zap.New(core))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(t.Context())) }()
	s.writer.watch.patience = time.Millisecond
	require.NoError(t, s.Put(t.Context(), large(0)))

	foreign, err := sql.Open("sqlite", cfg.Path)
	require.NoError(t, err)
	defer foreign.Close()
	reading, err := foreign.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var n int
	require.NoError(t, reading.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM vodrelay_parcels`).Scan(&n))
	written := 1
	for ; err == nil; written++ { // what is sent at once leaves nothing but the log
		if err = s.Put(t.Context(), large(written)); err == nil {
			err = s.Complete(t.Context(), large(written).Key())
		}
		require.Less(t, written, 400)
	}
	require.ErrorIs(t, err, ErrFull)
	require.ErrorContains(t, err, "write-ahead log")
	require.Contains(t, retry.Hint(err), "read transaction")
	require.Greater(t, written, 120, "what it keeps does not count")
	require.Less(t, s.LogSize(), cfg.MaxBytes+walKept+(8<<20))
	require.Len(t, logs.FilterMessageSnippet("stays large").All(), 1)
	require.ErrorIs(t, s.Put(t.Context(), large(0)), ErrFull, "it stays so")
	for err = nil; err == nil; written++ { // an attempt to send a parcel makes it grow, too
		var claimed []event.Parcel
		if claimed, err = s.Claim(t.Context(), "large", 1, time.Minute); err == nil {
			require.Len(t, claimed, 1)
			require.NoError(t, s.Unclaim(t.Context(), claimed[0].Key()))
		}
		require.Less(t, written, 400)
	}
	require.ErrorIs(t, err, ErrFull)
	require.NoError(t, s.Healthy(t.Context()), "it is full, not broken")

	require.NoError(t, reading.Rollback())
	require.Eventually(t, func() bool { return s.Put(t.Context(), large(500)) == nil }, 30*time.Second, 50*time.Millisecond)
	require.Less(t, s.LogSize(), int64(walKept))
	require.Len(t, logs.FilterMessageSnippet("stays large").All(), 1, "it is said once")
	require.Len(t, logs.FilterMessageSnippet("small again").All(), 1)
}
