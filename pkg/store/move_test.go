//go:build unix

package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

func everyEvent(event.Event) bool { return true }

func testMove(t *testing.T, s *Store) {
	const wait, lasts = event.ParcelWaiting, time.Hour
	old := parcels(0, 2*chunk+20, "old")
	for i := range old {
		old[i].Attempts, old[i].FirstError, old[i].LastError, old[i].Next = 5, "first", "last", time.Now().Add(lasts)
		if i%3 == 0 {
			old[i].State = event.ParcelDead
		}
	}
	old[1].Next = epoch // the only one that is due
	twin, deadTwin, sameID := parcel(4, "new"), parcel(6, "new"), parcel(8, "new")
	deadTwin.State = event.ParcelDead
	sameID.SubAppID++ // of another application: no collision
	other := parcel(1, "other")
	require.NoError(t, s.Put(t.Context(), append(old, twin, deadTwin, sameID, other)...))
	claimed, err := s.Claim(t.Context(), "old", 10, time.Hour)
	require.NoError(t, err)
	require.Equal(t, keys(old[1:2]), keys(claimed))

	plan, err := s.Matching(t.Context(), Filter{Sink: "old"})
	require.NoError(t, err)
	require.Equal(t, []selection.Group{{Sink: "old", State: wait, Parcels: 680}, {Sink: "old", State: event.ParcelDead, Parcels: 340}}, plan)
	mark, err := s.Mark(t.Context())
	require.NoError(t, err)
	late := parcel(100_000, "old")
	require.NoError(t, s.Put(t.Context(), late))
	unwanted := func(e event.Event) bool { return e.ID != old[10].ID && e.ID != late.ID }

	before := time.Now().Add(-time.Millisecond)
	moved, err := s.Move(t.Context(), "old", "new", mark, unwanted)
	require.NoError(t, err)
	require.Equal(t, selection.Moved{Parcels: int64(len(old)) - 4, Collisions: 2, Sending: 1, Unwanted: 1}, moved)
	consistent(t, s)
	require.ElementsMatch(t, keys([]event.Parcel{old[1], old[4], old[6], old[10], late}), keys(all(t, s, Filter{Sink: "old"})))
	same(t, []event.Parcel{other}, all(t, s, Filter{Sink: "other"}))
	got := all(t, s, Filter{Sink: "new"})
	require.Len(t, got, len(old)-4+3)
	for _, p := range got {
		if p.Key() == twin.Key() || p.Key() == deadTwin.Key() || p.Key() == sameID.Key() {
			require.Zero(t, p.Attempts, "it stayed as it was")
			continue
		}
		require.Equal(t, "first", p.FirstError)
		require.Equal(t, "last", p.LastError)
		require.WithinRange(t, p.Updated, before, time.Now())
		if p.State == wait {
			require.Zero(t, p.Attempts)
			require.Equal(t, p.Created, p.Next, "the oldest goes first")
		} else {
			require.Equal(t, 5, p.Attempts)
		}
	}

	// What was being sent goes its way; it was neither lost nor sent twice.
	require.NoError(t, s.Fail(t.Context(), Outcome{Key: old[1].Key(), Err: "503", Next: time.Now().Add(time.Hour)}))
	moved, err = s.Move(t.Context(), "old", "new", 0, everyEvent)
	require.NoError(t, err)
	require.Equal(t, selection.Moved{Parcels: 3, Collisions: 2}, moved)
	due, err := s.Claim(t.Context(), "new", 1000, time.Hour)
	require.NoError(t, err)
	require.Len(t, due, 680-1+2+1)
	require.NoError(t, s.Complete(t.Context(), keys(due)...))

	// A claim that ran out is nobody's.
	_, err = s.Drop(t.Context(), Filter{Sink: "old"})
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), parcel(200_000, "old")))
	_, err = s.Claim(t.Context(), "old", 10, time.Millisecond)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		moved, err = s.Move(t.Context(), "old", "new", 0, everyEvent)
		return err == nil && moved.Parcels == 1
	}, 10*time.Second, time.Millisecond)
	moved, err = s.Move(t.Context(), "nothing", "new", 0, everyEvent)
	require.NoError(t, err)
	require.Zero(t, moved)
}

