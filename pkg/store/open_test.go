//go:build unix

package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
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

func failsToOpen(t *testing.T, cfg Config, opts ...Option) error {
	t.Helper()
	s, err := Open(t.Context(), cfg, nil, opts...)
	if err == nil {
		_ = s.Close(t.Context())
	}
	require.Error(t, err)
	return err
}

func TestOneDaemonOnAFile(t *testing.T) {
	cfg := sqliteConfig(t)
	s := open(t, cfg)
	require.NoError(t, s.Put(t.Context(), parcel(1, "a")))
	err := failsToOpen(t, cfg)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "another process has locked "+cfg.Path)
	require.Contains(t, retry.Hint(err), "driver postgres")
	require.False(t, retry.IsPermanent(err), "the other may end")

	// A command works beside it.
	admin := open(t, cfg, Admin())
	require.Len(t, all(t, admin, Filter{}), 1)
	require.NoError(t, admin.Put(t.Context(), parcel(2, "a")))
	claimed, err := s.Claim(t.Context(), "a", 5, time.Hour)
	require.NoError(t, err)
	require.Len(t, claimed, 2)
	n, err := admin.Drop(t.Context(), Filter{EventID: parcel(2, "a").ID})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.NoError(t, admin.Close(t.Context()))
	claimed, err = s.Claim(t.Context(), "a", 5, time.Hour)
	require.NoError(t, err)
	require.Empty(t, claimed, "a command leaves claims alone")

	// The next daemon begins with what the last one had in hand.
	require.NoError(t, s.Close(t.Context()))
	s = open(t, cfg)
	claimed, err = s.Claim(t.Context(), "a", 5, time.Hour)
	require.NoError(t, err)
	require.Len(t, claimed, 1)
}

func TestSQLiteFile(t *testing.T) {
	cfg := sqliteConfig(t)
	err := failsToOpen(t, cfg, Admin())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Contains(t, retry.Hint(err), "vodrelay run")
	s := open(t, cfg)
	for path, mode := range map[string]fs.FileMode{filepath.Dir(cfg.Path): fs.ModeDir | 0o700, cfg.Path: 0o600, cfg.Path + "-wal": 0o600} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode(), path)
	}
	require.NoError(t, s.Close(t.Context()))

	require.NoError(t, os.WriteFile(cfg.Path, bytes.Repeat([]byte("no database "), 1000), 0o600))
	err = failsToOpen(t, cfg)
	require.ErrorContains(t, err, "is not an SQLite database")
	cfg.Path = t.TempDir()
	require.Error(t, failsToOpen(t, cfg), "a directory")
	cfg.Path = "/proc/nothing/vodrelay.db"
	require.Error(t, failsToOpen(t, cfg), "no directory can be made there")
	err = failsToOpen(t, Config{Driver: DriverNone})
	require.True(t, retry.IsPermanent(err))

	cfg.Path = filepath.Join(t.TempDir(), "with ?&%#' in it.db")
	s = open(t, cfg)
	require.NoError(t, s.Put(t.Context(), parcel(1, "a")))
	require.FileExists(t, cfg.Path)
	require.NoError(t, s.Close(t.Context()))
}

func TestReadOnlyDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root writes everywhere; TestFullDisk mounts a volume instead")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	cfg := DefaultConfig()
	cfg.Path = filepath.Join(dir, "vodrelay.db")
	require.Contains(t, retry.Hint(failsToOpen(t, cfg)), "let the user")
}

func TestSQLiteSettings(t *testing.T) {
	for version, ok := range map[string]bool{"3.51.3": true, "3.51.2": false, "3.46.9": false, "3.52.0": true, "4.0.0": true, "3.51": false, "": false} {
		require.Equal(t, ok, newEnough(version), version)
	}
	// What SQLite does not obey is found.
	db := &database{name: "memory", write: openPool("/nowhere", "", 1)}
	db.write.Close()
	memory, err := sql.Open("sqlite", "file::memory:?_pragma=journal_mode(WAL)")
	require.NoError(t, err)
	memory.SetMaxOpenConns(1)
	defer memory.Close()
	db.write, db.read = memory, memory
	require.ErrorContains(t, db.verifySQLite(t.Context()), "is 0 instead of 10000")
	_, err = memory.Exec(`PRAGMA busy_timeout = 10000`)
	require.NoError(t, err)
	require.ErrorContains(t, db.verifySQLite(t.Context()), "journal_mode is memory instead of wal")
}

