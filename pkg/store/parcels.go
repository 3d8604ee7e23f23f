package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Outcome is what became of an attempt that was made and failed.
type Outcome = event.ParcelOutcome

const (
	columns = `sub_app_id, event_id, sink, type, state, attempts, created_at, updated_at, next_at, first_error, last_error, raw, seq`

	insertParcel = `INSERT INTO vodrelay_parcels
		(sub_app_id, event_id, sink, type, state, attempts, created_at, updated_at, next_at, due_at, claimed_by, first_error, last_error, raw)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, '', $10, $11, $12)
		ON CONFLICT (event_id, sink, sub_app_id) DO NOTHING`

	claimParcels = `WITH due AS MATERIALIZED (
			SELECT seq, due_at, length(raw) AS size FROM vodrelay_parcels WHERE state = 'waiting' AND sink = $1 AND due_at <= $2
			ORDER BY due_at, seq LIMIT $3 %s),
		upto AS (SELECT seq, SUM(size) OVER (ORDER BY due_at, seq) - size AS before FROM due)
		UPDATE vodrelay_parcels SET claimed_by = $4, due_at = $5 WHERE seq IN (SELECT seq FROM upto WHERE before < $6)
		RETURNING ` + columns

	byKey = ` WHERE event_id = $1 AND sink = $2 AND sub_app_id = $3`

	unclaimParcel = `UPDATE vodrelay_parcels SET claimed_by = '', due_at = next_at` + byKey + ` AND state = 'waiting' AND claimed_by = $4`

	unclaimAll = `UPDATE vodrelay_parcels SET claimed_by = '', due_at = next_at WHERE claimed_by <> ''`

	extendClaim = `UPDATE vodrelay_parcels SET due_at = $5` + byKey + ` AND state = 'waiting' AND claimed_by = $4`

	completeParcel = `DELETE FROM vodrelay_parcels` + byKey + ` RETURNING state, length(raw)`

	// Who lost the claim to another replica has no say any more: that one's attempt counts.
	failParcel = `UPDATE vodrelay_parcels SET attempts = attempts + 1, updated_at = $4, next_at = $5, due_at = $5, claimed_by = '', state = $6,
		last_error = $7, first_error = CASE WHEN first_error = '' THEN $7 ELSE first_error END` + byKey + `
		AND state = 'waiting' AND (claimed_by = '' OR claimed_by = $8 OR due_at <= $4) RETURNING length(raw)`

	releaseSink = `WITH held AS MATERIALIZED (
			SELECT seq FROM vodrelay_parcels WHERE state = 'waiting' AND sink = $1 AND due_at > $2 AND updated_at <= $3 AND claimed_by = ''
			ORDER BY due_at LIMIT $4)
		UPDATE vodrelay_parcels SET
		next_at = CASE WHEN created_at < $2 THEN created_at ELSE $2 END,
		due_at = CASE WHEN created_at < $2 THEN created_at ELSE $2 END
		WHERE seq IN (SELECT seq FROM held)`

	nextDue = `SELECT due_at FROM vodrelay_parcels WHERE state = 'waiting' AND sink = $1 ORDER BY due_at LIMIT 1`
)

// chunk is how many parcels one write changes when there may be millions to change: it keeps the other
// writes waiting for some milliseconds only.
const chunk = 500

// claimBytes is what the events of one Claim may have together, but for the last one.
const claimBytes = 8 << 20

// Put stores the parcels, all or none of them. What has the key of a parcel that is there already is left
// out: that one goes on as it is. A parcel without a state is waiting, one without Created was made now, and
// one without Next is due since it was created. The error wraps ErrFull when there is no room in the store, or in the
// share of one of the sinks, which it names then, and ErrLost when the file that they are in is not the store any
// more. When ctx is done first, they may be stored all the same.
func (s *Store) Put(ctx context.Context, parcels ...event.Parcel) error {
	_, err := s.put(ctx, parcels)
	return err
}

