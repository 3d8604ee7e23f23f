package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// Filter selects parcels.
type Filter = selection.Filter

// Cursor is a place in a list: behind the last parcel of a page. Empty is the beginning, and as a result
// the end. Its text means nothing to others, and may be kept and sent.
type Cursor string

// place is what a Cursor says.
type place struct {
	Sink, State  string
	Created, Seq int64
}

func (p place) cursor() Cursor {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers: impossible
	}
	return Cursor(base64.RawURLEncoding.EncodeToString(text))
}

func (c Cursor) place() (place, error) {
	var p place
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return p, &Error{retry.Permanent(fmt.Errorf("%q is not the place of a page: take the one that the page before gave", string(c)))}
	}
	return p, nil
}

// maxPage is the most parcels that List returns at once.
const maxPage = 1000

// List returns the parcels that fit, by sink, waiting before dead, each oldest first, beginning behind
// after; at most limit, and 1,000. The Cursor goes on from there, and is empty when nothing comes any more.
// A page costs as much in the midst of millions of parcels as at their beginning, but where few of many fit
// a Type or an Error, finding them takes time.
func (s *Store) List(ctx context.Context, f Filter, after Cursor, limit int) ([]event.Parcel, Cursor, error) {
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	var from place
	if after != "" {
		var err error
		if from, err = after.place(); err != nil {
			return nil, "", err
		}
	}
	rows, err := s.page(ctx, s.db.read, f, from, limit)
	if err != nil {
		return nil, "", s.db.explain(err)
	}
	if len(rows) < limit {
		return parcelsOf(rows), "", nil
	}
	return parcelsOf(rows), rows[len(rows)-1].place().cursor(), nil
}

func (r row) place() place {
	return place{toText(r.Sink), string(r.State), toMillis(r.Created), r.seq}
}

// page reads up to limit parcels behind from. It goes from group to group, so that each is found in the
// index, however many parcels the others have.
func (s *Store) page(ctx context.Context, q queryer, f Filter, from place, limit int) ([]row, error) {
	groups, err := groupsOf(ctx, q, f)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, g := range groups {
		start := place{Created: -1 << 62}
		switch c := compareGroups(g, group{from.Sink, from.State}); {
		case from == place{}:
		case c < 0:
			continue
		case c == 0:
			start = from
		}
		query, args := s.db.pageQuery(f, g, start, limit-len(rows))
		found, err := collect(ctx, q, query, args...)
		if err != nil {
			return nil, err
		}
		if rows = append(rows, found...); len(rows) >= limit {
			break
		}
	}
	return rows, nil
}

// lastCharacter is larger than whatever can follow the beginning of an ID.
const lastCharacter = "\U0010FFFF"

// pageQuery selects from one group.
func (db *database) pageQuery(f Filter, g group, after place, limit int) (string, []any) {
	query := `SELECT ` + columns + ` FROM vodrelay_parcels`
	args := []any{g.sink, g.state, after.Created, after.Seq}
	if f.EventID == "" {
		query += ` WHERE`
	} else {
		// Few IDs begin with the same digits: found first, in their index, they spare looking through the
		// group. A CROSS JOIN keeps SQLite from turning that around.
		query = `WITH few (n) AS MATERIALIZED (SELECT seq FROM vodrelay_parcels WHERE event_id >= $5 AND event_id < $6)
			SELECT ` + columns + ` FROM few CROSS JOIN vodrelay_parcels WHERE seq = n AND`
		args = append(args, f.EventID, f.EventID+lastCharacter)
	}
	query += ` sink = $1 AND state = $2 AND (created_at, seq) > ($3, $4)`
	tests, args := db.tests(f, args)
	query += tests
	args = append(args, int64(limit))
	return query + fmt.Sprintf(` ORDER BY created_at, seq LIMIT $%d`, len(args)), args
}

// tests are the conditions that are not about a group, a place or an ID, to follow another one, and args with
// their parameters.
func (db *database) tests(f Filter, args []any) (string, []any) {
	var query strings.Builder
	test := func(wanted bool, condition string, arg any) {
		if wanted {
			args = append(args, arg)
			query.WriteString(` AND ` + strings.ReplaceAll(condition, `$n`, fmt.Sprintf(`$%d`, len(args))))
		}
	}
	test(f.Type != "", `type = $n`, toText(f.Type))
	test(f.Error != "", `(`+fmt.Sprintf(db.within, `last_error`, `$n`)+` OR `+fmt.Sprintf(db.within, `first_error`, `$n`)+`)`, errorText(f.Error))
	test(!f.OlderThan.IsZero(), `created_at < $n`, f.OlderThan.UnixMilli())
	test(!f.NewerThan.IsZero(), `created_at >= $n`, f.NewerThan.UnixMilli())
	test(f.Before != 0, `+seq < $n`, f.Before) // the plus keeps SQLite to the index of the list
	if f.SubAppID != nil {
		test(true, `sub_app_id = $n`, int64(*f.SubAppID))
	}
	return query.String(), args
}

