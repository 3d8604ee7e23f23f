// Package store keeps parcels: events that a sink has not accepted yet, each with what happened to it so
// far. It holds the retry set, which the relay works off by itself, and the dead letters, which wait for a
// person. Over database/sql it speaks one SQL to two engines: an SQLite file for one daemon, or PostgreSQL
// for several replicas.
//
// What a write was answered with is durable: it has been synced to the disk. Many writes share a
// transaction, see writer. Times are kept to the millisecond, in the clock of the program that writes them.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Store is safe for concurrent use. Its errors are transient, and carry a hint where a person can do
// something; those that are not are marked with retry.Permanent.
type Store struct {
	cfg    Config
	log    *zap.Logger
	db     *database
	writer *writer
	owner  string // of claims, different for every Store
	sinks  func() int
	// remembered counts RememberSettled, whose cleaning up is not worth doing every time.
	remembered atomic.Uint64
	closeOnce  sync.Once
	closeErr   error
}

// Option changes what Open does.
type Option func(*options)

type options struct {
	admin      bool
	checked    bool
	sinks      func() int
	migrations [][]string
}

// Admin opens a store for a command beside the daemon, which may run or not: without the daemon's lock, and
// without converting the tables of an older version. An SQLite file must exist already.
func Admin() Option { return func(o *options) { o.admin = true } }

// Checked opens a store as Admin does, for a look at all that the daemon would meet: it makes and converts nothing,
// but finds out whether that could be done (ErrPending), and reads an SQLite file for damage, for 10 s at most.
func Checked() Option { return func(o *options) { o.admin, o.checked = true, true } }

// Sinks says how many sinks are configured, which is asked whenever parcels are stored: with more than one, none may take
// more than its share (Config.MaxShare). Without this option there is no limit to a share.
func Sinks(count func() int) Option { return func(o *options) { o.sinks = count } }

// Open connects to the store, brings its tables to this version, and takes the daemon's role on an SQLite
// file, which only one process at a time can have: ErrLocked. log may be nil. An error that is not
// permanent, such as a server that cannot be reached or a volume that is full, is worth another call later. One
// that only a person can cure is permanent: a file that is damaged, rights that are missing, tables of a newer version.
func Open(ctx context.Context, cfg Config, log *zap.Logger, opts ...Option) (*Store, error) {
	o := options{migrations: migrations, sinks: func() int { return 0 }}
	for _, opt := range opts {
		opt(&o)
	}
	if log == nil {
		log = zap.NewNop()
	}
	if err := cfg.Validate(); err != nil {
		return nil, &Error{retry.Permanent(err)}
	}
	s := &Store{cfg: cfg, log: log, sinks: o.sinks}
	if err := s.open(ctx, o); err != nil {
		db := &database{server: cfg.Driver == DriverPostgres}
		if s.db != nil {
			db = s.db
			err = errors.Join(err, db.close())
		}
		if errors.Is(err, ErrPending) {
			return nil, err
		}
		if t := diagnose(err); t.damaged || t.person {
			err = retry.Permanent(err)
		}
		return nil, db.explain(err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	s.owner = fmt.Sprintf("%x", random)
	// Replicas that count in the same place wait for each other, which costs time and nothing else.
	var shard int64
	if s.db.writers > 1 {
		shard = int64(binary.LittleEndian.Uint16(random[:]) % 64)
	}
	s.writer = newWriter(s.db, log, shard)
	log.Info("store opened", zap.String("driver", cfg.Driver), zap.String("store", s.db.name))
	return s, nil
}

func (s *Store) open(ctx context.Context, o options) (err error) {
	switch s.cfg.Driver {
	case DriverSQLite:
		path, err := s.cfg.File()
		if err != nil {
			return retry.Permanent(err)
		}
		if s.db, err = openSQLite(ctx, path, o, s.log); err != nil {
			return err
		}
	case DriverPostgres:
		if s.db, err = openPostgres(ctx, s.cfg, s.log); err != nil {
			return err
		}
	default:
		return retry.Permanent(fmt.Errorf("driver: %s: keeps nothing", s.cfg.Driver))
	}
	if err := migrate(ctx, s.db, o); err != nil {
		return err
	}
	if s.cfg.Driver != DriverSQLite {
		return nil
	}
	if !o.admin { // whoever made claims has ended, else it had the lock
		err := s.db.exclusively(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, unclaimAll); err != nil {
				return err
			}
			if err := identify(ctx, tx); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, markChecked, time.Now().UnixMilli()) // so that there is a commit in any case
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := s.db.prepare(ctx); err != nil {
		return err
	}
	return s.db.guard.watch()
}

// write commits do together with the writes of others. rows is about how many rows it changes. It may also
// change what is in a store that is lost.
func (s *Store) write(ctx context.Context, rows int, do func(ctx context.Context, t *txn) error) error {
	if rows == 0 {
		return nil
	}
	return s.db.explain(s.writer.submit(ctx, rows, false, do))
}

// keep is a write of what must be there after a crash: it fails once the store is lost.
func (s *Store) keep(ctx context.Context, rows int, do func(ctx context.Context, t *txn) error) error {
	return s.db.explain(s.writer.keep(ctx, rows, do))
}

// Other is the error with which a daemon could not open an SQLite store at the moment, since another has it: it wraps
// ErrLocked. nil: none has it, or the store was not opened with Checked.
func (s *Store) Other() error {
	if s.db.guard == nil {
		return nil
	}
	return s.db.explain(s.db.guard.other)
}

const markChecked = `UPDATE vodrelay_schema SET checked_at = $1`

// Healthy writes and commits, as Put would.
func (s *Store) Healthy(ctx context.Context) error {
	return s.keep(ctx, 1, func(ctx context.Context, t *txn) error {
		_, err := t.exec(ctx, markChecked, t.now)
		return err
	})
}

// Close commits what waits and ends the store. With PostgreSQL a server that does not answer within half of
// ctx's time is cut off: what it did not commit counts as not stored, as with whoever waited for that. When ctx
// is done first Close returns ctx's error, and the store may be left open: the process had better end. Claims
// stay until they run out; Unclaim comes first.
func (s *Store) Close(ctx context.Context) error {
	err := s.finish(ctx)
	if err != nil {
		return &Error{err}
	}
	s.closeOnce.Do(func() {
		s.closeErr = s.db.explain(s.db.close())
	})
	return s.closeErr
}

// finish ends the writer.
func (s *Store) finish(ctx context.Context) error {
	if s.db.cut == nil {
		return s.writer.close(ctx)
	}
	defer s.db.cut()
	patient := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		patient, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	if s.writer.close(patient) == nil {
		return nil
	}
	s.log.Warn("the database does not answer: its connections are cut; what it did not commit counts as not stored", zap.String("store", s.db.name))
	s.db.cut()
	return s.writer.close(ctx)
}
