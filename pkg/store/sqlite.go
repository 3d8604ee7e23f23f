package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"modernc.org/sqlite"

	"github.com/vodrelay/vodrelay/pkg/internal/diskprobe"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// oldestSQLite has the fix of a bug by which a checkpoint at the wrong moment could damage a database in WAL
// mode: https://sqlite.org/wal.html#walresetbug.
var oldestSQLite = [3]int{3, 51, 3}

// settings are read back when the store is opened, since SQLite ignores a pragma that it cannot obey.
var settings = []struct{ pragma, value, result string }{
	{"busy_timeout", "10000", "10000"}, // milliseconds; a command waits for the daemon and the daemon for a command
	{"journal_mode", "WAL", "wal"},
	{"synchronous", "FULL", "2"}, // a commit is on the disk when it returns, also in WAL mode
	{"fullfsync", "1", "1"},      // on macOS fsync alone does not reach the disk
	{"checkpoint_fullfsync", "1", "1"},
	{"cache_size", "-2048", "-2048"},       // KiB for each of five connections
	{"wal_autocheckpoint", "4000", "4000"}, // pages
	{"journal_size_limit", strconv.Itoa(walKept), strconv.Itoa(walKept)},
}

// openSQLite opens a file, for the daemon with its lock. One connection writes, others read beside it. Nothing
// is written before the file has been looked at: the end of the last connection would do it.
func openSQLite(ctx context.Context, path string, o options, log *zap.Logger) (*database, error) {
	g, err := openGuard(ctx, path, o, log)
	if err != nil {
		return nil, err
	}
	err = g.placed(g.rollBack(ctx))
	if err == nil {
		err = g.examine(ctx)
	}
	if err == nil && (!o.admin || o.checked) {
		err = g.placed(g.check(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	db := &database{
		name: path, types: sqliteTypes, claim: fmt.Sprintf(claimParcels, ""), within: "instr(%s, %s) > 0", writers: 1,
		write: openPool(g.path, "_txlock=immediate", 1),
		read:  openPool(g.path, "_pragma=query_only(1)", 4),
		many:  manySQLite, change: changeSQLite, guard: g,
	}
	if err := db.verifySQLite(ctx); err != nil {
		return nil, errors.Join(g.placed(err), db.close())
	}
	return db, nil
}

// placed is err with its cause where SQLite says no more than that it cannot go on: the directory takes no files, which
// SQLite needs beside the database, or its volume is full.
func (g *guard) placed(err error) error {
	if !isVague(err) {
		return err
	}
	if cause := diskprobe.Write(filepath.Dir(g.path), g.path+"-wal"); cause != nil {
		return cause
	}
	return err
}

func openPool(path, query string, conns int) *sql.DB {
	for _, s := range settings {
		query += fmt.Sprintf("&_pragma=%s(%s)", s.pragma, s.value)
	}
	pool, err := sql.Open("sqlite", address(path, query))
	if err != nil {
		panic(err) // the driver is not registered: impossible, it is imported above
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return pool
}

// address is that of a file for the driver.
func address(path, query string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query}
	return u.String()
}

// verifySQLite checks that the program's SQLite is new enough, and that it does what the settings say.
func (db *database) verifySQLite(ctx context.Context) error {
	var version string
	if err := db.write.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&version); err != nil {
		return fmt.Errorf("open %s: %w", db.name, err)
	}
	if !newEnough(version) {
		return retry.Permanent(retry.WithHint(
			fmt.Errorf("SQLite %s in this program can damage a database, %d.%d.%d and later cannot", version, oldestSQLite[0], oldestSQLite[1], oldestSQLite[2]),
			"build vodrelay with modernc.org/sqlite v1.46.2 or later"))
	}
	for _, s := range settings {
		var is string
		if err := db.write.QueryRowContext(ctx, `PRAGMA `+s.pragma).Scan(&is); err != nil {
			return fmt.Errorf("open %s: %w", db.name, err)
		}
		if is != s.result {
			return retry.Permanent(retry.WithHint(fmt.Errorf("%s: %s is %s instead of %s", db.name, s.pragma, is, s.result),
				"put the file on a local file system that supports SQLite's WAL mode"))
		}
	}
	return nil
}

// keepWAL has the last connection leave the write-ahead log where it is. Its name may be that of another
// store's log by now.
func (db *database) keepWAL() error {
	conn, err := db.write.Conn(context.Background())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	return conn.Raw(func(c any) error {
		_, err := c.(sqlite.FileControl).FileControlPersistWAL("main", 1) //nolint:forcetypeassert // the driver's own
		return err
	})
}

func newEnough(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	for i, least := range oldestSQLite {
		n := 0
		if i < len(parts) {
			n, _ = strconv.Atoi(parts[i])
		}
		if n != least {
			return n > least
		}
	}
	return true
}

// prepare has the statements of the daily work parsed once. The tables must be there.
func (db *database) prepare(ctx context.Context) error {
	db.statements = make(map[string]*sql.Stmt)
	for _, query := range []string{addTotals, insertParcel, db.claim, unclaimParcel, completeParcel, failParcel} {
		statement, err := db.write.PrepareContext(ctx, query) //nolint:sqlclosecheck // closed with the pool
		if err != nil {
			return err
		}
		db.statements[query] = statement
	}
	return nil
}

// manySQLite runs a statement row by row: there is no way to a server and back to be saved.
func manySQLite(ctx context.Context, t *txn, query string, args [][]any, each func(int, scanner) error) error {
	return t.withStatement(ctx, query, func(statement *sql.Stmt) error {
		for i, values := range args {
			if err := oneSQLite(ctx, statement, i, values, each); err != nil {
				return err
			}
		}
		return nil
	})
}

func oneSQLite(ctx context.Context, statement *sql.Stmt, i int, values []any, each func(int, scanner) error) error {
	found, err := statement.QueryContext(ctx, values...)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }() // Err below says what went wrong
	for found.Next() {
		if err := each(i, found); err != nil {
			return err
		}
	}
	return found.Err()
}

func changeSQLite(ctx context.Context, t *txn, query string, args [][]any, changed func(int)) error {
	return t.withStatement(ctx, query, func(statement *sql.Stmt) error {
		for i, values := range args {
			result, err := statement.ExecContext(ctx, values...)
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil {
				return err
			} else if n > 0 && changed != nil {
				changed(i)
			}
		}
		return nil
	})
}

func (t *txn) withStatement(ctx context.Context, query string, use func(*sql.Stmt) error) error {
	if prepared := t.db.statements[query]; prepared != nil {
		return use(t.tx.StmtContext(ctx, prepared))
	}
	statement, err := t.tx.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = statement.Close() }() // it has done its work
	return use(statement)
}
