package store

import (
	"context"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	// maxSettled is how many are remembered for each application; its oldest are forgotten first.
	maxSettled = 16_384
	// settledSlack is how many more there may be between two cleanings.
	settledSlack = 64

	rememberSettled = `INSERT INTO vodrelay_settled (sub_app_id, event_id, settled_at) VALUES ($1, $2, $3)
		ON CONFLICT (event_id, sub_app_id) DO UPDATE SET settled_at = excluded.settled_at`
	forgetSettled = `DELETE FROM vodrelay_settled WHERE event_id = $1 AND sub_app_id = $2`
	expireSettled = `DELETE FROM vodrelay_settled WHERE settled_at < $1`
	limitSettled  = `DELETE FROM vodrelay_settled WHERE sub_app_id = $1 AND settled_at <=
		(SELECT settled_at FROM vodrelay_settled WHERE sub_app_id = $1 ORDER BY settled_at DESC LIMIT 1 OFFSET $2)`
	readSettled = `SELECT event_id, settled_at FROM vodrelay_settled WHERE sub_app_id = $1 ORDER BY settled_at DESC LIMIT $2`
)

// RememberSettled notes that the event was settled at a time and could not be confirmed, so that its
// redelivery need not be worked on, not even by another process. It is forgotten after event.RetentionTime,
// when the queue cannot deliver it any more, and the application's oldest are when it has more than 16,384.
func (s *Store) RememberSettled(ctx context.Context, subAppID uint64, id string, at time.Time) error {
	clean := s.remembered.Add(1)%settledSlack == 0
	return s.write(ctx, 1, func(ctx context.Context, t *txn) error {
		if _, err := t.exec(ctx, rememberSettled, int64(subAppID), toText(id), at.UnixMilli()); err != nil {
			return err
		}
		if _, err := t.exec(ctx, expireSettled, t.now-event.RetentionTime.Milliseconds()); err != nil || !clean {
			return err
		}
		_, err := t.exec(ctx, limitSettled, int64(subAppID), int64(maxSettled))
		return err
	})
}

// ForgetSettled takes back RememberSettled: the event was confirmed.
func (s *Store) ForgetSettled(ctx context.Context, subAppID uint64, id string) error {
	return s.write(ctx, 1, func(ctx context.Context, t *txn) error {
		_, err := t.exec(ctx, forgetSettled, toText(id), int64(subAppID))
		return err
	})
}

// Settled is what is remembered of an application, the latest first.
func (s *Store) Settled(ctx context.Context, subAppID uint64) ([]event.SettledMark, error) {
	rows, err := s.db.read.QueryContext(ctx, readSettled, int64(subAppID), int64(maxSettled))
	if err != nil {
		return nil, s.db.explain(err)
	}
	defer func() { _ = rows.Close() }() // Err below says what went wrong
	var all []event.SettledMark
	for rows.Next() {
		var m event.SettledMark
		var at int64
		if err := rows.Scan(&m.EventID, &at); err != nil {
			return nil, s.db.explain(err)
		}
		m.EventID, m.At = fromText(m.EventID), fromMillis(at)
		all = append(all, m)
	}
	return all, s.db.explain(rows.Err())
}
