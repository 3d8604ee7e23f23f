//go:build unix

package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// killRounds is how often a process is killed in a test; VODRELAY_KILL_ROUNDS says otherwise.
func killRounds(t *testing.T) int {
	n := 20
	if text := os.Getenv("VODRELAY_KILL_ROUNDS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	return n
}

// TestKill ends processes with kill -9 at random moments, while they put, claim, complete, fail, replay and
// migrate, and looks whether everything that was acknowledged is there, and nothing twice.
func TestKill(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine) {
		cfg, path, acknowledged := Config{}, "", 0
		rounds := killRounds(t)
		for round := range rounds {
			const reuse = 4 // rounds on one store, each beginning with what the last one left
			if round%reuse == 0 {
				cfg, path = e.fresh(t), filepath.Join(t.TempDir(), "journal")
			}
			work := task{Config: cfg, Journal: path, First: round * 1_000_000, Migrate: round%reuse == 0}
			cmd := startChild(t, work)
			begun, limit := "start", 150*time.Millisecond // in the midst of opening and migrating, or of its work
			if round%2 == 1 {
				begun, limit = "open", 300*time.Millisecond
			}
			require.Eventually(t, func() bool { return happened(path, begun) }, 30*time.Second, time.Millisecond)
			time.Sleep(rand.N(limit))
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			awaitServer(t, cfg)
			s := open(t, cfg)
			acknowledged += readJournal(t, path).verify(t, s)
			require.NoError(t, s.Close(t.Context()))
		}
		require.Positive(t, acknowledged, "the processes had time to work")
		t.Logf("%d rounds, %d acknowledged parcels looked for", rounds, acknowledged)
	})
}

// awaitServer waits until PostgreSQL has ended what a killed process had under way.
func awaitServer(t *testing.T, cfg Config) {
	if cfg.Driver != DriverPostgres {
		return
	}
	cfg.MaxConns = 2
	db, err := openPostgres(t.Context(), cfg, zap.NewNop())
	require.NoError(t, err)
	defer db.close()
	require.Eventually(t, func() bool {
		var others int
		const query = `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`
		require.NoError(t, db.read.QueryRowContext(t.Context(), query).Scan(&others))
		return others == 0
	}, 30*time.Second, 5*time.Millisecond)
}

// TestPowerCut copies the files of a store at arbitrary moments of its work, as a power failure would leave
// them, and looks whether the copy has everything that was acknowledged by then. The process is stopped
// for that: a copy of files that change is no moment of theirs.
func TestPowerCut(t *testing.T) {
	cfg, path := sqliteConfig(t), filepath.Join(t.TempDir(), "journal")
	cmd := startChild(t, task{Config: cfg, Journal: path})
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	require.Eventually(t, func() bool { return happened(path, "put") }, 30*time.Second, time.Millisecond)
	acknowledged := 0
	for round := range killRounds(t) {
		time.Sleep(rand.N(60 * time.Millisecond))
		require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
		var status syscall.WaitStatus
		_, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		require.NoError(t, err)
		require.True(t, status.Stopped())
		copied := cfg
		copied.Path = filepath.Join(t.TempDir(), "vodrelay.db")
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(cfg.Path + suffix)
			require.NoError(t, err)
			if suffix != "" && round%2 == 0 { // a write that did not get far
				content = append(content, content[:min(len(content), 1000+rand.IntN(9000))]...)
			}
			require.NoError(t, os.WriteFile(copied.Path+suffix, content, 0o600))
		}
		s := open(t, copied)
		acknowledged = readJournal(t, path).verify(t, s)
		require.NoError(t, s.Close(t.Context()))
		require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	}
	require.Positive(t, acknowledged)
	t.Logf("%d acknowledged parcels at the end", acknowledged)
}

