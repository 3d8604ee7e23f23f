package store

import (
	"bufio"
	"context"
	"encoding/json"
	"io"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

const (
	exportRows  = 1000    // parcels that one page of an export looks at
	exportBytes = 4 << 20 // of events in one page; the last one may go beyond
)

const endOfPage = `SELECT COALESCE(MAX(seq), 0) FROM (SELECT seq FROM vodrelay_parcels WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) page`

// Export writes the parcels that fit as JSON lines, in the order in which they were stored, and returns how many.
// None is missed or written twice because it changed meanwhile: each is written as it is when its turn comes. Left
// out is what is stored, or is gone, after it began. A page is in memory, and its transaction at an end, before w
// gets it: w may be as slow as it likes.
func (s *Store) Export(ctx context.Context, f Filter, w io.Writer) (n int64, err error) {
	var last int64
	if err := s.db.read.QueryRowContext(ctx, newest).Scan(&last); err != nil {
		return 0, s.db.explain(err)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(safetext.NewWriter(out)) // a terminal may show it
	encoder.SetEscapeHTML(false)
	for from := int64(0); from < last; {
		var rows []row
		if rows, from, err = s.exportPage(ctx, f, from, last); err != nil {
			return n, s.db.explain(err)
		}
		for _, r := range rows {
			if err := encoder.Encode(toLine(r.Parcel)); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, out.Flush()
}

// exportPage reads the next parcels behind from, up to last, and returns where it ended. The number of a parcel,
// unlike its place in a list, stays.
func (s *Store) exportPage(ctx context.Context, f Filter, from, last int64) (page []row, end int64, err error) {
	if err := s.db.read.QueryRowContext(ctx, endOfPage, from, last, int64(exportRows)).Scan(&end); err != nil {
		return nil, 0, err
	}
	if end == 0 {
		return nil, last, nil
	}
	query, args := s.db.exportQuery(f, from, end)
	rows, err := s.db.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }() // Err below says what went wrong
	for size := 0; rows.Next(); {
		r, err := scan(rows)
		if err != nil {
			return nil, 0, err
		}
		page, size = append(page, r), size+len(r.Raw)
		if size >= exportBytes {
			return page, r.seq, nil
		}
	}
	return page, end, rows.Err()
}

// exportQuery selects from a range of numbers, which no other index is to be used for.
func (db *database) exportQuery(f Filter, from, end int64) (string, []any) {
	tests, args := db.tests(f, []any{from, end, toText(f.Sink), string(f.State), f.EventID, f.EventID + lastCharacter})
	return `SELECT ` + columns + ` FROM vodrelay_parcels WHERE seq > $1 AND seq <= $2 AND ($3 = '' OR sink = $3) AND ($4 = '' OR state = $4)
		AND ($5 = '' OR event_id >= $5 AND event_id < $6)` + tests + ` ORDER BY seq`, args
}
