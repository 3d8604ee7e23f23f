package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/internal/conns"
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
func openPostgres(ctx context.Context, cfg Config, log *zap.Logger) (*database, error) {
	text, err := cfg.postgresURL()
	if err != nil {
		return nil, retry.Permanent(retry.WithHint(err, "let the user that runs vodrelay read the file that url_file names"))
	}
	config, err := parseURL(text)
	if err != nil {
		return nil, retry.Permanent(fmt.Errorf("url: (hidden): %w", err))
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if _, set := config.RuntimeParams["application_name"]; !set {
		config.RuntimeParams["application_name"] = "vodrelay"
	}
	db := &database{
		server: true,
		name:   fmt.Sprintf("database %s on %s", config.Database, config.Host), secret: config.Password,
		types: postgresTypes, claim: fmt.Sprintf(claimParcels, "FOR UPDATE SKIP LOCKED"), within: "strpos(%s, %s) > 0",
		writers: max(1, cfg.MaxConns/2), limit: transactionLimit,
		first: `SELECT pg_advisory_xact_lock(8246913507742019)`, // any number that nobody else takes
		many:  manyPostgres, change: changePostgres,
	}
	pooled, err := db.probe(ctx, config, log)
	if err != nil {
		return nil, err
	}
	var known sessions
	options := []stdlib.OptionOpenDB{
		stdlib.OptionBeforeConnect(func(_ context.Context, next *pgx.ConnConfig) error { return cfg.renew(next) }),
		stdlib.OptionShouldPing(known.worthPing), stdlib.OptionResetSession(known.check),
	}
	if pooled {
		log.Info("a pooler such as PgBouncer stands before the database: doing without prepared statements and session settings", zap.String("store", db.name))
		if config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement { // the default
			config.DefaultQueryExecMode = pgx.QueryExecModeExec
		}
		db.begin = settingsOfTransaction
	} else {
		for name, value := range map[string]string{"statement_timeout": statementTimeout, "idle_in_transaction_session_timeout": idleInTransaction} {
			if _, set := config.RuntimeParams[name]; !set {
				config.RuntimeParams[name] = value
			}
		}
	}
	options = append(options, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		known.began(conn)
		if pooled {
			return nil
		}
		if err := durable(ctx, conn); err != nil {
			return errors.Join(err, conn.Close(ctx)) // nobody else does
		}
		return nil
	}))
	pool := stdlib.OpenDB(*config, options...)
	pool.SetMaxOpenConns(cfg.MaxConns)
	pool.SetMaxIdleConns(cfg.MaxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(conns.MaxAge)
	db.write, db.read, db.failed = pool, pool, known.failed
	db.life, db.cut = context.WithCancel(context.Background())
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

// settingsOfTransaction is what a connection has otherwise: a pooler gives each transaction a session that
// others use as well.
const settingsOfTransaction = `SELECT set_config('statement_timeout', '` + statementTimeout + `', true),
	set_config('idle_in_transaction_session_timeout', '` + idleInTransaction + `', true),
	set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`

// probe checks with a connection of its own that the server can be used, and reports whether a pooler stands
// before it, which may give each transaction another session: the process that answers is then not the one
// that the connection was told of. It needs nothing that a pooler might refuse.
func (db *database) probe(ctx context.Context, config *pgx.ConnConfig, log *zap.Logger) (pooled bool, err error) {
	plain := config.Copy()
	plain.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, plain)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(ctx) }() // it has done its work
	var version int
	var pid int64
	var shown, fsync string
	const query = `SELECT CAST(current_setting('server_version_num') AS INTEGER), current_setting('server_version'), current_setting('fsync'), pg_backend_pid()`
	if err := conn.QueryRow(ctx, query).Scan(&version, &shown, &fsync, &pid); err != nil {
		return false, err
	}
	if version < oldestPostgres {
		return false, retry.Permanent(retry.WithHint(fmt.Errorf("%s is PostgreSQL %s", db.name, shown), "use PostgreSQL 12 or later"))
	}
	if fsync != "on" {
		log.Warn("the PostgreSQL server runs with fsync off: a power failure can lose parcels of events that were confirmed",
			zap.String("hint", "set fsync = on in postgresql.conf"))
	}
	return pid != int64(conn.PgConn().PID()), nil
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
