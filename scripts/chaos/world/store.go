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
)

// store is where relays keep parcels, seen from outside.
type store interface {
	settings(r *relay) map[string]any
	// address is what proxies lead to; "" for none.
	address() string
	// parcels reads them while no relay runs.
	parcels(ctx context.Context) ([]ledger.Parcel, error)
	close() error
}

// noStore keeps nothing.
type noStore struct{}

func (noStore) settings(*relay) map[string]any                   { return map[string]any{"driver": "none"} }
func (noStore) address() string                                  { return "" }
func (noStore) parcels(context.Context) ([]ledger.Parcel, error) { return nil, nil }
func (noStore) close() error                                     { return nil }

// fileStore is an SQLite file.
type fileStore struct{ dir, scratch string }

func (s fileStore) path() string { return filepath.Join(s.dir, "vodrelay.db") }
func (s fileStore) settings(*relay) map[string]any {
	return map[string]any{"driver": "sqlite", "path": s.path()}
}
func (s fileStore) address() string { return "" }
func (s fileStore) close() error    { return nil }

// parcels opens a copy, so that nothing of the original changes: neither its log nor its index.
func (s fileStore) parcels(ctx context.Context) ([]ledger.Parcel, error) {
	if _, err := os.Stat(s.path()); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	dir, err := os.MkdirTemp(s.scratch, "copy")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(s.path()+suffix, copied+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
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
	return readParcels(ctx, db)
}

// readParcels reads the table, which both engines have.
func readParcels(ctx context.Context, db *sql.DB) (all []ledger.Parcel, err error) {
	rows, err := db.QueryContext(ctx, `SELECT sink, state, last_error, raw FROM vodrelay_parcels`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p ledger.Parcel
		var state string
		if err := rows.Scan(&p.Sink, &state, &p.Reason, &p.Raw); err != nil {
			return nil, err
		}
		if p.Dead = state == "dead"; !p.Dead && state != "waiting" {
			return nil, fmt.Errorf("a parcel has the state %q", state)
		}
		all = append(all, p)
	}
	return all, rows.Err()
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
