package store

import (
	"context"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	// settledAge is how long a settled event whose confirm failed is remembered: many redeliveries, which
	// come after event.LeaseTime.
	settledAge = 20 * event.LeaseTime
	// maxSettled is how many are remembered; the oldest are forgotten first.
	maxSettled = 16_384
	// settledSlack is how many more there may be between two cleanings.
	settledSlack = 64

	rememberSettled = `INSERT INTO vodrelay_settled (sub_app_id, event_id, settled_at) VALUES ($1, $2, $3)
		ON CONFLICT (event_id, sub_app_id) DO UPDATE SET settled_at = excluded.settled_at`
	forgetSettled = `DELETE FROM vodrelay_settled WHERE event_id = $1 AND sub_app_id = $2`
	expireSettled = `DELETE FROM vodrelay_settled WHERE settled_at < $1`
	limitSettled  = `DELETE FROM vodrelay_settled WHERE settled_at <=
		(SELECT settled_at FROM vodrelay_settled ORDER BY settled_at DESC LIMIT 1 OFFSET $1)`
	readSettled = `SELECT sub_app_id, event_id, settled_at FROM vodrelay_settled WHERE settled_at >= $1 ORDER BY settled_at DESC LIMIT $2`
)

// SettledEvent is an event that needs nothing but a confirm.
type SettledEvent struct {
	SubAppID uint64
	ID       string
	At       time.Time // when it was settled
}

// RememberSettled notes that the event was settled at a time and could not be confirmed, so that its
// redelivery need not be worked on, not even by another process. It is forgotten after ten minutes, and the
// oldest are when there are more than 16,384.
func (s *Store) RememberSettled(ctx context.Context, subAppID uint64, id string, at time.Time) error {
	clean := s.remembered.Add(1)%settledSlack == 0
	return s.write(ctx, 1, func(ctx context.Context, t *txn) error {
		if _, err := t.exec(ctx, rememberSettled, int64(subAppID), toText(id), at.UnixMilli()); err != nil {
			return err
		}
		if _, err := t.exec(ctx, expireSettled, t.now-settledAge.Milliseconds()); err != nil || !clean {
			return err
		}
		_, err := t.exec(ctx, limitSettled, int64(maxSettled))
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

// Settled is what is remembered, the latest first.
func (s *Store) Settled(ctx context.Context) ([]SettledEvent, error) {
	since := time.Now().Add(-settledAge).UnixMilli()
	rows, err := s.db.read.QueryContext(ctx, readSettled, since, int64(maxSettled))
	if err != nil {
		return nil, explain(err, s.db.secret)
	}
	defer func() { _ = rows.Close() }() // Err below says what went wrong
	var all []SettledEvent
	for rows.Next() {
		var e SettledEvent
		var subAppID, at int64
		if err := rows.Scan(&subAppID, &e.ID, &at); err != nil {
			return nil, explain(err, s.db.secret)
		}
		e.SubAppID, e.ID, e.At = uint64(subAppID), fromText(e.ID), fromMillis(at)
		all = append(all, e)
	}
	return all, explain(rows.Err(), s.db.secret)
}
