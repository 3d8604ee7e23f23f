package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// database is one of the two engines. Both take the same SQL, with parameters written $1.
type database struct {
	name   string // for messages
	server bool   // it is at a server, and not in a file
	secret string // what must not show in them
	types  *strings.Replacer
	claim  string // the statement of Claim
	within string // the test that text %s contains a parameter %s
	// writers is how many transactions can run at once.
	writers int
	// limit ends a transaction that hangs; 0 for none.
	limit time.Duration
	// write and read are the same pool where the engine has no need of two.
	write, read *sql.DB
	statements  map[string]*sql.Stmt // of write, prepared; may be nil
	// life ends when cut is called, and with it the transactions that run; nil: they cannot be ended from outside.
	life context.Context //nolint:containedctx // that of a pool, as long as it is open
	cut  context.CancelFunc
	// failed is told of each transaction that failed; may be nil.
	failed func(err error)
	// begin is run at the beginning of each transaction; "" for nothing.
	begin string
	// first takes a lock, at the beginning of a transaction, that only one process has.
	first string
	// many runs one statement, which returns rows, for each row of arguments, and gives each what it returned.
	many func(ctx context.Context, t *txn, query string, args [][]any, each func(i int, r scanner) error) error
	// change runs one statement for each row of arguments, and tells changed, unless nil, which changed something.
	change func(ctx context.Context, t *txn, query string, args [][]any, changed func(i int)) error
	guard  *guard // of the files; nil: a server has them
}

// scanner is a row of a result.
type scanner interface{ Scan(dest ...any) error }

// queryer is what can be read from: a pool or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// txn is one write transaction.
type txn struct {
	db    *database
	conn  *sql.Conn
	tx    *sql.Tx
	now   int64 // of its begin
	shard int64
	// stored is what was in the store at the first question for it.
	stored holdings
	// logExcess is how much of the write-ahead log counted into max_bytes at its begin.
	logExcess int64
	delta     map[group]sum
}

// group is what parcels are counted and listed by.
type group struct{ sink, state string }

type sum struct{ parcels, bytes int64 }

func (s sum) plus(other sum) sum { return sum{s.parcels + other.parcels, s.bytes + other.bytes} }

// transact runs do in a transaction of its own. It belongs to no caller, so nobody can end it midway: a
// statement that is interrupted could leave the connection in doubt.
func (db *database) transact(shard int64, do func(ctx context.Context, t *txn) error) (err error) {
	ctx := context.Background()
	if db.life != nil {
		ctx = db.life
	}
	if db.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, db.limit)
		defer cancel()
	}
	defer db.report(&err)
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback() // err tells more; after a full disk SQLite has rolled back already
		}
	}()
	if err := db.starting(ctx, tx); err != nil {
		return err
	}
	t := &txn{db: db, conn: conn, tx: tx, now: time.Now().UnixMilli(), shard: shard, logExcess: db.guard.logExcess(), delta: make(map[group]sum)}
	if err := do(ctx, t); err != nil {
		return err
	}
	if err := t.flush(ctx); err != nil {
		return err
	}
	return tx.Commit()
}

// starting runs what each transaction begins with.
func (db *database) starting(ctx context.Context, tx *sql.Tx) error {
	if db.begin == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, db.begin)
	return err
}

// report tells failed of a transaction's error.
func (db *database) report(err *error) {
	if *err != nil && db.failed != nil {
		db.failed(*err)
	}
}

// exclusively runs do in a transaction that no other process has at the same time. On SQLite it does not
// end with ctx, for the reason that transact gives.
func (db *database) exclusively(ctx context.Context, do func(ctx context.Context, tx *sql.Tx) error) (err error) {
	if db.limit == 0 {
		ctx = context.WithoutCancel(ctx)
	}
	defer db.report(&err)
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	if err := db.starting(ctx, tx); err != nil {
		return err
	}
	if db.first != "" {
		if _, err := tx.ExecContext(ctx, db.first); err != nil {
			return err
		}
	}
	if err := do(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// exec runs one statement and returns how many rows it changed.
func (t *txn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// count notes what becomes of the totals.
func (t *txn) count(sink, state string, parcels, bytes int64) {
	g := group{sink, state}
	t.delta[g] = t.delta[g].plus(sum{parcels, bytes})
}

// try runs do so that its changes can be taken back without the rest of the transaction: keep says whether
// they stay.
func (t *txn) try(ctx context.Context, do func() (keep bool, err error)) error {
	before := maps.Clone(t.delta)
	if _, err := t.exec(ctx, `SAVEPOINT attempt`); err != nil {
		return err
	}
	keep, err := do()
	if err != nil {
		return err
	}
	if !keep {
		t.delta = before
		if _, err := t.exec(ctx, `ROLLBACK TO SAVEPOINT attempt`); err != nil {
			return err
		}
	}
	_, err = t.exec(ctx, `RELEASE SAVEPOINT attempt`)
	return err
}

const addTotals = `INSERT INTO vodrelay_totals (sink, state, shard, parcels, bytes) VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT (sink, state, shard) DO UPDATE SET
	parcels = vodrelay_totals.parcels + excluded.parcels, bytes = vodrelay_totals.bytes + excluded.bytes`

// flush writes the totals. It comes last and in order, so that two transactions that meet here wait for
// each other and cannot block each other.
func (t *txn) flush(ctx context.Context) error {
	var rows [][]any
	for _, g := range slices.SortedFunc(maps.Keys(t.delta), compareGroups) {
		if d := t.delta[g]; d != (sum{}) {
			rows = append(rows, []any{g.sink, g.state, t.shard, d.parcels, d.bytes})
		}
	}
	return t.db.change(ctx, t, addTotals, rows, nil)
}

// compareGroups puts waiting before dead: whoever walks over all of them and makes dead ones wait again
// then meets none twice.
func compareGroups(a, b group) int {
	return cmp.Or(cmp.Compare(a.sink, b.sink), cmp.Compare(b.state, a.state))
}

func (db *database) close() error {
	var err error
	if db.read != db.write {
		err = db.read.Close()
	}
	if db.guard.isLost() != nil {
		err = errors.Join(err, db.keepWAL())
	}
	return errors.Join(err, db.write.Close(), db.guard.close())
}