func TestSchema(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine) {
		cfg := e.fresh(t)
		older := func(o *options) { o.migrations = migrations[:1] }
		s := open(t, cfg, older)
		require.NoError(t, s.Put(t.Context(), parcel(1, "a")))
		require.NoError(t, s.Close(t.Context()))

		err := failsToOpen(t, cfg, Admin())
		require.ErrorIs(t, err, ErrSchema)
		require.Contains(t, retry.Hint(err), "restart the daemon")
		s = open(t, cfg)
		same(t, []event.Parcel{parcel(1, "a")}, all(t, s, Filter{}))
		require.NoError(t, s.Close(t.Context()))
		open(t, cfg, Admin())

		err = failsToOpen(t, cfg, older)
		require.ErrorIs(t, err, ErrSchema)
		require.True(t, retry.IsPermanent(err))
		require.ErrorContains(t, err, "has tables of version 2, this program knows up to 1")
		require.Contains(t, retry.Hint(err), "newer vodrelay")

		// A migration that fails leaves everything as it was.
		broken := func(o *options) {
			o.migrations = append(migrations[:2:2], []string{`CREATE TABLE vodrelay_half (x BIGINT)`, `NONSENSE`})
		}
		require.ErrorContains(t, failsToOpen(t, cfg, broken), "migrate to version 3")
		s = open(t, cfg)
		same(t, []event.Parcel{parcel(1, "a")}, all(t, s, Filter{}))
		_, err = s.db.read.QueryContext(t.Context(), `SELECT x FROM vodrelay_half`)
		require.Error(t, err)
	})
}

// TestReplicasStartTogether on an empty database.
func TestReplicasStartTogether(t *testing.T) {
	cfg := postgresConfig(pgtest.Start(t, "fsync=off"))
	var group errgroup.Group
	for n := range 8 {
		group.Go(func() error {
			s, err := Open(t.Context(), cfg, nil)
			if err != nil {
				return err
			}
			if err := s.Put(t.Context(), parcels(0, n+1, "a")...); err != nil {
				return err
			}
			return s.Close(t.Context())
		})
	}
	require.NoError(t, group.Wait())
	require.Len(t, all(t, open(t, cfg), Filter{}), 8)
}

// TestPlans: nothing that runs again and again looks through a table.
func TestPlans(t *testing.T) {
	s := open(t, sqliteConfig(t))
	require.NoError(t, s.Put(t.Context(), parcels(0, 500, "a")...))
	queries := []string{
		s.db.claim, unclaimParcel, unclaimAll, extendClaim, completeParcel, failParcel, releaseSink, nextDue, counts, replayParcel,
		dropParcel, purgeParcel, moveParcel, keptParcel, newest, endOfPage, latestParcels, parcelsOfEvent, expireSettled, limitSettled, readSettled, forgetSettled,
	}
	for _, f := range []Filter{
		{}, {EventID: "0123"}, {State: event.ParcelDead, Sink: "a", Type: "x", Error: "y"}, {OlderThan: epoch, NewerThan: epoch},
		{Before: 5}, {Before: 5, SubAppID: new(uint64(1))},
	} {
		query, _ := s.db.pageQuery(f, group{"a", "waiting"}, place{}, 50)
		slice, _ := s.db.sliceQuery(f, group{"a", "waiting"}, place{})
		page, _ := s.db.exportQuery(f, 1, 100)
		queries = append(queries, query, slice, page)
	}
	for _, query := range queries {
		args := make([]any, 12)
		for i := range args {
			args[i] = int64(1)
		}
		rows, err := s.db.read.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
		require.NoError(t, err, query)
		plan := ""
		for rows.Next() {
			var id, parent, unused int
			var detail string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
			plan += detail + "\n"
			// The totals are few; so is what a query has chosen before; an index over claims holds only these.
			require.NotRegexp(t, `^SCAN (vodrelay_(parcels|settled)( USING INDEX vodrelay_parcels_(key|due|list).*)?|p)$`, detail, query)
		}
		require.NoError(t, rows.Close())
		switch query {
		case latestParcels:
			require.NotContains(t, plan, "ORDER BY")
		case s.db.claim, nextDue, releaseSink: // what is not due is not even looked at
			require.Contains(t, plan, "vodrelay_parcels_due (sink=?")
			require.NotContains(t, plan, "ORDER BY")
		}
	}
}

