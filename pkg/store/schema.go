package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// migrations make the tables: the member at index n takes a store from version n to n+1. What was once
// released is never changed. Words in braces differ between the engines.
//
// All times are Unix milliseconds of this program's clock, 0 for none. Texts that PostgreSQL could not hold
// are stored as toText makes them.
var migrations = [][]string{
	{
		// due_at is when a waiting parcel can be claimed: next_at, or while it is claimed the end of the claim.
		// seq is never used twice: whoever read it can act on it later without meaning another parcel.
		`CREATE TABLE vodrelay_parcels (
			seq {serial},
			sub_app_id BIGINT NOT NULL,
			event_id {text} NOT NULL,
			sink {text} NOT NULL,
			type {text} NOT NULL,
			state {text} NOT NULL,
			attempts BIGINT NOT NULL,
			created_at BIGINT NOT NULL,
			updated_at BIGINT NOT NULL,
			next_at BIGINT NOT NULL,
			due_at BIGINT NOT NULL,
			claimed_by {text} NOT NULL,
			first_error {text} NOT NULL,
			last_error {text} NOT NULL,
			raw {bytes} NOT NULL
		)`,
		`CREATE UNIQUE INDEX vodrelay_parcels_key ON vodrelay_parcels (event_id, sink, sub_app_id)`,
		`CREATE INDEX vodrelay_parcels_due ON vodrelay_parcels (sink, due_at, seq) WHERE state = 'waiting'`,
		`CREATE INDEX vodrelay_parcels_claimed ON vodrelay_parcels (claimed_by) WHERE claimed_by <> ''`,
		`CREATE INDEX vodrelay_parcels_list ON vodrelay_parcels (sink, state, created_at, seq)`,

		// What the parcels add up to, changed in the same transactions, so that nobody has to count millions
		// of rows. The sum over the shards is what counts; a single shard may be negative.
		`CREATE TABLE vodrelay_totals (
			sink {text} NOT NULL,
			state {text} NOT NULL,
			shard BIGINT NOT NULL,
			parcels BIGINT NOT NULL,
			bytes BIGINT NOT NULL,
			PRIMARY KEY (sink, state, shard)
		)`,
	},
	{
		`CREATE TABLE vodrelay_settled (
			sub_app_id BIGINT NOT NULL,
			event_id {text} NOT NULL,
			settled_at BIGINT NOT NULL,
			PRIMARY KEY (event_id, sub_app_id)
		)`,
		`CREATE INDEX vodrelay_settled_age ON vodrelay_settled (settled_at)`,
		`CREATE INDEX vodrelay_settled_application ON vodrelay_settled (sub_app_id, settled_at)`,
	},
}

// migrate brings the tables to this program's version, all of it in one transaction that only one process
// has at a time. A command makes tables where there are none, and does not touch older ones: the daemon that uses them
// may still run. A check takes back what it has done, with ErrPending.
func migrate(ctx context.Context, db *database, o options) error {
	steps := o.migrations
	return db.exclusively(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS vodrelay_schema (version BIGINT NOT NULL, checked_at BIGINT NOT NULL)`); err != nil {
			return err
		}
		var rows, version int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(MAX(version), 0) FROM vodrelay_schema`).Scan(&rows, &version); err != nil {
			return err
		}
		target := int64(len(steps))
		switch {
		case version > target:
			return retry.Permanent(retry.WithHint(
				fmt.Errorf("%w: %s has tables of version %d, this program knows up to %d", ErrSchema, db.name, version, target),
				"run the newer vodrelay that made them; or export the parcels with it and import them into a new store"))
		case version < target && version > 0 && o.admin && !o.checked:
			return retry.Permanent(retry.WithHint(
				fmt.Errorf("%w: %s has tables of version %d, this program needs %d", ErrSchema, db.name, version, target),
				"restart the daemon with this version of vodrelay, which converts them"))
		case version == target && rows > 0:
			return nil
		}
		for _, step := range steps[version:] {
			for _, statement := range step {
				if _, err := tx.ExecContext(ctx, db.types.Replace(statement)); err != nil {
					return fmt.Errorf("migrate to version %d: %w", target, err)
				}
			}
		}
		switch {
		case o.checked && version > 0:
			return fmt.Errorf("%s has tables of version %d, which will be converted to %d %w", db.name, version, target, ErrPending)
		case o.checked:
			return fmt.Errorf("%s: the tables will be made %w", db.name, ErrPending)
		}
		query := `UPDATE vodrelay_schema SET version = $1, checked_at = $2`
		if rows == 0 {
			query = `INSERT INTO vodrelay_schema (version, checked_at) VALUES ($1, $2)`
		}
		_, err := tx.ExecContext(ctx, query, target, time.Now().UnixMilli())
		return err
	})
}

// identify gives an SQLite file a number by which a write-ahead log of another store is known.
func identify(ctx context.Context, tx *sql.Tx) error {
	var id int64
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&id); err != nil || id != 0 {
		return err
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, int32(binary.NativeEndian.Uint32(random[:])|1)))
	return err
}

// The words in braces. COLLATE "C" makes PostgreSQL compare bytes, as SQLite does.
var (
	sqliteTypes   = strings.NewReplacer("{serial}", "INTEGER PRIMARY KEY AUTOINCREMENT", "{text}", "TEXT", "{bytes}", "BLOB")
	postgresTypes = strings.NewReplacer("{serial}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "{text}", `TEXT COLLATE "C"`, "{bytes}", "BYTEA")
)