// put returns how many of the parcels were not there yet.
func (s *Store) put(ctx context.Context, parcels []event.Parcel) (int64, error) {
	if len(parcels) == 0 {
		return 0, nil
	}
	now, need := time.Now(), make(holdings)
	rows := make([][]any, len(parcels))
	sorted := slices.Clone(parcels)
	// Transactions that lock the same keys in the same order cannot block each other.
	slices.SortFunc(sorted, func(a, b event.Parcel) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.SubAppID, b.SubAppID))
	})
	for i := range sorted {
		p := &sorted[i]
		if err := complete(p, now); err != nil {
			return 0, &Error{retry.Permanent(err)}
		}
		need.add(toText(p.Sink), sum{1, int64(len(p.Raw))})
		rows[i] = []any{
			int64(p.SubAppID), toText(p.ID), toText(p.Sink), toText(p.Type), string(p.State), int64(p.Attempts),
			toMillis(p.Created), toMillis(p.Updated), toMillis(p.Next), errorText(p.FirstError), errorText(p.LastError), bytesOf(p.Raw),
		}
	}
	var added int64
	err := s.keep(ctx, len(rows), func(ctx context.Context, t *txn) error {
		grown := make(holdings)
		insert := func() error {
			added = 0
			clear(grown)
			return t.db.change(ctx, t, insertParcel, rows, func(i int) {
				sink, size := toText(sorted[i].Sink), int64(len(sorted[i].Raw))
				t.count(sink, string(sorted[i].State), 1, size)
				grown.add(sink, sum{1, size})
				added++
			})
		}
		if s.cfg.MaxParcels == 0 && s.cfg.MaxBytes == 0 {
			return insert()
		}
		before, err := t.held(ctx)
		if err != nil {
			return err
		}
		if err := s.fullByLog(t, before.total().bytes); err != nil {
			return err
		}
		if s.room(before, need) == nil {
			return insert()
		}
		// Some may be there already, and need no room.
		var full error
		err = t.try(ctx, func() (keep bool, err error) {
			if err := insert(); err != nil {
				return false, err
			}
			full = s.room(before, grown)
			return added == 0 || full == nil, nil
		})
		if err == nil && added > 0 && full != nil {
			return refusal{full}
		}
		return err
	})
	if err != nil { // added may still be written to when ctx ended
		return 0, err
	}
	return added, nil
}

// complete fills in what a parcel may leave open.
func complete(p *event.Parcel, now time.Time) error {
	if p.ID == "" || p.Sink == "" {
		return fmt.Errorf("a parcel needs an event ID and a sink, has %q and %q", p.ID, p.Sink)
	}
	switch p.State {
	case "":
		p.State = event.ParcelWaiting
	case event.ParcelWaiting, event.ParcelDead:
	default:
		return fmt.Errorf("%q is not a state of a parcel", p.State)
	}
	if p.Created.IsZero() {
		p.Created = now
	}
	if p.Updated.IsZero() {
		p.Updated = now
	}
	if p.Next.IsZero() {
		p.Next = p.Created
	}
	for _, at := range []time.Time{p.Created, p.Updated, p.Next} {
		if year := at.UTC().Year(); year < 1 || year > 9999 {
			return fmt.Errorf("a time is in the year %d, must be from 1 to 9999", year) // JSON has no others
		}
	}
	return nil
}

// Claim reserves up to limit parcels of a sink that are due: until hold has passed nobody else gets them.
// Those that are neither completed nor failed by then are due again. They come in the order in which they
// fell due, so that one that fails again and again keeps no other waiting: a parcel that was never tried is
// due since it was created, and ReleaseSink puts all of a sink's back into the order of their creation. Of events that
// are very large there are fewer, but at least one.
func (s *Store) Claim(ctx context.Context, sink string, limit int, hold time.Duration) ([]event.Parcel, error) {
	if limit <= 0 {
		return nil, nil
	}
	var found []row
	// A claim that was made and not heard of would keep the parcels for the whole hold.
	err := s.writer.submit(ctx, limit, true, func(ctx context.Context, t *txn) error {
		found = nil
		if err := s.fullByLog(t, 0); err != nil { // each attempt makes it grow
			return err
		}
		args := []any{toText(sink), t.now, int64(limit), s.owner, t.now + max(1, hold.Milliseconds()), int64(claimBytes)}
		return t.db.many(ctx, t, t.db.claim, [][]any{args}, func(_ int, r scanner) error {
			p, err := scan(r)
			found = append(found, p)
			return err
		})
	})
	if err != nil {
		return nil, s.db.explain(err)
	}
	// A statement that changes rows returns them in any order.
	slices.SortFunc(found, func(a, b row) int { return cmp.Or(a.Next.Compare(b.Next), cmp.Compare(a.seq, b.seq)) })
	return parcelsOf(found), nil
}

// Extend makes claims of this Store last for hold from now, for sends that take long. Claims of others are
// left alone, as are those that others took over.
func (s *Store) Extend(ctx context.Context, hold time.Duration, keys ...event.ParcelKey) error {
	keys = sortedKeys(keys)
	return s.write(ctx, len(keys), func(ctx context.Context, t *txn) error {
		rows := make([][]any, len(keys))
		for i, key := range keys {
			rows[i] = append(keyArgs(key), s.owner, t.now+max(1, hold.Milliseconds()))
		}
		return t.db.change(ctx, t, extendClaim, rows, nil)
	})
}

// Unclaim gives claims back without an attempt: the parcels are due as before. Claims of others, and what is
// not claimed, are left alone.
func (s *Store) Unclaim(ctx context.Context, keys ...event.ParcelKey) error {
	rows := make([][]any, len(keys))
	for i, key := range sortedKeys(keys) {
		rows[i] = append(keyArgs(key), s.owner)
	}
	return s.write(ctx, len(keys), func(ctx context.Context, t *txn) error {
		return t.db.change(ctx, t, unclaimParcel, rows, nil)
	})
}

