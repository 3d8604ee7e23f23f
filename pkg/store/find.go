package store

import (
	"context"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

const (
	// sliceRows is how many parcels one statement counts.
	sliceRows = 20_000

	newest = `SELECT COALESCE(MAX(seq), 0) FROM vodrelay_parcels`
)

// Find returns up to limit (at most 1,000) parcels that fit, in the order of List.
func (s *Store) Find(ctx context.Context, f Filter, limit int) ([]event.Parcel, error) {
	found, _, err := s.List(ctx, f, "", limit)
	return found, err
}

// Mark stands between the parcels that are stored now and those that will be: Filter.Before takes it. It is
// more than 0.
func (s *Store) Mark(ctx context.Context) (int64, error) {
	var last int64
	err := s.db.read.QueryRowContext(ctx, newest).Scan(&last)
	return last + 1, s.db.explain(err)
}

// Matching counts the parcels that fit, by sink and state, in the order of List; nothing for what has none. It
// counts in many short statements, so what changes meanwhile may be in the result or not.
func (s *Store) Matching(ctx context.Context, f Filter) ([]selection.Group, error) {
	groups, err := groupsOf(ctx, s.db.read, f)
	if err != nil {
		return nil, s.db.explain(err)
	}
	all := []selection.Group{}
	for _, g := range groups {
		n, err := s.matching(ctx, f, g)
		if err != nil {
			return nil, s.db.explain(err)
		}
		if n > 0 {
			all = append(all, selection.Group{Sink: fromText(g.sink), State: event.ParcelState(g.state), Parcels: n})
		}
	}
	return all, nil
}

func (s *Store) matching(ctx context.Context, f Filter, g group) (all int64, err error) {
	for after := (place{Created: -1 << 62}); ; {
		query, args := s.db.sliceQuery(f, g, after)
		var rows, fitting int64
		if err := s.db.read.QueryRowContext(ctx, query, args...).Scan(&rows, &fitting, &after.Created, &after.Seq); err != nil {
			return 0, err
		}
		if all += fitting; rows < sliceRows {
			return all, nil
		}
	}
}

// sliceQuery counts the next parcels of a group, and those among them that fit, and tells the last one's place.
func (db *database) sliceQuery(f Filter, g group, after place) (string, []any) {
	columns := `created_at, seq` // which the index of the list has
	if f.Type != "" || f.Error != "" || f.EventID != "" || f.SubAppID != nil {
		columns += `, type, event_id, sub_app_id, first_error, last_error`
	}
	args := []any{g.sink, g.state, after.Created, after.Seq, int64(sliceRows)}
	fits := `1 = 1`
	if f.EventID != "" {
		fits = `event_id >= $6 AND event_id < $7`
		args = append(args, f.EventID, f.EventID+lastCharacter)
	}
	tests, args := db.tests(f, args)
	return `WITH slice AS MATERIALIZED (SELECT ` + columns + ` FROM vodrelay_parcels
			WHERE sink = $1 AND state = $2 AND (created_at, seq) > ($3, $4) ORDER BY created_at, seq LIMIT $5)
		SELECT COUNT(*), COALESCE(SUM(CASE WHEN ` + fits + tests + ` THEN 1 ELSE 0 END), 0),
			COALESCE((SELECT created_at FROM slice ORDER BY created_at DESC, seq DESC LIMIT 1), 0),
			COALESCE((SELECT seq FROM slice ORDER BY created_at DESC, seq DESC LIMIT 1), 0)
		FROM slice`, args
}