// Latest returns up to limit parcels in the state, those that were stored last first.
func (s *Store) Latest(ctx context.Context, state event.ParcelState, limit int) (_ []event.Parcel, err error) {
	defer func() { err = s.db.explain(err) }()
	groups, err := groupsOf(ctx, s.db.read, Filter{State: state})
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, g := range groups {
		found, err := collect(ctx, s.db.read, latestParcels, g.sink, g.state, min(limit, maxPage))
		if err != nil {
			return nil, err
		}
		rows = append(rows, found...)
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.seq, a.seq))
	})
	return parcelsOf(rows[:min(limit, len(rows))]), nil
}

const latestParcels = `SELECT ` + columns + ` FROM vodrelay_parcels WHERE sink = $1 AND state = $2 ORDER BY created_at DESC, seq DESC LIMIT $3`

// groupsOf are the groups that have parcels and fit the filter, in order.
func groupsOf(ctx context.Context, q queryer, f Filter) ([]group, error) {
	rows, err := q.QueryContext(ctx, `SELECT sink, state FROM vodrelay_totals GROUP BY sink, state HAVING SUM(parcels) <> 0`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err below says what went wrong
	var groups []group
	for rows.Next() {
		var g group
		if err := rows.Scan(&g.sink, &g.state); err != nil {
			return nil, err
		}
		if (f.Sink == "" || g.sink == toText(f.Sink)) && (f.State == "" || g.state == string(f.State)) {
			groups = append(groups, g)
		}
	}
	slices.SortFunc(groups, compareGroups)
	return groups, rows.Err()
}

func collect(ctx context.Context, q queryer, query string, args ...any) ([]row, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err below says what went wrong
	var all []row
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

const parcelsOfEvent = `SELECT ` + columns + ` FROM vodrelay_parcels WHERE event_id = $1`

// Get returns the parcels of an event, by sink; of one sink only when sink is not empty. Several
// applications can have an event of the same ID.
func (s *Store) Get(ctx context.Context, id, sink string) ([]event.Parcel, error) {
	query, args := parcelsOfEvent, []any{toText(id)}
	if sink != "" {
		query, args = query+` AND sink = $2`, append(args, toText(sink))
	}
	rows, err := collect(ctx, s.db.read, query+` ORDER BY sink, sub_app_id`, args...)
	return parcelsOf(rows), s.db.explain(err)
}

// Count is what a sink has in one state.
type Count struct {
	Sink    string
	State   event.ParcelState
	Parcels int64
	Bytes   int64     // of the events
	Oldest  time.Time // the earliest Created
}

const counts = `SELECT t.sink, t.state, t.parcels, t.bytes, COALESCE((
		SELECT p.created_at FROM vodrelay_parcels p WHERE p.sink = t.sink AND p.state = t.state ORDER BY p.created_at, p.seq LIMIT 1), 0)
	FROM (SELECT sink, state, CAST(SUM(parcels) AS BIGINT) AS parcels, CAST(SUM(bytes) AS BIGINT) AS bytes
		FROM vodrelay_totals GROUP BY sink, state HAVING SUM(parcels) <> 0) t`

// Counts says how much there is, by sink, waiting before dead; nothing for what has none. It is quick
// however much that is.
func (s *Store) Counts(ctx context.Context) (_ []Count, err error) {
	defer func() { err = s.db.explain(err) }()
	rows, err := s.db.read.QueryContext(ctx, counts)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, rows.Close())
		s.db.guard.damage(err)
	}()
	var all []Count
	for rows.Next() {
		var c Count
		var state string
		var oldest int64
		if err := rows.Scan(&c.Sink, &state, &c.Parcels, &c.Bytes, &oldest); err != nil {
			return nil, err
		}
		c.Sink, c.State, c.Oldest = fromText(c.Sink), event.ParcelState(state), fromMillis(oldest)
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Count) int {
		return compareGroups(group{a.Sink, string(a.State)}, group{b.Sink, string(b.State)})
	})
	return all, rows.Err()
}

// Totals is how many parcels wait, and how many are dead.
func (s *Store) Totals(ctx context.Context) (waiting, dead int64, err error) {
	counts, err := s.Counts(ctx)
	for _, c := range counts {
		if c.State == event.ParcelDead {
			dead += c.Parcels
		} else {
			waiting += c.Parcels
		}
	}
	return waiting, dead, err
}