// Complete deletes the parcels: their sinks have accepted them. Keys of no parcel are left out.
func (s *Store) Complete(ctx context.Context, keys ...event.ParcelKey) error {
	rows := make([][]any, len(keys))
	for i, key := range sortedKeys(keys) {
		rows[i] = keyArgs(key)
	}
	return s.write(ctx, len(keys), func(ctx context.Context, t *txn) error {
		return t.db.many(ctx, t, completeParcel, rows, func(i int, r scanner) error {
			var state string
			var size int64
			err := r.Scan(&state, &size)
			t.count(rows[i][1].(string), state, -1, -size) //nolint:forcetypeassert // keyArgs makes it
			return err
		})
	})
}

// Fail counts an attempt of each parcel, ends its claim, and makes it wait until Next, zero for now, or die.
// Of a longer text event.MaxParcelError bytes are kept. Left out are keys of no
// waiting parcel, and parcels that another replica has claimed meanwhile.
func (s *Store) Fail(ctx context.Context, outcomes ...Outcome) error {
	sorted := slices.SortedFunc(slices.Values(outcomes), func(a, b Outcome) int { return compareKeys(a.Key, b.Key) })
	return s.write(ctx, len(sorted), func(ctx context.Context, t *txn) error {
		rows := make([][]any, len(sorted))
		for i, o := range sorted {
			state, next := event.ParcelWaiting, t.now
			if o.Dead {
				state = event.ParcelDead
			}
			if !o.Next.IsZero() {
				next = toMillis(o.Next)
			}
			rows[i] = append(keyArgs(o.Key), t.now, next, string(state), errorText(o.Err), s.owner)
		}
		return t.db.many(ctx, t, failParcel, rows, func(i int, r scanner) error {
			var size int64
			err := r.Scan(&size)
			if sorted[i].Dead {
				sink := toText(sorted[i].Key.Sink)
				t.count(sink, string(event.ParcelWaiting), -1, -size)
				t.count(sink, string(event.ParcelDead), 1, size)
			}
			return err
		})
	})
}

// ReleaseSink makes all waiting parcels of a sink that are not claimed due now, oldest first: its target is
// back. It returns how many were not due before.
func (s *Store) ReleaseSink(ctx context.Context, sink string) (int64, error) {
	// What fails from now on has its own time.
	began, all := time.Now().UnixMilli(), int64(0)
	for {
		var released int64
		err := s.write(ctx, chunk, func(ctx context.Context, t *txn) (err error) {
			released, err = t.exec(ctx, releaseSink, toText(sink), t.now, began, chunk)
			return err
		})
		if err != nil {
			return all, err
		}
		all += released
		if released < chunk {
			return all, nil
		}
	}
}

// NextDue is when Claim next finds a parcel of the sink, in the past if it does now; false: none waits. A
// parcel that is claimed counts with the end of the claim.
func (s *Store) NextDue(ctx context.Context, sink string) (time.Time, bool, error) {
	var due int64
	err := s.db.read.QueryRowContext(ctx, nextDue, toText(sink)).Scan(&due)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, s.db.explain(err)
	}
	return fromMillis(due), true, nil
}

// row is a parcel with its number in the table.
type row struct {
	event.Parcel
	seq int64
}

func scan(r scanner) (row, error) {
	var p row
	var subAppID, created, updated, next int64
	var state string
	var raw []byte
	err := r.Scan(&subAppID, &p.ID, &p.Sink, &p.Type, &state, &p.Attempts, &created, &updated, &next, &p.FirstError, &p.LastError, &raw, &p.seq)
	p.SubAppID, p.State = uint64(subAppID), event.ParcelState(state)
	p.ID, p.Sink, p.Type = fromText(p.ID), fromText(p.Sink), fromText(p.Type)
	p.Created, p.Updated, p.Next = fromMillis(created), fromMillis(updated), fromMillis(next)
	if len(raw) > 0 {
		p.Raw = raw
	}
	return p, err
}

func parcelsOf(rows []row) []event.Parcel {
	parcels := make([]event.Parcel, len(rows))
	for i, r := range rows {
		parcels[i] = r.Parcel
	}
	return parcels
}

func bytesOf(raw []byte) []byte {
	if raw == nil {
		return []byte{} // nil would be NULL
	}
	return raw
}

// keyArgs are the parameters of byKey.
func keyArgs(key event.ParcelKey) []any {
	return []any{toText(key.EventID), toText(key.Sink), int64(key.SubAppID)}
}

func sortedKeys(keys []event.ParcelKey) []event.ParcelKey {
	return slices.SortedFunc(slices.Values(keys), compareKeys)
}

// compareKeys makes an order in which every transaction locks parcels, so that two cannot block each other.
func compareKeys(a, b event.ParcelKey) int {
	return cmp.Or(cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.SubAppID, b.SubAppID))
}