// TestReplicas: two stores on one server work off the same parcels, none of them both; what one had in hand
// when it died is taken over.
func TestReplicas(t *testing.T) {
	cfg := postgresConfig(pgtest.Start(t, "fsync=off"))
	one, two := open(t, cfg), open(t, cfg)
	const total = 600
	for n := 0; n < total; n += 50 {
		require.NoError(t, one.Put(t.Context(), parcels(n, n+50, "a")...))
	}
	var mu sync.Mutex
	claims := make(map[event.ParcelKey]int)
	var group errgroup.Group
	for n := range 8 {
		s := []*Store{one, two}[n%2]
		group.Go(func() error {
			for {
				got, err := s.Claim(t.Context(), "a", 5, time.Hour)
				if err != nil || len(got) == 0 {
					return err
				}
				mu.Lock()
				for _, p := range got {
					claims[p.Key()]++
				}
				mu.Unlock()
				if err := s.Complete(t.Context(), keys(got)...); err != nil {
					return err
				}
			}
		})
	}
	require.NoError(t, group.Wait())
	require.Len(t, claims, total)
	for key, n := range claims {
		require.Equal(t, 1, n, key)
	}

	require.NoError(t, one.Put(t.Context(), parcels(0, 3, "a")...))
	lost, err := two.Claim(t.Context(), "a", 3, 300*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, lost, 3)
	got, err := one.Claim(t.Context(), "a", 3, time.Hour)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Eventually(t, func() bool {
		got, err = one.Claim(t.Context(), "a", 3, time.Hour)
		require.NoError(t, err)
		return len(got) == 3
	}, 10*time.Second, 5*time.Millisecond)
	// The first holder was only slow: what it says now changes nothing.
	require.NoError(t, two.Fail(t.Context(), Outcome{Key: lost[0].Key(), Err: "late", Dead: true}))
	require.NoError(t, two.Unclaim(t.Context(), keys(lost)...))
	require.NoError(t, two.Extend(t.Context(), time.Millisecond, keys(lost)...))
	time.Sleep(5 * time.Millisecond)
	got, err = two.Claim(t.Context(), "a", 3, time.Hour)
	require.NoError(t, err)
	require.Empty(t, got)
	same(t, parcels(0, 3, "a"), all(t, one, Filter{}))
	require.NoError(t, two.Complete(t.Context(), lost[0].Key()), "but if it was accepted, it was")
	require.Len(t, all(t, one, Filter{}), 2)
}

