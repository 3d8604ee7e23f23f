package store

import (
	"context"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// moveAttempts is how often a part of a move is tried that lost against others, which stored parcels of the same
// events for the new sink.
const moveAttempts = 10

const (
	// What waits is due in the order of its creation, with no attempts counted: they were those of another sink.
	moveParcel = `UPDATE vodrelay_parcels SET sink = $3, claimed_by = '', updated_at = $4,
		attempts = CASE WHEN state = 'waiting' THEN 0 ELSE attempts END,
		next_at = CASE WHEN created_at < $4 THEN created_at ELSE $4 END,
		due_at = CASE WHEN created_at < $4 THEN created_at ELSE $4 END
		WHERE seq = $1 AND sink = $2 AND NOT (state = 'waiting' AND claimed_by <> '' AND due_at > $4)
		AND NOT EXISTS (SELECT 1 FROM vodrelay_parcels twin
			WHERE twin.event_id = vodrelay_parcels.event_id AND twin.sink = $3 AND twin.sub_app_id = vodrelay_parcels.sub_app_id)
		RETURNING state, length(raw)`

	// keptParcel finds what moveParcel left: 1 when it is being sent.
	keptParcel = `SELECT CASE WHEN state = 'waiting' AND claimed_by <> '' AND due_at > $3 THEN 1 ELSE 0 END
		FROM vodrelay_parcels WHERE seq = $1 AND sink = $2`
)

// Move hands the parcels of one sink, of those before the mark unless it is 0, to another. Each keeps its state,
// its age and the texts of its errors; those that wait are due now, oldest first, with no attempts counted.
//
// Left where they are, and counted, are parcels that wanted is false for, those of which the new sink has one of
// the same event already, and those that are claimed: whoever sends them is to find them. It works in small
// transactions: when it fails midway, the rest has not been touched, and it can be called again.
func (s *Store) Move(ctx context.Context, from, to string, before int64, wanted func(event.Event) bool) (all selection.Moved, err error) {
	err = s.walk(ctx, Filter{Sink: from, Before: before}, func(rows []row) error {
		var fit []row
		for _, r := range rows {
			if wanted(r.Event) {
				fit = append(fit, r)
			}
		}
		var moved selection.Moved
		var err error
		for n := 0; n == 0 || n < moveAttempts && diagnose(err).again; n++ {
			err = s.write(ctx, len(fit), func(ctx context.Context, t *txn) (err error) {
				moved, err = move(ctx, t, fit, toText(to))
				return err
			})
		}
		if err == nil { // otherwise moved may still be written to
			moved.Unwanted = int64(len(rows) - len(fit))
			all = all.Plus(moved)
		}
		return err
	})
	return all, err
}

func move(ctx context.Context, t *txn, rows []row, to string) (moved selection.Moved, err error) {
	args := make([][]any, len(rows))
	for i, r := range rows {
		args[i] = []any{r.seq, toText(r.Sink), to, t.now}
	}
	done := make([]bool, len(rows))
	err = t.db.many(ctx, t, moveParcel, args, func(i int, r scanner) error {
		var state string
		var size int64
		err := r.Scan(&state, &size)
		t.count(toText(rows[i].Sink), state, -1, -size)
		t.count(to, state, 1, size)
		done[i] = true
		moved.Parcels++
		return err
	})
	if err != nil {
		return moved, err
	}
	var left [][]any
	for i, r := range rows {
		if !done[i] {
			left = append(left, []any{r.seq, toText(r.Sink), t.now})
		}
	}
	err = t.db.many(ctx, t, keptParcel, left, func(_ int, r scanner) error { // nothing for what is gone
		var sending int64
		err := r.Scan(&sending)
		moved.Sending += sending
		moved.Collisions += 1 - sending
		return err
	})
	return moved, err
}
