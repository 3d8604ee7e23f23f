//go:build unix

package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// putMany writes from many goroutines, so that every connection of the pool is used.
func putMany(t *testing.T, s *Store, from int) (failed int) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for n := range 40 {
		all.Go(func() {
			if err := s.Put(context.Background(), parcel(from+n, "a")); err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return failed
}

// Sessions that began while the server was read-only stay read-only for good, as after a failover: they are
// replaced as soon as one of them shows it.
func TestReadOnlySessionsAreReplaced(t *testing.T) {
	server := pgtest.Start(t, "fsync=off")
	cfg := postgresConfig(server)
	s := open(t, cfg)
	require.Zero(t, putMany(t, s, 0))

	server.MakeReadOnly()
	require.Eventually(t, func() bool { return retry.Hint(s.Healthy(t.Context())) != "" && putMany(t, s, 1000) == 40 }, 20*time.Second, 10*time.Millisecond)
	err := s.Put(t.Context(), parcel(1, "b"))
	require.ErrorContains(t, err, "25006")
	require.Contains(t, retry.Hint(err), "read-only")

	server.MakeWritable()
	began := time.Now()
	require.Eventually(t, func() bool { return putMany(t, s, 2000) == 0 && putMany(t, s, 3000) == 0 }, 20*time.Second, 100*time.Millisecond)
	require.Less(t, time.Since(began), 10*time.Second)
}

// A server that stays read-only is not asked for new sessions by every write.
func TestDoubtIsSeldom(t *testing.T) {
	var s sessions
	first := retry.Permanent(context.DeadlineExceeded)
	s.failed(first)
	at := s.doubted.Load()
	require.NotZero(t, at)
	s.failed(first)
	require.Equal(t, at, s.doubted.Load())
	s.doubted.Store(time.Now().Add(-2 * doubtEvery).UnixNano())
	s.failed(ErrFull)
	require.Less(t, s.doubted.Load(), at, "the session had no part in that")
	s.failed(first)
	require.Greater(t, s.doubted.Load(), at)
}

// The whole contract holds behind PgBouncer, which gives each transaction another session of the server, with
// one session for all to make sure that it does.
func TestBehindAPooler(t *testing.T) {
	server := pgtest.Start(t, "fsync=off", "synchronous_commit=off")
	for name, settings := range map[string][]string{
		"as it comes":                  nil,
		"startup parameters are taken": {"ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout"},
	} {
		for _, mode := range []string{"transaction", "session"} {
			t.Run(mode+" mode, "+name, func(t *testing.T) {
				size := 8
				if mode == "transaction" {
					size = 3
				}
				b := pgtest.StartBouncer(t, server, mode, append(settings, fmt.Sprintf("default_pool_size = %d", size))...)
				cfg := postgresConfig(server)
				direct := cfg
				var err error
				cfg.URL, err = b.URL(direct.URL)
				require.NoError(t, err)
				s, beside := open(t, cfg), open(t, direct)
				require.NotEmpty(t, s.db.begin, "the pooler was noticed")
				require.Empty(t, beside.db.begin)
				for n := range 5 {
					require.Zero(t, putMany(t, s, 100*n))
					require.Zero(t, putMany(t, beside, 100*n+50))
				}
				claimed, err := s.Claim(t.Context(), "a", 100, time.Minute)
				require.NoError(t, err)
				require.Len(t, claimed, 100)
				require.NoError(t, s.Complete(t.Context(), keys(claimed[:50])...))
				require.NoError(t, s.Fail(t.Context(), Outcome{Key: claimed[50].Key(), Dead: true, Err: "no"}))
				require.NoError(t, s.Unclaim(t.Context(), keys(claimed[51:])...))
				require.NoError(t, s.RememberSettled(t.Context(), 1, "x", time.Now()))
				waiting, dead, err := s.Totals(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, []int64{349, 1}, []int64{waiting, dead})
				same(t, all(t, beside, Filter{}), all(t, s, Filter{}))
				n, err := s.Replay(t.Context(), Filter{State: event.ParcelDead})
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
				consistent(t, s)

				err = s.db.exclusively(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
					var commit, timeout string
					if err := tx.QueryRowContext(ctx, `SELECT current_setting('synchronous_commit'), current_setting('statement_timeout')`).Scan(&commit, &timeout); err != nil {
						return err
					}
					require.Equal(t, "on", commit, "what was stored is on the disk")
					require.Equal(t, "20s", timeout)
					return nil
				})
				require.NoError(t, err)
			})
		}
	}
	t.Run("statement mode cannot do it", func(t *testing.T) {
		b := pgtest.StartBouncer(t, server, "statement")
		cfg := postgresConfig(server)
		var err error
		cfg.URL, err = b.URL(cfg.URL)
		require.NoError(t, err)
		require.Contains(t, retry.Hint(failsToOpen(t, cfg)), "pool_mode")
	})
	t.Run("a parameter that it refuses", func(t *testing.T) {
		b := pgtest.StartBouncer(t, server, "transaction")
		cfg := postgresConfig(server)
		through, err := b.URL(cfg.URL)
		require.NoError(t, err)
		cfg.URL = through + "&search_path=public"
		require.Contains(t, retry.Hint(failsToOpen(t, cfg)), "ignore_startup_parameters")
	})
}

// Close ends in time although the server hangs in the midst of everything.
func TestCloseWhileTheServerHangs(t *testing.T) {
	server := pgtest.Start(t, "fsync=off")
	core, logged := observer.New(zap.WarnLevel)
	s, err := Open(t.Context(), postgresConfig(server), zap.New(core))
	require.NoError(t, err)
	require.Zero(t, putMany(t, s, 0))
	server.Freeze()
	defer server.Thaw()
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for n := range 20 {
		asking.Go(func() { _ = s.Put(ctx, parcel(1000+n, "a")) })
		asking.Go(func() { _, _ = s.Claim(ctx, "a", 10, time.Minute) })
		asking.Go(func() { _, _, _ = s.Totals(ctx) })
	}
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	cancel()
	asking.Wait()
	require.Less(t, time.Since(began), resultTime+time.Second)
	began = time.Now()
	ending, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	require.NoError(t, s.Close(ending))
	require.Less(t, time.Since(began), 1800*time.Millisecond)
	require.Equal(t, 1, logged.FilterMessageSnippet("does not answer").Len())
	require.ErrorIs(t, s.Put(t.Context(), parcel(1, "a")), ErrClosed)
	server.Thaw() // what is closed in the background ends
}