// TestSameEventsAtTwoReplicas: both store the same parcels at the same time, in different orders.
func TestSameEventsAtTwoReplicas(t *testing.T) {
	cfg := postgresConfig(pgtest.Start(t, "fsync=off"))
	one, two := open(t, cfg), open(t, cfg)
	var group errgroup.Group
	for n := range 16 {
		s := []*Store{one, two}[n%2]
		group.Go(func() error {
			for i := range 20 {
				put := parcels(20*i, 20*i+20, "a")
				rand.Shuffle(len(put), func(i, j int) { put[i], put[j] = put[j], put[i] })
				if err := s.Put(t.Context(), put...); err != nil {
					return err
				}
				if _, err := s.ReleaseSink(t.Context(), "a"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Len(t, all(t, one, Filter{}), 400)
	consistent(t, one)
}

// TestServerOutage crashes PostgreSQL under load. What was acknowledged is there when it is back, and the
// store goes on by itself.
func TestServerOutage(t *testing.T) {
	server := pgtest.Start(t)
	core, logs := observer.New(zapcore.InfoLevel)
	s, err := Open(t.Context(), postgresConfig(server), zap.New(core))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()

	var mu sync.Mutex
	var acknowledged []event.ParcelKey
	var next, failures atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for ctx.Err() == nil {
				p := parcel(int(next.Add(1)), "a")
				if err := s.Put(t.Context(), p); err != nil {
					failures.Add(1)
					if retry.IsPermanent(err) || retry.Hint(err) == "" {
						t.Errorf("transient and with a hint: %v", err)
					}
					time.Sleep(time.Millisecond)
					continue
				}
				mu.Lock()
				acknowledged = append(acknowledged, p.Key())
				mu.Unlock()
			}
		})
	}
	stored := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	for range 3 {
		before := stored()
		require.Eventually(t, func() bool { return stored() > before+50 }, 60*time.Second, 5*time.Millisecond)
		failed := failures.Load()
		server.Kill()
		require.Eventually(t, func() bool { return failures.Load() > failed }, 60*time.Second, 5*time.Millisecond)
		err := s.Healthy(t.Context())
		require.Error(t, err)
		require.NotEmpty(t, retry.Hint(err))
		_, err = s.Counts(t.Context())
		require.NotEmpty(t, retry.Hint(err))
		server.Run()
	}
	before := stored()
	require.Eventually(t, func() bool { return stored() > before+50 }, 60*time.Second, 5*time.Millisecond)
	cancel()
	all.Wait()
	for _, key := range acknowledged {
		got, err := s.Get(t.Context(), key.EventID, key.Sink)
		require.NoError(t, err)
		require.Len(t, got, 1)
	}
	consistent(t, s)
	require.NotEmpty(t, logs.FilterMessage("the store can be written again").All())
	require.Less(t, logs.FilterMessage("the store cannot be written").Len(), int(failures.Load())/2+30, "not at every attempt")
	t.Logf("%d acknowledged, %d failed, %d messages", len(acknowledged), failures.Load(), logs.Len())
}

func TestDiagnose(t *testing.T) {
	for code, hint := range map[string]string{
		"25006": "standby", "3D000": "createdb", "42501": "GRANT", "53100": "disk is full", "53300": "max_connections",
		"57014": "statement_timeout", "28P01": "password", "08006": "server runs", "57P03": "server runs",
	} {
		require.Contains(t, diagnosePostgres(code, "").hint, hint, code)
	}
	require.True(t, diagnosePostgres("40P01", "").again)
	require.Equal(t, trouble{}, diagnosePostgres("22001", ""))
	require.Equal(t, trouble{}, diagnose(errors.New("other")))
	require.True(t, diagnose(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}).session)
	require.Equal(t, trouble{}, diagnose(syscall.ENOENT), "which is no error of the network")
	for err, person := range map[error]bool{syscall.EROFS: false, syscall.ENOSPC: false, syscall.EACCES: true, syscall.ENOTDIR: true} {
		require.Equal(t, person, diagnose(err).person, err)
		require.True(t, diagnose(err).everywhere, err)
	}
}

func TestExplain(t *testing.T) {
	file, server := &database{}, &database{server: true}
	require.NoError(t, file.explain(nil))
	other := file.explain(errors.New("other"))
	require.EqualError(t, other, "store: other")
	require.EqualError(t, file.explain(fmt.Errorf("page 1: %w", other)), "page 1: store: other", "it is named once")
	require.EqualError(t, Bare(other), "other")
	for _, err := range []error{context.DeadlineExceeded, io.EOF, driver.ErrBadConn, syscall.EPIPE, net.ErrClosed} {
		require.NotContains(t, retry.Hint(file.explain(err)), "PostgreSQL", err)
	}
	require.Equal(t, hintSlow, retry.Hint(file.explain(context.DeadlineExceeded)))
	require.Equal(t, hintServer, retry.Hint(server.explain(context.DeadlineExceeded)))
	require.Equal(t, hintServer, retry.Hint(Bare(server.explain(io.EOF))))
	require.EqualError(t, server.explain(errors.New("no postgres://user:planted@host/db")), "store: no postgres://***@host/***")
	for port := range 2 {
		err := server.explain(fmt.Errorf("write failed: %w", &net.OpError{
			Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000 + port},
			Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5432}, Err: syscall.ECONNRESET,
		}))
		require.EqualError(t, err, "store: write failed: read tcp 127.0.0.1:5432: connection reset by peer", "the same for every port")
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}