// TestPlansPostgres is the same for the statements that find their rows among many.
func TestPlansPostgres(t *testing.T) {
	s := open(t, postgresConfig(pgtest.Start(t, "fsync=off")))
	require.NoError(t, s.Put(t.Context(), parcels(0, 2000, "a")...))
	require.NoError(t, s.Put(t.Context(), parcels(0, 2000, "b")...))
	_, err := s.db.write.ExecContext(t.Context(), `ANALYZE`)
	require.NoError(t, err)
	page, args := s.db.pageQuery(Filter{}, group{"a", "waiting"}, place{}, 20)
	prefix, prefixArgs := s.db.pageQuery(Filter{EventID: "0123456789"}, group{"a", "waiting"}, place{}, 20)
	for _, q := range []struct {
		query string
		args  []any
	}{
		{s.db.claim, []any{"a", epoch.UnixMilli() + 1e9, int64(10), "me", int64(5), int64(1000)}},
		{nextDue, []any{"a"}},
		{completeParcel, keyArgs(parcel(1, "a").Key())},
		{counts, nil},
		{page, args},
		{prefix, prefixArgs},
	} {
		rows, err := s.db.write.QueryContext(t.Context(), `EXPLAIN `+q.query, q.args...)
		require.NoError(t, err, q.query)
		plan := ""
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			plan += line + "\n"
		}
		require.NoError(t, rows.Close())
		require.NotContains(t, plan, "Seq Scan on vodrelay_parcels", q.query)
	}
}

// TestClock: times are those of the program, so that a test can let weeks pass.
func TestClock(t *testing.T) {
	cfg := sqliteConfig(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(context.Background(), cfg, nil)
		require.NoError(t, err)
		p := parcel(1, "a")
		p.Created, p.Next = time.Now(), time.Now().Add(7*24*time.Hour)
		require.NoError(t, s.Put(t.Context(), p))
		got, err := s.Claim(t.Context(), "a", 1, time.Minute)
		require.NoError(t, err)
		require.Empty(t, got)
		time.Sleep(7 * 24 * time.Hour)
		got, err = s.Claim(t.Context(), "a", 1, time.Minute)
		require.NoError(t, err)
		require.Len(t, got, 1)
		time.Sleep(59 * time.Second)
		got, err = s.Claim(t.Context(), "a", 1, time.Minute)
		require.NoError(t, err)
		require.Empty(t, got)
		time.Sleep(time.Second)
		got, err = s.Claim(t.Context(), "a", 1, time.Minute)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.NoError(t, s.RememberSettled(t.Context(), 1, "x", time.Now()))
		time.Sleep(event.RetentionTime + time.Second)
		require.NoError(t, s.RememberSettled(t.Context(), 1, "y", time.Now()))
		settled, err := s.Settled(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, []event.SettledMark{{EventID: "y", At: time.UnixMilli(time.Now().UnixMilli())}}, settled)
		require.NoError(t, s.Close(t.Context()))
	})
}

