package store

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func testShare(t *testing.T, s *Store) {
	s.cfg.MaxParcels, s.cfg.MaxBytes, s.cfg.MaxShare = 20, 0, 50
	sinks := 1
	s.sinks = func() int { return sinks }
	require.NoError(t, s.Put(t.Context(), parcels(0, 12, "a")...), "a single sink may take all of it")
	sinks = 3
	err := s.Put(t.Context(), parcel(12, "a"))
	require.ErrorIs(t, err, ErrFull)
	require.EqualError(t, err, "store: the store is full for sink a: its share (max_share 50 %) is used up: the limit is 10 parcels")
	require.Contains(t, retry.Hint(err), "raise max_share")
	require.False(t, retry.IsPermanent(err))
	require.ErrorIs(t, s.Put(t.Context(), parcel(12, "a"), parcel(12, "b")), ErrFull, "all or none")
	require.NoError(t, s.Put(t.Context(), append(parcels(0, 12, "a"), parcel(12, "b"))...), "what is there needs no room")
	require.NoError(t, s.Put(t.Context(), parcels(13, 19, "b")...), "another sink has its own share")
	require.ErrorContains(t, s.Put(t.Context(), parcel(19, "b"), parcel(20, "c")), "the store is full: the limit is 20 parcels", "and all have the whole in common")

	// Dead letters count, and dropping them makes room.
	died := make([]Outcome, 0, 12)
	for _, p := range parcels(0, 12, "a") {
		died = append(died, Outcome{Key: p.Key(), Err: "refused", Dead: true})
	}
	require.NoError(t, s.Fail(t.Context(), died...))
	require.ErrorContains(t, s.Put(t.Context(), parcel(30, "a")), "for sink a")
	_, err = s.Drop(t.Context(), Filter{Sink: "a", State: event.ParcelDead})
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), parcels(30, 40, "a")...))
	require.ErrorContains(t, s.Put(t.Context(), parcel(40, "a")), "for sink a")

	// By bytes, and while others write.
	s.cfg.MaxParcels, s.cfg.MaxBytes, s.cfg.MaxShare = 0, int64(1000*len(payload)), 3
	var group errgroup.Group
	accepted := make([]bool, 60)
	for i := range accepted {
		group.Go(func() error {
			err := s.Put(t.Context(), parcel(100+i, "d"))
			accepted[i] = err == nil
			return s.Put(t.Context(), parcel(100+i, fmt.Sprint("other ", i)))
		})
	}
	require.NoError(t, group.Wait())
	held := len(all(t, s, Filter{Sink: "d"}))
	count := 0
	for _, ok := range accepted {
		if ok {
			count++
		}
	}
	require.Equal(t, count, held)
	require.GreaterOrEqual(t, held, 30)
	if s.db.writers == 1 { // with several it is exact to the transactions under way
		require.Equal(t, 30, held)
	}
	require.ErrorContains(t, s.Put(t.Context(), parcel(500, "d")), "for sink d")
	s.cfg.MaxShare = 100
	require.NoError(t, s.Put(t.Context(), parcel(500, "d")))
	s.cfg.MaxShare = 0
	require.NoError(t, s.Put(t.Context(), parcel(501, "d")))
}

func TestConfiguredShare(t *testing.T) {
	for _, tt := range []struct{ sinks, share, want int }{{0, 50, 0}, {1, 50, 0}, {2, 50, 50}, {9, 1, 1}, {9, 100, 0}, {9, 0, 0}} {
		require.Equal(t, tt.want, Config{MaxShare: tt.share}.Share(tt.sinks), tt)
	}
}

func TestShareOfALimit(t *testing.T) {
	for _, tt := range []struct{ limit, percent, want int64 }{
		{0, 50, 0}, {1, 1, 1}, {300, 50, 150}, {3, 50, 1}, {99, 33, 32}, {1<<63 - 1, 99, 9131138316486228048},
	} {
		require.Equal(t, sum{tt.want, tt.want}, sum{tt.limit, tt.limit}.share(tt.percent), tt)
	}
}
