package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	queueLength = 1024        // writes that wait; a further one waits for a place
	resultTime  = time.Second // how long a result that matters is waited for after its caller gave up
	groupRows   = 2048        // a transaction is not made longer than this, unless by its last write
)

// writer commits the writes of many callers together: while one transaction is on its way to the disk,
// the writes that arrive wait, and all of them go into the next. Nobody waits for company. It owns as many
// goroutines as the engine can have transactions at once.
type writer struct {
	db        *database
	log       *zap.Logger
	queue     chan *write
	closing   chan struct{}
	closeOnce sync.Once
	ended     chan struct{}
	streak    retry.Streak
	watch     logWatch
}

// write is one caller's part of a transaction. err may be read once done is closed.
type write struct {
	rows int
	// do may run again, in another transaction, when the first failed.
	do    func(ctx context.Context, t *txn) error
	keeps bool        // fails when what was committed would not be there after a crash
	taken atomic.Bool // by a goroutine that will run it, or by a caller that gave up
	err   error
	done  chan struct{}
}

// refusal is the error of a write that changed nothing: the others of its transaction go on.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func newWriter(db *database, log *zap.Logger, shard int64) *writer {
	w := &writer{
		db: db, log: log, watch: logWatch{log: log, patience: walPatience},
		queue: make(chan *write, queueLength), closing: make(chan struct{}), ended: make(chan struct{}),
	}
	var all sync.WaitGroup
	for i := range db.writers {
		all.Go(func() { w.run(shard + int64(i)) })
	}
	go func() { all.Wait(); close(w.ended) }()
	return w
}

// submit returns when do is committed, or has failed. When ctx is done first it returns ctx's error: do is
// left out if its turn has not come, else, with wait, its own result is waited for a little, so that a result
// that matters is not lost when a stop comes.
func (w *writer) submit(ctx context.Context, rows int, wait bool, do func(ctx context.Context, t *txn) error) error {
	return w.enter(ctx, &write{rows: rows, do: do, done: make(chan struct{})}, wait)
}

// keep is submit for what has to be in the files that have the store's names when it returns nil.
func (w *writer) keep(ctx context.Context, rows int, do func(ctx context.Context, t *txn) error) error {
	if err := w.db.guard.isLost(); err != nil {
		return err
	}
	return w.enter(ctx, &write{rows: rows, do: do, keeps: true, done: make(chan struct{})}, false)
}

func (w *writer) enter(ctx context.Context, o *write, wait bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-w.closing:
		return ErrClosed
	default:
	}
	select {
	case w.queue <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closing:
		return ErrClosed
	}
	giveUp := ctx.Err
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	case <-w.ended:
		giveUp = func() error { return ErrClosed }
	}
	if o.taken.Swap(true) && wait {
		patience := time.NewTimer(resultTime)
		defer patience.Stop()
		select {
		case <-o.done:
		case <-patience.C:
		}
	}
	select {
	case <-o.done:
		return o.err
	default:
		return giveUp()
	}
}

// close ends the goroutines after what waits is committed, or returns ctx's error when that lasts longer.
func (w *writer) close(ctx context.Context) error {
	w.closeOnce.Do(func() { close(w.closing) })
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) run(shard int64) {
	for {
		var first *write
		select {
		case first = <-w.queue:
		case <-w.closing:
			select {
			case first = <-w.queue:
			default:
				return
			}
		}
		taken := w.gather(first)
		if len(taken) == 0 {
			continue
		}
		w.commit(shard, taken)
		for _, o := range taken {
			close(o.done)
		}
	}
}

// gather takes first and what waits behind it.
func (w *writer) gather(first *write) []*write {
	var taken []*write
	rows := 0
	for o := first; ; {
		if !o.taken.Swap(true) {
			taken = append(taken, o)
			rows += o.rows
		}
		if rows >= groupRows {
			return taken
		}
		select {
		case o = <-w.queue:
		default:
			return taken
		}
	}
}

// commit runs the writes in one transaction. When that fails because of one of them, each gets its own.
func (w *writer) commit(shard int64, writes []*write) {
	err := w.transact(shard, writes)
	w.db.guard.damage(err)
	switch {
	case err == nil:
		w.verify(writes)
		w.streak.End().Report(w.log, "the store can be written again")
	case len(writes) > 1 && !diagnose(err).everywhere:
		for _, o := range writes {
			w.commit(shard, []*write{o})
		}
	default:
		if w.db.life != nil && w.db.life.Err() != nil {
			err = ErrClosed
		}
		for _, o := range writes {
			o.err = err
		}
		if w.db.guard.isLost() != nil {
			return // which is said
		}
		if explained := w.db.explain(err); !errors.Is(err, ErrClosed) && w.streak.Fail(explained) {
			w.log.Error("the store cannot be written", zap.Error(explained), zap.String("hint", retry.Hint(explained)))
		}
	}
}

// Failing is how writing to the store fails since the last write that was stored; zero if it does not.
func (s *Store) Failing() retry.Run {
	if lost := s.db.guard.failing(); lost.Failures > 0 {
		return lost
	}
	return s.writer.streak.Now()
}

// verify fails the writes that are committed and not kept.
func (w *writer) verify(writes []*write) {
	if w.db.guard == nil {
		return
	}
	ctx := context.Background()
	err := w.db.guard.verify(ctx)
	if err == nil {
		w.watch.look(ctx, w.db.guard) // one goroutine writes to SQLite
		return
	}
	for _, o := range writes {
		if o.keeps && o.err == nil {
			o.err = err
		}
	}
}

func (w *writer) transact(shard int64, writes []*write) error {
	const attempts = 3 // a transaction that lost against another one
	for n := 1; ; n++ {
		err := w.db.transact(shard, func(ctx context.Context, t *txn) error {
			for _, o := range writes {
				o.err = o.do(ctx, t)
				if o.err != nil && !errors.As(o.err, new(refusal)) {
					return o.err
				}
			}
			return nil
		})
		if err == nil || n == attempts || !diagnose(err).again {
			return err
		}
	}
}