func TestSecretsStayHidden(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	core, logs := observer.New(zapcore.DebugLevel)
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte("postgres://u:c4n-ary@"+address+"/db\n"), 0o600))
	for _, cfg := range []Config{
		{Driver: DriverPostgres, URL: "postgres://u:c4n-ary@" + address + "/db", MaxConns: 2},
		{Driver: DriverPostgres, URL: "postgres://u@" + address + "/db?password=c4n-ary", MaxConns: 2},
		{Driver: DriverPostgres, URL: "host=127.0.0.1 user=u password=c4n-ary sslmode=nonsense", MaxConns: 2},
		{Driver: DriverPostgres, URL: "postgres://u:c4n-ary%zz@" + address + "/db", MaxConns: 2},
		{Driver: DriverPostgres, URLFile: file, MaxConns: 2},
	} {
		_, err := Open(t.Context(), cfg, zap.New(core))
		require.Error(t, err)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", err, err, err, retry.Hint(err)), "c4n-ary")
		if cfg.URLFile != "" {
			require.Contains(t, retry.Hint(err), "check that the PostgreSQL server runs")
			require.False(t, retry.IsPermanent(err))
		}
	}
	require.NotContains(t, fmt.Sprint(logs.All()), "c4n-ary")
	require.NotContains(t, (&database{secret: "c4n-ary"}).explain(fmt.Errorf("password c4n-ary is wrong")).Error(), "c4n-ary")
}

func FuzzImport(f *testing.F) {
	var seed bytes.Buffer
	s := open(f, sqliteConfig(f))
	put := parcels(0, 3, "a")
	put[0].Raw, put[1].Raw, put[2].State = []byte{0xff}, nil, event.ParcelDead
	require.NoError(f, s.Put(f.Context(), put...))
	_, err := s.Export(f.Context(), Filter{}, &seed)
	require.NoError(f, err)
	f.Add(seed.Bytes())
	f.Add([]byte("{}\n\n[1]\nnull\n"))
	f.Add([]byte(`{"id":"a","sink":"b","state":"waiting","event":"x"}{"id":"a"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, dropErr := s.Drop(t.Context(), Filter{})
		require.NoError(t, dropErr)
		added, err := s.Import(t.Context(), bytes.NewReader(data))
		var first, second bytes.Buffer
		n, exportErr := s.Export(t.Context(), Filter{}, &first)
		require.NoError(t, exportErr)
		require.Equal(t, n, added)
		if err != nil {
			return
		}
		// What was taken comes out, goes in and comes out as the same.
		_, dropErr = s.Drop(t.Context(), Filter{})
		require.NoError(t, dropErr)
		again, err := s.Import(t.Context(), bytes.NewReader(first.Bytes()))
		require.NoError(t, err)
		require.Equal(t, n, again)
		_, err = s.Export(t.Context(), Filter{}, &second)
		require.NoError(t, err)
		require.Equal(t, first.String(), second.String())
	})
}

// FuzzLine: a line that is taken is written as the same parcel again.
func FuzzLine(f *testing.F) {
	for _, p := range []event.Parcel{parcel(1, "a"), {Event: event.Event{ID: "\x00", Type: "\xff", Raw: []byte("\"\xff\"")}, Sink: "base64:", State: event.ParcelDead}} {
		text, err := json.Marshal(toLine(p))
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte(`{"id":"a","sink":"b","state":"waiting","event":"{}","event_base64":"AA=="}`))
	f.Add([]byte(`{"id":"a","sink":"b","state":"waiting","created":"0000-01-01T00:00:00+23:59"} {}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := fromLine(text)
		if err != nil {
			return
		}
		written, err := json.Marshal(toLine(p))
		require.NoError(t, err)
		again, err := fromLine(written)
		require.NoError(t, err)
		require.Equal(t, p.Key(), again.Key())
		require.Equal(t, p.Type, again.Type)
		require.True(t, bytes.Equal(p.Raw, again.Raw))
		require.True(t, p.Created.Equal(again.Created) && p.Next.Equal(again.Next) && p.Updated.Equal(again.Updated))
	})
}
