// Package postgres is the sink that inserts each event as a row into a table of PostgreSQL 12 or later: a table of the
// user's own by columns and expressions, or a default one. An event that comes again leaves its first row as it is, so
// that there is exactly one row for each application and event ID.
//
// The events of concurrent Sends go to the server in batches, each one statement and one transaction. When a row spoils
// its batch, the batch is split until the row is alone.
package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/renew"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// batchBytes is the length beyond which a batch is not made longer, unless by its last row.
const batchBytes = 4 << 20

// grace is how much longer than statement_timeout a batch may take with connection and network.
const grace = 5 * time.Second

// Sink writes to one table.
type Sink struct {
	cfg     Config
	target  string // as errors name it
	several bool   // hosts in the URL
	name    pgx.Identifier
	columns []column // those of the key first
	log     *zap.Logger
	pool    *pgxpool.Pool
	batches *group.Batcher[*row]
	table   atomic.Pointer[table]
	watch   renew.Watch

	ctx    context.Context // of what goes on between New and the end of Close
	cancel context.CancelFunc
	closed atomic.Bool
}

// New makes the sink. It reads the files but does not connect. Close ends its goroutines.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sink{cfg: cfg, log: log}
	var err error
	if s.name, err = parseName(cfg.Table, 3); err != nil {
		return nil, err
	}
	if s.columns, err = cfg.columns(); err != nil {
		return nil, err
	}
	config, err := cfg.pool()
	if err != nil {
		return nil, err
	}
	s.target = fmt.Sprintf("database %s on %s", cmp.Or(config.ConnConfig.Database, config.ConnConfig.User), strings.Join(hosts(config.ConnConfig), ","))
	s.several = len(hosts(config.ConnConfig)) > 1
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.pool, err = pgxpool.NewWithConfig(s.ctx, config); err != nil {
		s.cancel()
		return nil, errors.New("url: (hidden): the pool of connections cannot be made: remove what begins with pool_ from it")
	}
	if cfg.TLS.InsecureSkipVerify {
		log.Warn(tlsconf.InsecureWarning)
	}
	limits := group.Limits{Workers: cfg.MaxConns, Items: cfg.BatchRows, Bytes: batchBytes}
	s.batches = group.NewBatcher(limits, s.write, func() { s.cancel(); s.pool.Close() })
	return s, nil
}

// Send returns nil when the row is committed, or one with its key was there already.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	if s.closed.Load() {
		return group.ErrClosed
	}
	r, err := s.row(ctx, e)
	if err != nil {
		return err
	}
	err = s.judge(s.batches.Submit(ctx, r))
	if s.watch.Lasts(err) {
		s.pool.Reset()
	}
	return err
}

// row is one Send that waits.
type row struct {
	*group.Item
	key    string // the order of the rows in a batch
	values []json.RawMessage
}

// row is e as it is written.
func (s *Sink) row(ctx context.Context, e event.Event) (*row, error) {
	body, err := e.CallbackBody()
	if err != nil {
		return nil, retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	clean, changed := cleanJSON(body)
	r := &row{Item: group.NewItem(0), values: make([]json.RawMessage, len(s.columns))}
	for i, c := range s.columns {
		switch {
		case c.expr != nil:
			if r.values[i], err = c.expr.JSON(ctx, e); err != nil {
				return nil, retry.WithHint(fmt.Errorf("columns: %q: %w", c.name, err), "correct the expression")
			}
		case !c.exact:
			r.values[i] = clean
		case changed:
			r.values[i] = body
		}
		r.Size += len(r.values[i])
	}
	for i, c := range s.columns {
		if !c.key {
			break
		}
		if r.values[i] == nil {
			err := fmt.Errorf("columns: %q: the expression gives null, and rows without a key cannot be told apart", c.name)
			return nil, retry.Permanent(retry.WithHint(err, "let the expressions of id_column and sub_app_id_column give a value for every event, or remove them"))
		}
		r.key += string(r.values[i]) + "\x00"
	}
	return r, nil
}

// write inserts rows and finishes each.
func (s *Sink) write(rows []*row) {
	// Two batches that meet in the same rows must take them in the same order, or they deadlock.
	slices.SortStableFunc(rows, func(a, b *row) int { return strings.Compare(a.key, b.key) })
	s.split(rows)
}

func (s *Sink) split(rows []*row) {
	err := s.insert(rows)
	if len(rows) > 1 && concernsRows(err) {
		half := len(rows) / 2
		s.split(rows[:half])
		s.split(rows[half:])
		return
	}
	for _, r := range rows {
		r.Finish(err)
	}
}

// insert writes all rows or none.
func (s *Sink) insert(rows []*row) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.StatementTimeout+grace)
	defer cancel()
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	err = s.insertOver(ctx, pooled.Conn(), rows)
	if spoilsSession(err) { // and the others began at the same time
		s.pool.Reset()
	}
	pooled.Release()
	return err
}

func (s *Sink) insertOver(ctx context.Context, conn *pgx.Conn, rows []*row) error {
	t, err := s.tableOf(ctx, conn)
	if err != nil {
		return err
	}
	if err = s.run(ctx, conn, t, rows); !concernsTable(err) {
		return err
	}
	s.table.CompareAndSwap(t, nil)
	fresh, lookErr := s.tableOf(ctx, conn)
	if lookErr != nil {
		return lookErr
	}
	if fresh.insert == t.insert && !isCode(err, undefinedTable) { // which tableOf may have created
		return err
	}
	return s.run(ctx, conn, fresh, rows)
}

// limits are set for the transaction only, in the same way to the server and back, so that a pooler may stand between. A
// commit waits for the disk, whatever the server's own setting.
const limits = `SELECT set_config('statement_timeout', $1, true), set_config('synchronous_commit',
	CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`

func (s *Sink) run(ctx context.Context, conn *pgx.Conn, t *table, rows []*row) error {
	args := make([]any, len(s.columns))
	for i, c := range s.columns {
		values := make([]*string, len(rows))
		for j, r := range rows {
			values[j] = c.format(t.kinds[i], r.values[i])
		}
		args[i] = values
	}
	batch := &pgx.Batch{}
	batch.Queue(limits, fmt.Sprint(s.cfg.StatementTimeout.Milliseconds()))
	batch.Queue(t.insert, args...)
	return conn.SendBatch(ctx, batch).Close()
}

// Check connects and has the server plan an insert without rows: table, columns, rights and the unique index are then
// there. With create_table it creates the table.
func (s *Sink) Check(ctx context.Context) error {
	if s.closed.Load() {
		return group.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.judge(err)
	}
	err = s.describe(ctx, conn.Conn())
	if spoilsSession(err) {
		s.pool.Reset()
	}
	conn.Release()
	return s.judge(err)
}

// Untested is what Check cannot know.
func (s *Sink) Untested() string {
	return "whether the table's constraints and triggers take the rows of events"
}

// Close writes the rows that wait and ends the connections. When ctx is done first it gives the rest up, which is an
// error.
func (s *Sink) Close(ctx context.Context) error {
	s.closed.Store(true)
	if err := s.batches.Close(ctx); err != nil {
		s.cancel()
		return fmt.Errorf("%s: rows were still on their way: %w", s.target, err)
	}
	return nil
}
