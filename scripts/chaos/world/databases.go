package world

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"github.com/redis/go-redis/v9"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/servers"
)

// table is a PostgreSQL server as a target.
type table struct {
	*servers.Postgres
	name string
	seen map[string]bool
}

func (t *table) address() string { return t.Addr() }
func (t *table) close() error    { return t.Close() }

func (t *table) settings(r *relay) map[string]any {
	return map[string]any{"url": t.URL(r.links[t.name].Addr()), "create_table": true, "max_conns": 2, "statement_timeout": "2s"}
}

// read reads the whole table. A row that is there twice has two keys, which the ledger finds.
func (t *table) read(ctx context.Context, l *ledger.Ledger, rest bool) error {
	if !rest {
		return nil
	}
	return ask(ctx, t.URL(t.Addr()), "vodrelay_events", `SELECT sub_app_id::text || event_id, received_at, content::text FROM vodrelay_events`, func(scan func(...any) error) error {
		var id, content string
		var at time.Time
		if err := scan(&id, &at, &content); err != nil || t.seen[id] {
			return err
		}
		t.seen[id] = true
		l.Arrive(t.name, at, []byte(content))
		return nil
	})
}

// ask runs a query on PostgreSQL, if the table is there, with each for every row.
func ask(ctx context.Context, url, table, query string, each func(scan func(...any) error) error) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer db.Close()
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there); err != nil || !there {
		return err
	}
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// pgStore is a PostgreSQL server as a store.
type pgStore struct{ *servers.Postgres }

func (s pgStore) address() string { return s.Addr() }
func (s pgStore) close() error    { return s.Close() }

func (s pgStore) settings(r *relay) map[string]any {
	return map[string]any{"driver": "postgres", "url": s.URL(r.links["store"].Addr()), "max_conns": 3}
}

func (s pgStore) parcels(ctx context.Context) (all []ledger.Parcel, err error) {
	err = ask(ctx, s.URL(s.Addr()), "vodrelay_parcels", selectParcels, func(scan func(...any) error) error {
		p, err := scanParcel(scan)
		all = append(all, p)
		return err
	})
	return all, err
}

// stream is a Redis server as a target.
type stream struct {
	*servers.Redis
	name  string
	after string // the last entry that was read
}

const streamKey = "vod"

func (t *stream) address() string { return t.Addr() }
func (t *stream) close() error    { return t.Close() }

func (t *stream) settings(r *relay) map[string]any {
	return map[string]any{"addresses": []string{r.links[t.name].Addr()}, "key": streamKey, "dedup_window": "24h", "reply_timeout": "2s"}
}

func (t *stream) read(ctx context.Context, l *ledger.Ledger, rest bool) (err error) {
	if !rest {
		return nil
	}
	client := redis.NewClient(&redis.Options{Addr: t.Addr(), MaxRetries: -1})
	defer func() { err = errors.Join(err, client.Close()) }()
	entries, err := client.XRange(ctx, streamKey, t.after, "+").Result()
	for _, e := range entries {
		millis, _, _ := strings.Cut(e.ID, "-")
		at, err := strconv.ParseInt(millis, 10, 64)
		body, ok := e.Values["data"].(string)
		if err != nil || !ok {
			return fmt.Errorf("an entry that the sink does not write: %v", e)
		}
		t.after = "(" + e.ID
		l.Arrive(t.name, time.UnixMilli(at), []byte(body))
	}
	return err
}