// testMoveMeetsOthers moves while parcels of the same events are stored, claimed and accepted.
func testMoveMeetsOthers(t *testing.T, s *Store) {
	const events = 400
	require.NoError(t, s.Put(t.Context(), parcels(0, events, "old")...))
	var group errgroup.Group
	group.Go(func() error { // an application that delivers the same events to the new sink
		for n := events - 1; n >= 0; n -= 2 {
			if err := s.Put(t.Context(), parcel(n, "new")); err != nil {
				return err
			}
		}
		return nil
	})
	sent := map[string]int{}
	group.Go(func() error { // a replica that still has the old sink
		for range 40 {
			got, err := s.Claim(t.Context(), "old", 3, time.Hour)
			if err != nil {
				return err
			}
			for _, p := range got {
				sent[p.ID]++
			}
			if err := s.Complete(t.Context(), keys(got)...); err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 {
		group.Go(func() error {
			_, err := s.Move(t.Context(), "old", "new", 0, everyEvent)
			return err
		})
	}
	require.NoError(t, group.Wait())
	_, err := s.Move(t.Context(), "old", "new", 0, everyEvent)
	require.NoError(t, err)
	consistent(t, s)
	for _, p := range all(t, s, Filter{Sink: "new"}) {
		sent[p.ID]++
	}
	for n := range events {
		require.Positive(t, sent[parcel(n, "").ID], "event %d is nowhere", n)
	}
}

func testMatching(t *testing.T, s *Store) {
	put := parcels(0, 60, "a")
	for i := range put {
		put[i].SubAppID = uint64(i % 4)
		if i%3 == 0 {
			put[i].State, put[i].LastError, put[i].Type = event.ParcelDead, "404", "T"
		}
		if i%5 == 0 {
			put[i].Sink = "b\x00"
		}
	}
	require.NoError(t, s.Put(t.Context(), put...))
	mark, err := s.Mark(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), parcels(1000, 1010, "a")...))
	for _, f := range []Filter{
		{}, {Sink: "a"}, {Sink: "c"}, {State: event.ParcelDead}, {Type: "T"}, {Error: "40"}, {Error: "50"}, {SubAppID: new(uint64(0))}, {SubAppID: new(uint64(9))},
		{Before: mark}, {Before: 1}, {EventID: put[7].ID}, {EventID: put[7].ID[:17]}, {OlderThan: put[20].Created, NewerThan: put[10].Created},
		{State: event.ParcelDead, Sink: "b\x00", Type: "T", Error: "4", SubAppID: new(uint64(3)), Before: mark, OlderThan: put[50].Created},
	} {
		groups, err := s.Matching(t.Context(), f)
		require.NoError(t, err)
		var want []selection.Group
		for _, p := range all(t, s, f) {
			if n := len(want); n == 0 || want[n-1].Sink != p.Sink || want[n-1].State != p.State {
				want = append(want, selection.Group{Sink: p.Sink, State: p.State})
			}
			want[len(want)-1].Parcels++
		}
		require.ElementsMatch(t, want, groups, fmt.Sprintf("%+v", f))
	}
	n, err := s.Drop(t.Context(), Filter{Before: mark})
	require.NoError(t, err)
	require.EqualValues(t, len(put), n)
	require.Len(t, all(t, s, Filter{}), 10, "what came later stays")
	var none int64
	none, err = s.Mark(t.Context())
	require.NoError(t, err)
	require.Greater(t, none, mark)
	_, err = s.Drop(t.Context(), Filter{})
	require.NoError(t, err)
	none, err = s.Mark(t.Context())
	require.NoError(t, err)
	require.Positive(t, none, "also of an empty store")
}

// TestMatchingCountsInSlices goes over the end of a slice.
func TestMatchingCountsInSlices(t *testing.T) {
	s := open(t, sqliteConfig(t))
	few := parcels(0, 2*sliceRows+5, "a")
	for i := range few {
		few[i].Raw, few[i].Created = nil, epoch.Add(time.Duration(i/7)*time.Millisecond)
		if i%10 == 0 {
			few[i].Type = "T"
		}
	}
	require.NoError(t, s.Put(t.Context(), few...))
	for _, c := range []struct {
		f    Filter
		want int64
	}{{Filter{}, 2*sliceRows + 5}, {Filter{Type: "T"}, 2*sliceRows/10 + 1}} {
		got, err := s.Matching(t.Context(), c.f)
		require.NoError(t, err)
		require.Equal(t, []selection.Group{{Sink: "a", State: event.ParcelWaiting, Parcels: c.want}}, got)
	}
}
