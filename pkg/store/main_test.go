//go:build unix

package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(childTask); task != "" {
		child(task)
		return
	}
	goleak.VerifyTestMain(m)
}

// engine makes configurations of empty stores.
type engine struct {
	name string
	// fresh is an empty store each time.
	fresh func(t testing.TB) Config
}

// engines are both, real ones.
func engines(t testing.TB) []engine {
	var server *pgtest.Server
	return []engine{
		{"sqlite", func(t testing.TB) Config { return sqliteConfig(t) }},
		{"postgres", func(inner testing.TB) Config {
			if server == nil {
				server = pgtest.Start(t, "fsync=off") // the contract is not about crashes of the server
			}
			return postgresConfig(server)
		}},
	}
}

func onBoth(t *testing.T, test func(t *testing.T, e engine)) {
	for _, e := range engines(t) {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}

func sqliteConfig(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.Path = filepath.Join(t.TempDir(), "state", "vodrelay.db")
	return cfg
}

func postgresConfig(server *pgtest.Server) Config {
	cfg := DefaultConfig()
	cfg.Driver, cfg.URL = DriverPostgres, server.Database()
	return cfg
}

func open(t testing.TB, cfg Config, opts ...Option) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg, zap.NewNop(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// payload is about 1.5 KB, as an upload's notification is.
var payload = func() []byte {
	text := []byte(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%d","MetaData":{"Size":1},"Pad":"`)
	for len(text) < 1490 {
		text = append(text, byte('a'+len(text)%26))
	}
	return append(text, `"}}`...)
}()

var epoch = time.UnixMilli(1_700_000_000_000)

// parcel is the nth of a sink, made n seconds after the epoch.
func parcel(n int, sink string) event.Parcel {
	return event.Parcel{
		Event: event.Event{ID: fmt.Sprintf("%032x", uint64(n)*0x9e3779b97f4a7c15), Type: "NewFileUpload", SubAppID: 1500000001, Raw: payload},
		Sink:  sink, State: event.ParcelWaiting,
		Created: epoch.Add(time.Duration(n) * time.Second), Updated: epoch.Add(time.Duration(n) * time.Second), Next: epoch.Add(time.Duration(n) * time.Second),
	}
}

func parcels(from, to int, sink string) []event.Parcel {
	var all []event.Parcel
	for n := from; n < to; n++ {
		all = append(all, parcel(n, sink))
	}
	return all
}

func keys(parcels []event.Parcel) []event.ParcelKey {
	var all []event.ParcelKey
	for _, p := range parcels {
		all = append(all, p.Key())
	}
	return all
}

// all lists everything, page by page.
func all(t testing.TB, s *Store, f Filter) []event.Parcel {
	t.Helper()
	var found []event.Parcel
	for after := Cursor(""); ; {
		page, next, err := s.List(t.Context(), f, after, 7)
		require.NoError(t, err)
		found = append(found, page...)
		if next == "" {
			return found
		}
		after = next
	}
}

// consistent checks that the totals are what the parcels add up to, and that no key is there twice.
func consistent(t testing.TB, s *Store) {
	t.Helper()
	rows, err := s.db.read.QueryContext(t.Context(), `SELECT sink, state, COUNT(*), SUM(length(raw)), MIN(created_at) FROM vodrelay_parcels GROUP BY sink, state`)
	require.NoError(t, err)
	defer rows.Close()
	counted := []Count{}
	for rows.Next() {
		var c Count
		var state string
		var oldest int64
		require.NoError(t, rows.Scan(&c.Sink, &state, &c.Parcels, &c.Bytes, &oldest))
		c.Sink, c.State, c.Oldest = fromText(c.Sink), event.ParcelState(state), fromMillis(oldest)
		counted = append(counted, c)
	}
	require.NoError(t, rows.Err())
	said, err := s.Counts(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, counted, said)
	var twice int
	require.NoError(t, s.db.read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM (SELECT 1 AS one FROM vodrelay_parcels GROUP BY sub_app_id, event_id, sink HAVING COUNT(*) > 1) d`).Scan(&twice))
	require.Zero(t, twice)
	if s.cfg.Driver == DriverSQLite {
		var integrity string
		require.NoError(t, s.db.read.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&integrity))
		require.Equal(t, "ok", integrity)
	}
}

// same compares parcels; require.Equal would print every byte of them.
func same(t testing.TB, want, got []event.Parcel, message ...any) {
	t.Helper()
	require.Equal(t, shown(want), shown(got), message...)
}

func shown(parcels []event.Parcel) []string {
	all := []string{}
	for _, p := range parcels {
		raw := p.Raw
		p.Raw = nil
		all = append(all, fmt.Sprintf("%+v %x", p, sha256.Sum256(raw)))
	}
	return all
}
