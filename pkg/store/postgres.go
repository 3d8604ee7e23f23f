package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	connectTimeout    = 5 * time.Second
	statementTimeout  = "20000" // milliseconds
	idleInTransaction = "60000" // milliseconds; frees the locks of a replica whose machine is gone
	transactionLimit  = 30 * time.Second
	oldestPostgres    = 120000 // the first with WITH ... AS MATERIALIZED
)

// openPostgres connects, and fails when the server cannot be used.
func openPostgres(ctx context.Context, cfg Config, log *zap.Logger) (_ *database, err error) {
	text, err := cfg.postgresURL()
	if err != nil {
		return nil, err
	}
	config, err := parseURL(text)
	if err != nil {
		return nil, retry.Permanent(fmt.Errorf("url: (hidden): %w", err))
	}
	for name, value := range map[string]string{
		"application_name": "vodrelay", "statement_timeout": statementTimeout, "idle_in_transaction_session_timeout": idleInTransaction,
	} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	pool := stdlib.OpenDB(*config,
		stdlib.OptionBeforeConnect(func(_ context.Context, next *pgx.ConnConfig) error { return cfg.renew(next) }),
		stdlib.OptionAfterConnect(durable))
	pool.SetMaxOpenConns(cfg.MaxConns)
	pool.SetMaxIdleConns(cfg.MaxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	db := &database{
		name: fmt.Sprintf("database %s on %s", config.Database, config.Host), secret: config.Password,
		types: postgresTypes, claim: fmt.Sprintf(claimParcels, "FOR UPDATE SKIP LOCKED"), within: "strpos(%s, %s) > 0",
		writers: max(1, cfg.MaxConns/2), limit: transactionLimit, write: pool, read: pool,
		first: `SELECT pg_advisory_xact_lock(8246913507742019)`, // any number that nobody else takes
		many:  manyPostgres, change: changePostgres,
	}
	if err := db.verifyPostgres(ctx, log); err != nil {
		_ = pool.Close()
		return nil, err
	}
	return db, nil
}

// renew takes user and password from url_file again, which may have changed.
func (c Config) renew(next *pgx.ConnConfig) error {
	if c.URLFile == "" {
		return nil
	}
	text, err := c.postgresURL()
	if err != nil {
		return err
	}
	fresh, err := parseURL(text)
	if err != nil {
		return fmt.Errorf("url_file: (hidden): %w", err)
	}
	next.User, next.Password = fresh.User, fresh.Password
	return nil
}

// durable makes the commits of a connection wait for the disk, if the server's setting does not.
func durable(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

func (db *database) verifyPostgres(ctx context.Context, log *zap.Logger) error {
	var version int
	var shown, fsync string
	const query = `SELECT CAST(current_setting('server_version_num') AS INTEGER), current_setting('server_version'), current_setting('fsync')`
	if err := db.read.QueryRowContext(ctx, query).Scan(&version, &shown, &fsync); err != nil {
		return err
	}
	if version < oldestPostgres {
		return retry.Permanent(retry.WithHint(fmt.Errorf("%s is PostgreSQL %s", db.name, shown), "use PostgreSQL 12 or later"))
	}
	if fsync != "on" {
		log.Warn("the PostgreSQL server runs with fsync off: a power failure can lose parcels of events that were confirmed",
			zap.String("hint", "set fsync = on in postgresql.conf"))
	}
	return nil
}

func manyPostgres(ctx context.Context, t *txn, query string, args [][]any, each func(int, scanner) error) error {
	return t.batch(ctx, query, args, func(i int, results pgx.BatchResults) error {
		found, err := results.Query()
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			if err := each(i, found); err != nil {
				return err
			}
		}
		return found.Err()
	})
}

func changePostgres(ctx context.Context, t *txn, query string, args [][]any, changed func(int)) error {
	return t.batch(ctx, query, args, func(i int, results pgx.BatchResults) error {
		tag, err := results.Exec()
		if err == nil && tag.RowsAffected() > 0 && changed != nil {
			changed(i)
		}
		return err
	})
}

// batch sends all rows at once and then reads the results: one way to the server and back.
func (t *txn) batch(ctx context.Context, query string, args [][]any, read func(i int, results pgx.BatchResults) error) error {
	if len(args) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	for _, values := range args {
		batch.Queue(query, values...)
	}
	return t.conn.Raw(func(raw any) (err error) {
		std, ok := raw.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("not a connection of pgx: %T", raw)
		}
		results := std.Conn().SendBatch(ctx, batch)
		defer func() {
			if closing := results.Close(); err == nil {
				err = closing
			}
		}()
		for i := range args {
			if err := read(i, results); err != nil {
				return err
			}
		}
		return nil
	})
}
