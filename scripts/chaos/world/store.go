package world

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/servers"
)

// store is where relays keep parcels, seen from outside.
type store interface {
	settings(r *relay) map[string]any
	// address is what proxies lead to; "" for none.
	address() string
	// parcels reads them. While relays run the answer may be an error.
	parcels(ctx context.Context) ([]ledger.Parcel, error)
	close() error
}

func (w *World) newStore(ctx context.Context) (store, error) {
	switch w.plan.Store {
	case plan.None:
		return noStore{}, nil
	case plan.SQLite:
		return fileStore{path: w.disk("vodrelay.db"), scratch: w.dir}, nil
	case plan.Postgres:
		p, err := servers.NewPostgres(ctx)
		return pgStore{p}, err
	}
	return nil, fmt.Errorf("no store of the kind %s", w.plan.Store)
}

// noStore keeps nothing.
type noStore struct{}

func (noStore) settings(*relay) map[string]any                   { return map[string]any{"driver": "none"} }
func (noStore) address() string                                  { return "" }
func (noStore) parcels(context.Context) ([]ledger.Parcel, error) { return nil, nil }
func (noStore) close() error                                     { return nil }

// fileStore is an SQLite file.
type fileStore struct{ path, scratch string }

func (s fileStore) settings(*relay) map[string]any {
	return map[string]any{"driver": "sqlite", "path": s.path}
}
func (s fileStore) address() string { return "" }
func (s fileStore) close() error    { return nil }

// parcels opens a copy, so that nothing of the original changes: neither its log nor its index.
func (s fileStore) parcels(ctx context.Context) (all []ledger.Parcel, err error) {
	if _, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	dir, err := os.MkdirTemp(s.scratch, "copy")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(s.path+suffix, copied+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	db, err := sql.Open("sqlite", copied)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = 'vodrelay_parcels'`).Scan(&tables); err != nil || tables == 0 {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, selectParcels)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		p, err := scanParcel(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// Both engines have the table.
const selectParcels = `SELECT sink, state, last_error, raw FROM vodrelay_parcels`

func scanParcel(scan func(...any) error) (p ledger.Parcel, err error) {
	var state string
	if err := scan(&p.Sink, &state, &p.Reason, &p.Raw); err != nil {
		return p, err
	}
	if p.Dead = state == "dead"; !p.Dead && state != "waiting" {
		return p, fmt.Errorf("a parcel has the state %q", state)
	}
	return p, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
