package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// holdings are what the store holds, by sink as toText has it.
type holdings map[string]sum

func (h holdings) add(sink string, more sum) { h[sink] = h[sink].plus(more) }

func (h holdings) total() (all sum) {
	for _, s := range h {
		all = all.plus(s)
	}
	return all
}

// held is what the store holds now, with this transaction's changes.
func (t *txn) held(ctx context.Context) (holdings, error) {
	if t.stored == nil {
		stored := make(holdings)
		rows, err := t.tx.QueryContext(ctx, `SELECT sink, CAST(SUM(parcels) AS BIGINT), CAST(SUM(bytes) AS BIGINT) FROM vodrelay_totals GROUP BY sink`)
		if err != nil {
			return nil, err
		}
		defer func() { _ = rows.Close() }() // Err below says what went wrong
		for rows.Next() {
			var sink string
			var s sum
			if err := rows.Scan(&sink, &s.parcels, &s.bytes); err != nil {
				return nil, err
			}
			stored[sink] = s
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		t.stored = stored
	}
	all := maps.Clone(t.stored)
	for g, d := range t.delta {
		all.add(g.sink, d)
	}
	return all, nil
}

// Share is the most that the parcels of one of so many sinks may take, in percent of MaxParcels and MaxBytes; 0: there
// is no such limit.
func (c Config) Share(sinks int) int {
	if sinks < 2 || c.MaxShare >= 100 {
		return 0
	}
	return c.MaxShare
}

// room returns the error of a Put that would add need to what is held; nil if there is room.
func (s *Store) room(held, need holdings) error {
	before := held.total()
	whole := sum{s.cfg.MaxParcels, s.cfg.MaxBytes}
	if !before.plus(need.total()).fits(whole) {
		return retry.WithHint(
			fmt.Errorf("%w: the limit is %s", ErrFull, whole),
			"bring the failing sinks back, drop dead letters (vodrelay parcels drop), or raise max_parcels and max_bytes; events stay in VOD's queue meanwhile")
	}
	percent := int64(s.cfg.Share(s.sinks()))
	if percent == 0 {
		return nil
	}
	share := whole.share(percent)
	for _, sink := range slices.Sorted(maps.Keys(need)) {
		if !held[sink].plus(need[sink]).fits(share) {
			return retry.WithHint(
				fmt.Errorf("%w for sink %s: its share (max_share %d %%) is used up: the limit is %s", ErrFull, safetext.Name(fromText(sink)), percent, share),
				"bring the sink back, drop its dead letters (vodrelay parcels drop --sink), or raise max_share, max_parcels or max_bytes; its events stay in VOD's queue meanwhile, and the other sinks go on")
		}
	}
	return nil
}

// fits reports whether s is within the limits of most, of which 0 is none.
func (s sum) fits(most sum) bool {
	return (most.parcels == 0 || s.parcels <= most.parcels) && (most.bytes == 0 || s.bytes <= most.bytes)
}

// share is so many percent of s, and no less than 1 of what has a limit.
func (s sum) share(percent int64) sum {
	of := func(n int64) int64 {
		if n == 0 {
			return 0
		}
		return max(1, n/100*percent+n%100*percent/100)
	}
	return sum{of(s.parcels), of(s.bytes)}
}

// String is s as a limit, of which 0 is none. It says nothing of what is held, which changes all the time.
func (s sum) String() string {
	var all []string
	if s.parcels > 0 {
		all = append(all, safetext.Count(s.parcels, "parcel", "parcels"))
	}
	if s.bytes > 0 {
		all = append(all, safetext.Count(s.bytes, "byte", "bytes"))
	}
	return strings.Join(all, " and ")
}
