package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	// walKept is how many bytes a write-ahead log keeps when it is empty. They count as nothing.
	walKept = 32 << 20
	// walLarge is reported when it lasts for walPatience.
	walLarge    = 4 * walKept
	walPatience = 10 * time.Second
	// emptyEvery is the pause between two attempts to empty a log.
	emptyEvery = time.Second

	hintWAL = "another process holds a read transaction open, such as a sqlite3 shell or a backup: fuser -v %s names it; end it"
)

// LogSize is how many bytes SQLite's write-ahead log has on the disk, 0 with PostgreSQL. It grows as long as
// somebody reads what it would overwrite.
func (s *Store) LogSize() int64 { return s.db.guard.logSize() }

// LogExcess is how many bytes of LogSize count into Config.MaxBytes.
func (s *Store) LogExcess() int64 { return s.db.guard.logExcess() }

func (g *guard) logSize() int64 {
	if g == nil {
		return 0
	}
	info, err := os.Stat(g.path + "-wal")
	if err != nil {
		return 0 // verify says why
	}
	return info.Size()
}

// logExcess is how much of the write-ahead log counts into max_bytes.
func (g *guard) logExcess() int64 { return max(0, g.logSize()-walKept) }

// fullByLog refuses a write while the write-ahead log takes what max_bytes leaves beside held bytes.
func (s *Store) fullByLog(t *txn, held int64) error {
	if s.cfg.MaxBytes == 0 || t.logExcess == 0 || held+t.logExcess <= s.cfg.MaxBytes {
		return nil
	}
	return refusal{retry.WithHint(
		fmt.Errorf("%w: its write-ahead log has grown, with the parcels, beyond max_bytes (%d)", ErrFull, s.cfg.MaxBytes),
		fmt.Sprintf(hintWAL, s.db.guard.path)+"; events stay in VOD's queue meanwhile")}
}

// logWatch empties a write-ahead log that has grown, and reports one that stays large.
type logWatch struct {
	log      *zap.Logger
	patience time.Duration
	tried    time.Time // the last attempt to empty it
	since    time.Time // it is large; zero: it is not
	reported bool
}

// look comes after each transaction. A commit empties the log as a rule, but what refuses all writes commits
// nothing.
func (l *logWatch) look(ctx context.Context, g *guard) {
	size := g.logSize()
	if size > walKept && time.Since(l.tried) >= emptyEvery {
		l.tried = time.Now()
		if err := g.emptyLog(ctx); err != nil {
			l.log.Debug("cannot empty the write-ahead log", zap.Error(err)) // the next attempt is near
		}
		size = g.logSize()
	}
	switch {
	case size <= walLarge:
		if l.reported {
			l.log.Info("the store's write-ahead log is small again", zap.Int64("bytes", size), zap.Duration("lasted", time.Since(l.since)))
		}
		l.since, l.reported = time.Time{}, false
	case l.since.IsZero():
		l.since = time.Now()
	case !l.reported && time.Since(l.since) >= l.patience:
		l.reported = true
		l.log.Warn("the store's write-ahead log stays large: it cannot be emptied while somebody reads from it; it counts into max_bytes",
			zap.Int64("bytes", size), zap.String("hint", fmt.Sprintf(hintWAL, g.path)))
	}
}

// emptyLog moves the write-ahead log into the database and cuts it off, if nobody reads from it. It waits for
// nobody.
func (g *guard) emptyLog(ctx context.Context) error {
	pool, err := sql.Open("sqlite", address(g.path, "_pragma=busy_timeout(0)&_pragma=synchronous(FULL)&_pragma=fullfsync(1)&_pragma=checkpoint_fullfsync(1)&_pragma=cache_size(-2048)"))
	if err != nil {
		return err
	}
	defer func() { _ = pool.Close() }() // others have the file open
	_, err = pool.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	return err
}
