package store

import (
	"context"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	// A claim that runs goes on; the parcel is due when it ends.
	replayParcel = `UPDATE vodrelay_parcels SET state = 'waiting', attempts = 0, updated_at = $1, next_at = $1,
		due_at = CASE WHEN claimed_by <> '' AND due_at > $1 THEN due_at ELSE $1 END
		WHERE seq = $2 AND state = $3 RETURNING length(raw)`

	dropParcel = `DELETE FROM vodrelay_parcels WHERE seq = $1 AND state = $2 RETURNING length(raw)`

	purgeParcel = `DELETE FROM vodrelay_parcels WHERE seq = $1 AND state = $2 AND updated_at < $3 RETURNING length(raw)`
)

// Replay makes the parcels that fit due now, with no attempts counted; dead ones wait again. The texts of
// their errors stay. It returns how many they were. It works in small transactions: when it fails midway,
// the rest has not been touched, and it can be called again.
func (s *Store) Replay(ctx context.Context, f Filter) (int64, error) {
	return s.each(ctx, f, func(ctx context.Context, t *txn, rows []row) (changed int64, err error) {
		args := make([][]any, len(rows))
		for i, r := range rows {
			args[i] = []any{t.now, r.seq, string(r.State)}
		}
		err = t.db.many(ctx, t, replayParcel, args, func(i int, result scanner) error {
			var size int64
			err := result.Scan(&size)
			t.count(toText(rows[i].Sink), string(rows[i].State), -1, -size)
			t.count(toText(rows[i].Sink), string(event.ParcelWaiting), 1, size)
			changed++
			return err
		})
		return changed, err
	})
}

// Drop deletes the parcels that fit, also those that are claimed, and returns how many they were. As Replay
// it works in small transactions.
func (s *Store) Drop(ctx context.Context, f Filter) (int64, error) {
	return s.each(ctx, f, func(ctx context.Context, t *txn, rows []row) (int64, error) {
		return remove(ctx, t, dropParcel, rows)
	})
}

// Purge deletes the dead letters that have been dead for longer than the retention, and returns how many
// they were. Call it now and then.
func (s *Store) Purge(ctx context.Context) (int64, error) {
	if s.cfg.Retention <= 0 {
		return 0, nil
	}
	limit := time.Now().Add(-s.cfg.Retention)
	// What died before the limit was made before it.
	return s.each(ctx, Filter{State: event.ParcelDead, OlderThan: limit}, func(ctx context.Context, t *txn, rows []row) (int64, error) {
		return remove(ctx, t, purgeParcel, rows, limit.UnixMilli())
	})
}

func remove(ctx context.Context, t *txn, query string, rows []row, further ...any) (removed int64, err error) {
	args := make([][]any, len(rows))
	for i, r := range rows {
		args[i] = append([]any{r.seq, string(r.State)}, further...)
	}
	err = t.db.many(ctx, t, query, args, func(i int, result scanner) error {
		var size int64
		err := result.Scan(&size)
		t.count(toText(rows[i].Sink), string(rows[i].State), -1, -size)
		removed++
		return err
	})
	return removed, err
}

// each finds the parcels that fit and gives them to change, chunk by chunk, as walk does.
func (s *Store) each(ctx context.Context, f Filter, change func(ctx context.Context, t *txn, rows []row) (int64, error)) (all int64, err error) {
	err = s.walk(ctx, f, func(rows []row) error {
		var changed int64
		err := s.write(ctx, len(rows), func(ctx context.Context, t *txn) (err error) {
			changed, err = change(ctx, t, rows)
			return err
		})
		if err == nil { // otherwise changed may still be written to
			all += changed
		}
		return err
	})
	return all, err
}

// walk gives do the parcels that fit, chunk by chunk. Finding them does not hold up writes; do must see for
// itself that they are still as they were found. What is stored after it began is left out, so that it ends
// also where parcels come faster than it works.
func (s *Store) walk(ctx context.Context, f Filter, do func(rows []row) error) error {
	mark, err := s.Mark(ctx)
	if err != nil {
		return err
	}
	if f.Before == 0 || f.Before > mark {
		f.Before = mark
	}
	for from := (place{}); ; {
		rows, err := s.page(ctx, s.db.read, f, from, chunk)
		if err != nil {
			return s.db.explain(err)
		}
		if len(rows) == 0 {
			return nil
		}
		from = rows[len(rows)-1].place()
		if err := do(rows); err != nil {
			return err
		}
	}
}
