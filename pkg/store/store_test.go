//go:build unix

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// TestContract is what every engine does, whatever it is.
func TestContract(t *testing.T) {
	tests := []struct {
		name string
		test func(t *testing.T, s *Store)
	}{
		{"a parcel comes back as it was put", testRoundTrip},
		{"a key is stored once", testOnce},
		{"put is all or nothing", testAllOrNothing},
		{"a sink has its share", testShare},
		{"what is put is checked", testInvalid},
		{"claims come in order and only once", testClaim},
		{"of large ones fewer are claimed", testClaimOfLargeOnes},
		{"a claim runs out", testClaimRunsOut},
		{"unclaim and extend", testUnclaimExtend},
		{"complete deletes", testComplete},
		{"fail counts, waits and dies", testFail},
		{"release", testRelease},
		{"next due", testNextDue},
		{"list and filters", testList},
		{"replay", testReplay},
		{"drop", testDrop},
		{"purge", testPurge},
		{"move", testMove},
		{"move meets others", testMoveMeetsOthers},
		{"matching", testMatching},
		{"export and import", testTransfer},
		{"settled", testSettled},
		{"counts", testCounts},
		{"many at once", testConcurrency},
		{"ended contexts", testContexts},
		{"closed", testClosed},
	}
	onBoth(t, func(t *testing.T, e engine) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				cfg := e.fresh(t)
				cfg.Retention = time.Hour
				s := open(t, cfg)
				test.test(t, s)
				if s.Healthy(t.Context()) == nil {
					consistent(t, s)
				}
			})
		}
	})
}

func testRoundTrip(t *testing.T, s *Store) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	want := []event.Parcel{parcel(1, "a"), parcel(2, "b"), parcel(3, "c"), parcel(4, "d"), parcel(5, "e")}
	want[1].Raw, want[1].SubAppID = json.RawMessage(" {\"a\" : \"\\u0041<&>\"}\n"), 1<<63+5 // more than an int64
	want[2].Raw, want[2].Type = every, "NUL \x00 and \xff\xfe"
	want[3].Raw, want[3].Sink, want[3].Type = nil, "d 'quoted\"\x00", "base64:AAAA"
	want[4].State, want[4].Attempts, want[4].FirstError, want[4].LastError = event.ParcelDead, 7, "first", "last, größer"
	want[4].Updated, want[4].Next = epoch.Add(time.Hour), epoch.Add(2*time.Hour)
	require.NoError(t, s.Put(t.Context(), want...))
	for _, p := range want {
		got, err := s.Get(t.Context(), p.ID, "")
		require.NoError(t, err)
		same(t, []event.Parcel{p}, got)
		got, err = s.Get(t.Context(), p.ID, p.Sink)
		require.NoError(t, err)
		require.Len(t, got, 1)
		got, err = s.Get(t.Context(), p.ID, "other")
		require.NoError(t, err)
		require.Empty(t, got)
	}

	before := time.Now().Add(-time.Millisecond)
	long := event.Parcel{Event: event.Event{ID: "x"}, Sink: "s", FirstError: strings.Repeat("ä", 3000), LastError: "a\x00b\xff"}
	require.NoError(t, s.Put(t.Context(), long))
	got, err := s.Get(t.Context(), "x", "")
	require.NoError(t, err)
	require.Equal(t, event.ParcelWaiting, got[0].State)
	require.WithinRange(t, got[0].Created, before, time.Now())
	require.Equal(t, got[0].Created, got[0].Next)
	require.Equal(t, strings.Repeat("ä", 510)+"...", got[0].FirstError)
	require.Equal(t, "a\\u0000b\uFFFD", got[0].LastError)
}

func testOnce(t *testing.T, s *Store) {
	first := parcel(1, "a")
	require.NoError(t, s.Put(t.Context(), first))
	again := first
	again.Attempts, again.State, again.Raw = 9, event.ParcelDead, nil
	other := first
	other.SubAppID++
	require.NoError(t, s.Put(t.Context(), again, other, parcel(1, "b")))
	got, err := s.Get(t.Context(), first.ID, "")
	require.NoError(t, err)
	same(t, []event.Parcel{first, other, parcel(1, "b")}, got)
	require.NoError(t, s.Put(t.Context(), parcel(2, "a"), parcel(2, "a")), "twice in one call")
	require.Len(t, all(t, s, Filter{}), 4)
	require.NoError(t, s.Put(t.Context()))
}

func testAllOrNothing(t *testing.T, s *Store) {
	s.cfg.MaxParcels, s.cfg.MaxBytes = 10, 0
	require.NoError(t, s.Put(t.Context(), parcels(0, 8, "a")...))
	err := s.Put(t.Context(), parcels(7, 11, "a")...) // one is there, three are too many
	require.ErrorIs(t, err, ErrFull)
	require.False(t, retry.IsPermanent(err))
	require.Contains(t, retry.Hint(err), "max_parcels")
	require.Len(t, all(t, s, Filter{}), 8)
	require.NoError(t, s.Put(t.Context(), parcels(6, 10, "a")...), "two are there, two fit")
	require.NoError(t, s.Put(t.Context(), parcels(0, 10, "a")...), "all are there")
	require.ErrorIs(t, s.Put(t.Context(), parcel(10, "a")), ErrFull)
	require.NoError(t, s.Complete(t.Context(), parcel(0, "a").Key()))
	require.NoError(t, s.Put(t.Context(), parcel(10, "a")))

	s.cfg.MaxParcels, s.cfg.MaxBytes = 0, int64(10*len(payload)+10)
	require.ErrorIs(t, s.Put(t.Context(), parcel(11, "a")), ErrFull)
	small := parcel(11, "a")
	small.Raw = json.RawMessage(`{"a":1}`)
	require.NoError(t, s.Put(t.Context(), small))

	// A Put that does not fit fails alone, also when it shares a transaction.
	s.cfg.MaxParcels, s.cfg.MaxBytes = 100, 0
	var group errgroup.Group
	for i := range 40 {
		group.Go(func() error {
			if i%2 == 0 {
				return s.Put(t.Context(), parcels(100+2*i, 100+2*i+2, "b")...)
			}
			if err := s.Put(t.Context(), parcels(1000*i, 1000*i+101, "b")...); err == nil {
				return fmt.Errorf("put %d was accepted", i)
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Len(t, all(t, s, Filter{Sink: "b"}), 40)
}

func testInvalid(t *testing.T, s *Store) {
	noID, noSink, badState := parcel(1, "a"), parcel(1, ""), parcel(1, "a")
	noID.ID, badState.State = "", "asleep"
	for _, p := range []event.Parcel{noID, noSink, badState} {
		err := s.Put(t.Context(), parcel(2, "a"), p)
		require.Error(t, err)
		require.True(t, retry.IsPermanent(err))
	}
	require.Empty(t, all(t, s, Filter{}))
}

func testClaim(t *testing.T, s *Store) {
	later := parcel(5, "a")
	later.Next = time.Now().Add(time.Hour)
	dead := parcel(6, "a")
	dead.State = event.ParcelDead
	require.NoError(t, s.Put(t.Context(), parcel(3, "a"), parcel(1, "a"), parcel(2, "a"), later, dead, parcel(0, "b")))
	got, err := s.Claim(t.Context(), "a", 2, time.Minute)
	require.NoError(t, err)
	same(t, []event.Parcel{parcel(1, "a"), parcel(2, "a")}, got)
	got, err = s.Claim(t.Context(), "a", 10, time.Minute)
	require.NoError(t, err)
	same(t, []event.Parcel{parcel(3, "a")}, got)
	for _, sink := range []string{"a", "c", ""} {
		got, err = s.Claim(t.Context(), sink, 10, time.Minute)
		require.NoError(t, err)
		require.Empty(t, got)
	}
	got, err = s.Claim(t.Context(), "b", 0, time.Minute)
	require.NoError(t, err)
	require.Empty(t, got)
}

func testClaimOfLargeOnes(t *testing.T, s *Store) {
	large := func(i, size int) event.Parcel {
		p := parcel(i, "a")
		p.Raw = fmt.Appendf(nil, `"%s"`, strings.Repeat("x", size-2))
		return p
	}
	put := []event.Parcel{large(1, 3<<20), large(2, 3<<20), large(3, 3<<20), large(4, 3<<20), large(5, 9<<20), large(6, 10)}
	require.NoError(t, s.Put(t.Context(), put...))
	for _, want := range [][]event.Parcel{put[:3], put[3:5], put[5:], nil} {
		got, err := s.Claim(t.Context(), "a", 10, time.Minute)
		require.NoError(t, err)
		require.Equal(t, keysOf(want), keysOf(got))
	}
}

func keysOf(parcels []event.Parcel) (keys []event.ParcelKey) {
	for _, p := range parcels {
		keys = append(keys, p.Key())
	}
	return keys
}

func testClaimRunsOut(t *testing.T, s *Store) {
	require.NoError(t, s.Put(t.Context(), parcel(1, "a")))
	got, err := s.Claim(t.Context(), "a", 1, 50*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Eventually(t, func() bool {
		got, err = s.Claim(t.Context(), "a", 1, time.Minute)
		require.NoError(t, err)
		return len(got) == 1
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, parcel(1, "a"), got[0], "the claim counts no attempt")
}

func testUnclaimExtend(t *testing.T, s *Store) {
	require.NoError(t, s.Put(t.Context(), parcel(1, "a"), parcel(2, "a"), parcel(3, "a")))
	got, err := s.Claim(t.Context(), "a", 2, 20*time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, s.Extend(t.Context(), time.Hour, keys(got)...))
	require.NoError(t, s.Extend(t.Context(), time.Hour, parcel(3, "a").Key(), parcel(9, "a").Key()), "not claimed")
	time.Sleep(30 * time.Millisecond)
	got, err = s.Claim(t.Context(), "a", 5, time.Hour)
	require.NoError(t, err)
	same(t, []event.Parcel{parcel(3, "a")}, got)
	require.NoError(t, s.Unclaim(t.Context(), parcel(1, "a").Key(), parcel(3, "a").Key(), parcel(9, "a").Key()))
	require.NoError(t, s.Unclaim(t.Context()))
	got, err = s.Claim(t.Context(), "a", 5, time.Hour)
	require.NoError(t, err)
	same(t, []event.Parcel{parcel(1, "a"), parcel(3, "a")}, got)
}

func testComplete(t *testing.T, s *Store) {
	require.NoError(t, s.Put(t.Context(), append(parcels(0, 5, "a"), parcel(0, "b"))...))
	claimed, err := s.Claim(t.Context(), "a", 2, time.Hour)
	require.NoError(t, err)
	require.NoError(t, s.Complete(t.Context(), append(keys(claimed), parcel(3, "a").Key(), parcel(77, "a").Key())...))
	require.NoError(t, s.Complete(t.Context(), keys(claimed)...), "again")
	require.NoError(t, s.Complete(t.Context()))
	same(t, []event.Parcel{parcel(2, "a"), parcel(4, "a"), parcel(0, "b")}, all(t, s, Filter{}))
}

func testFail(t *testing.T, s *Store) {
	require.NoError(t, s.Put(t.Context(), parcels(0, 4, "a")...))
	_, err := s.Claim(t.Context(), "a", 4, time.Hour)
	require.NoError(t, err)
	before, next := time.Now().Add(-time.Millisecond), time.UnixMilli(time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, s.Fail(t.Context(),
		Outcome{Key: parcel(0, "a").Key(), Err: "down", Next: next},
		Outcome{Key: parcel(1, "a").Key(), Err: "gone", Dead: true},
		Outcome{Key: parcel(2, "a").Key(), Err: "down"},
		Outcome{Key: parcel(9, "a").Key(), Err: "unknown", Dead: true}))
	require.NoError(t, s.Fail(t.Context()))
	got, err := s.Claim(t.Context(), "a", 4, time.Hour)
	require.NoError(t, err)
	require.Equal(t, keys([]event.Parcel{parcel(2, "a")}), keys(got), "only that is due")
	require.NoError(t, s.Fail(t.Context(), Outcome{Key: got[0].Key(), Err: "still down", Next: next}))

	got = all(t, s, Filter{})
	require.Len(t, got, 4)
	byKey := make(map[event.ParcelKey]event.Parcel)
	for _, p := range got {
		byKey[p.Key()] = p
	}
	p := byKey[parcel(0, "a").Key()]
	require.WithinRange(t, p.Updated, before, time.Now())
	want := parcel(0, "a")
	want.Attempts, want.Next, want.Updated, want.FirstError, want.LastError = 1, next, p.Updated, "down", "down"
	require.Equal(t, want, p)
	p = byKey[parcel(1, "a").Key()]
	require.Equal(t, event.ParcelDead, p.State)
	require.Equal(t, "gone", p.LastError)
	p = byKey[parcel(2, "a").Key()]
	require.Equal(t, 2, p.Attempts)
	require.Equal(t, "down", p.FirstError)
	require.Equal(t, "still down", p.LastError)

	require.NoError(t, s.Fail(t.Context(), Outcome{Key: parcel(1, "a").Key(), Err: "late"}), "a dead one stays dead")
	got, err = s.Get(t.Context(), parcel(1, "a").ID, "a")
	require.NoError(t, err)
	require.Equal(t, event.ParcelDead, got[0].State)
	require.Equal(t, 1, got[0].Attempts)
}

func testRelease(t *testing.T, s *Store) {
	var put []event.Parcel
	for n := range 2*chunk + 10 {
		p := parcel(n, "a")
		p.Raw, p.Next = nil, time.Now().Add(time.Hour-time.Duration(n)*time.Second)
		put = append(put, p)
	}
	other := parcel(0, "b")
	other.Next = time.Now().Add(time.Hour)
	require.NoError(t, s.Put(t.Context(), append(put, other, parcel(9999, "a"))...))
	claimed, err := s.Claim(t.Context(), "a", 1, time.Hour)
	require.NoError(t, err)
	require.Equal(t, keys([]event.Parcel{parcel(9999, "a")}), keys(claimed))
	n, err := s.ReleaseSink(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, len(put), n)
	got, err := s.Claim(t.Context(), "a", len(put)+5, time.Hour)
	require.NoError(t, err)
	require.Equal(t, keys(put), keys(got), "oldest first, without the claimed one")
	n, err = s.ReleaseSink(t.Context(), "a")
	require.NoError(t, err)
	require.Zero(t, n, "claims are not released")
}

func testNextDue(t *testing.T, s *Store) {
	due := func() (time.Time, bool) {
		at, ok, err := s.NextDue(t.Context(), "a")
		require.NoError(t, err)
		return at, ok
	}
	_, ok := due()
	require.False(t, ok)
	dead, later := parcel(1, "a"), parcel(2, "a")
	dead.State, later.Next = event.ParcelDead, time.UnixMilli(time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, s.Put(t.Context(), dead, later, parcel(3, "b")))
	at, ok := due()
	require.True(t, ok)
	require.Equal(t, later.Next, at)
	require.NoError(t, s.Put(t.Context(), parcel(4, "a")))
	at, _ = due()
	require.Equal(t, parcel(4, "a").Next, at)
	_, err := s.Claim(t.Context(), "a", 1, time.Minute)
	require.NoError(t, err)
	at, _ = due()
	require.WithinRange(t, at, time.Now().Add(50*time.Second), time.Now().Add(time.Minute))
}

func testList(t *testing.T, s *Store) {
	put := append(parcels(0, 30, "b"), parcels(30, 60, "a")...)
	for i := range put {
		if i%3 == 0 {
			put[i].State, put[i].LastError = event.ParcelDead, "status 50% of_it"
		}
		if i%5 == 0 {
			put[i].Type = "ProcedureStateChanged"
		}
	}
	put[7].FirstError = "x509: of_it"
	require.NoError(t, s.Put(t.Context(), put...))
	matching := func(fits func(i int, p event.Parcel) bool) (found []event.Parcel) {
		for _, sink := range []string{"a", "b"} {
			for _, state := range []event.ParcelState{event.ParcelWaiting, event.ParcelDead} {
				for i, p := range put {
					if p.Sink == sink && p.State == state && fits(i, p) {
						found = append(found, p)
					}
				}
			}
		}
		return found
	}
	for _, c := range []struct {
		name string
		f    Filter
		fits func(i int, p event.Parcel) bool
	}{
		{"all", Filter{}, func(int, event.Parcel) bool { return true }},
		{"state", Filter{State: event.ParcelDead}, func(_ int, p event.Parcel) bool { return p.State == event.ParcelDead }},
		{"sink", Filter{Sink: "a"}, func(_ int, p event.Parcel) bool { return p.Sink == "a" }},
		{"type", Filter{Type: "ProcedureStateChanged", State: event.ParcelWaiting}, func(_ int, p event.Parcel) bool {
			return p.State == event.ParcelWaiting && p.Type == "ProcedureStateChanged"
		}},
		{"id", Filter{EventID: put[11].ID}, func(i int, _ event.Parcel) bool { return i == 11 }},
		{"part of an id", Filter{EventID: put[11].ID[:18]}, func(_ int, p event.Parcel) bool { return strings.HasPrefix(p.ID, put[11].ID[:18]) }},
		{"error", Filter{Error: "of_it"}, func(i int, p event.Parcel) bool { return i == 7 || p.LastError != "" }},
		{"error with letters of patterns", Filter{Error: "50% of"}, func(_ int, p event.Parcel) bool { return p.LastError != "" }},
		{"no pattern", Filter{Error: "5_%"}, func(int, event.Parcel) bool { return false }},
		{"older", Filter{OlderThan: put[20].Created}, func(i int, _ event.Parcel) bool { return i < 20 }},
		{"newer", Filter{NewerThan: put[20].Created}, func(i int, _ event.Parcel) bool { return i >= 20 }},
		{"everything", Filter{State: event.ParcelDead, Sink: "b", Type: "ProcedureStateChanged", EventID: "0", Error: "status", OlderThan: put[20].Created, NewerThan: put[3].Created}, func(i int, p event.Parcel) bool {
			return i%15 == 0 && i >= 3 && i < 20 && p.ID[0] == '0'
		}},
		{"unknown sink", Filter{Sink: "c"}, func(int, event.Parcel) bool { return false }},
	} {
		same(t, matching(c.fits), all(t, s, c.f), c.name)
	}
	dead := matching(func(_ int, p event.Parcel) bool { return p.State == event.ParcelDead })
	slices.SortFunc(dead, func(a, b event.Parcel) int { return b.Created.Compare(a.Created) })
	for _, limit := range []int{3, 7, 1000} {
		latest, err := s.Latest(t.Context(), event.ParcelDead, limit)
		require.NoError(t, err)
		same(t, dead[:min(limit, len(dead))], latest, "the latest")
	}

	_, _, err := s.List(t.Context(), Filter{}, "nonsense", 5)
	require.ErrorContains(t, err, "is not the place of a page")
	require.True(t, retry.IsPermanent(err))

	// The same millisecond, more often than a page is long.
	for i := range put {
		put[i].Sink, put[i].State, put[i].Created = "same", event.ParcelWaiting, epoch
	}
	require.NoError(t, s.Put(t.Context(), put...))
	require.ElementsMatch(t, keys(put), keys(all(t, s, Filter{Sink: "same"})))
}

func testReplay(t *testing.T, s *Store) {
	put := parcels(0, chunk+20, "a")
	for i := range put {
		put[i].State, put[i].Attempts, put[i].LastError, put[i].Raw = event.ParcelDead, 5, "e", nil
	}
	held := parcel(5000, "a")
	held.Attempts = 3
	require.NoError(t, s.Put(t.Context(), append(put, held)...))
	_, err := s.Claim(t.Context(), "a", 5, time.Hour)
	require.NoError(t, err)

	before := time.Now().Add(-time.Millisecond)
	n, err := s.Replay(t.Context(), Filter{OlderThan: put[10].Created, State: event.ParcelDead})
	require.NoError(t, err)
	require.EqualValues(t, 10, n)
	n, err = s.Replay(t.Context(), Filter{})
	require.NoError(t, err)
	require.EqualValues(t, len(put)+1, n)
	got := all(t, s, Filter{})
	require.Len(t, got, len(put)+1)
	for _, p := range got {
		require.Equal(t, event.ParcelWaiting, p.State)
		require.Zero(t, p.Attempts)
		require.WithinRange(t, p.Next, before, time.Now())
	}
	require.Equal(t, "e", got[0].LastError)
	again, err := s.page(t.Context(), s.db.read, Filter{}, place{}, 1)
	require.NoError(t, err)
	// As it was found before it was replayed.
	require.NoError(t, s.write(t.Context(), 1, func(ctx context.Context, txn *txn) error {
		args := [][]any{{txn.now, again[0].seq, string(event.ParcelDead)}}
		return txn.db.many(ctx, txn, replayParcel, args, func(int, scanner) error { return errors.New("replayed twice") })
	}))
	got, err = s.Claim(t.Context(), "a", 1000, time.Hour)
	require.NoError(t, err)
	require.Len(t, got, len(put), "all but the one that is claimed")
}

func testDrop(t *testing.T, s *Store) {
	put := parcels(0, chunk+20, "a")
	for i := range put {
		if i%2 == 0 {
			put[i].State = event.ParcelDead
		}
	}
	require.NoError(t, s.Put(t.Context(), append(put, parcels(0, 10, "b")...)...))
	n, err := s.Drop(t.Context(), Filter{Sink: "a", State: event.ParcelDead})
	require.NoError(t, err)
	require.EqualValues(t, len(put)/2, n)
	require.Len(t, all(t, s, Filter{}), len(put)/2+10)
	consistent(t, s)
	n, err = s.Drop(t.Context(), Filter{})
	require.NoError(t, err)
	require.EqualValues(t, len(put)/2+10, n)
	require.Empty(t, all(t, s, Filter{}))

	// What was replayed between being found and being dropped is no dead letter any more.
	require.NoError(t, s.Put(t.Context(), put[0]))
	found, err := s.page(t.Context(), s.db.read, Filter{}, place{}, 10)
	require.NoError(t, err)
	require.Len(t, found, 1)
	n, err = s.Replay(t.Context(), Filter{})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	for _, query := range []string{dropParcel, purgeParcel} {
		err = s.write(t.Context(), 1, func(ctx context.Context, txn *txn) error {
			further := []any{time.Now().UnixMilli() + 1000}
			if query == dropParcel {
				further = nil
			}
			n, err = remove(ctx, txn, query, found, further...)
			return err
		})
		require.NoError(t, err)
		require.Zero(t, n)
	}
	require.Len(t, all(t, s, Filter{}), 1)
}

func testPurge(t *testing.T, s *Store) {
	put := parcels(0, 4, "a")
	put[0].State, put[1].State = event.ParcelDead, event.ParcelDead
	put[1].Updated = time.Now().Add(-59 * time.Minute) // just died
	put[2].State, put[2].Created, put[2].Updated = event.ParcelDead, time.Now(), time.Now()
	require.NoError(t, s.Put(t.Context(), put...))
	n, err := s.Purge(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.ElementsMatch(t, keys(put[1:]), keys(all(t, s, Filter{})))
	s.cfg.Retention = 0
	n, err = s.Purge(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func testTransfer(t *testing.T, s *Store) {
	put := append(parcels(0, chunk+10, "a"), parcel(1, "b"), parcel(2, "b"), parcel(3, "b"))
	put[0].Raw = json.RawMessage("{ \"a\" : \"<\\u0041>\u2028\" }\n")
	put[1].Raw, put[1].Type, put[1].SubAppID = []byte("\"\xff\"\n"), "\xff", 1<<64-1
	put[2].Raw = nil
	put[3].State, put[3].Attempts, put[3].FirstError, put[3].LastError = event.ParcelDead, 4, "f", "l"
	require.NoError(t, s.Put(t.Context(), put...))
	_, err := s.Claim(t.Context(), "a", 5, time.Hour)
	require.NoError(t, err)
	want := all(t, s, Filter{})
	var out, part bytes.Buffer
	n, err := s.Export(t.Context(), Filter{}, &out)
	require.NoError(t, err)
	require.EqualValues(t, len(put), n)
	n, err = s.Export(t.Context(), Filter{Sink: "b"}, &part)
	require.NoError(t, err)
	require.EqualValues(t, 3, n)

	n, err = s.Drop(t.Context(), Filter{State: event.ParcelWaiting, OlderThan: put[100].Created})
	require.NoError(t, err)
	require.Positive(t, n)
	added, err := s.Import(t.Context(), bytes.NewReader(out.Bytes()))
	require.NoError(t, err)
	require.Equal(t, n, added)
	same(t, want, all(t, s, Filter{}))
	added, err = s.Import(t.Context(), bytes.NewReader(out.Bytes()))
	require.NoError(t, err)
	require.Zero(t, added)

	_, err = s.Drop(t.Context(), Filter{})
	require.NoError(t, err)
	broken := append(bytes.Clone(part.Bytes()), fmt.Sprintf("\n{\"id\":%q}\n", parcel(1, "").ID)...)
	added, err = s.Import(t.Context(), bytes.NewReader(broken))
	require.ErrorContains(t, err, "line 5: state is missing")
	require.True(t, retry.IsPermanent(err))
	require.EqualValues(t, 3, added, "what is before the line is stored, and counted")
	require.Len(t, all(t, s, Filter{}), 3)
	_, err = s.Import(t.Context(), strings.NewReader(`{"id":"x","sink":"a","state":"waiting","event":"{\"a\":tru}"}`))
	require.ErrorContains(t, err, "line 1: event: is not JSON: correct it")
	_, err = s.Import(t.Context(), strings.NewReader(strings.Repeat("a", maxLine+1)))
	require.ErrorContains(t, err, "line 1: is longer than 64 MiB")
}

func testSettled(t *testing.T, s *Store) {
	now := time.UnixMilli(time.Now().UnixMilli())
	require.NoError(t, s.RememberSettled(t.Context(), 1<<64-1, "a", now))
	require.NoError(t, s.RememberSettled(t.Context(), 0, "b", now.Add(-time.Second)))
	require.NoError(t, s.RememberSettled(t.Context(), 0, "a", now.Add(-95*time.Hour)))
	require.NoError(t, s.RememberSettled(t.Context(), 0, "old", now.Add(-97*time.Hour)))
	require.NoError(t, s.RememberSettled(t.Context(), 1, "c", now.Add(-2*time.Second)))
	require.NoError(t, s.RememberSettled(t.Context(), 0, "b", now.Add(-3*time.Second)), "again")
	require.NoError(t, s.ForgetSettled(t.Context(), 1, "c"))
	require.NoError(t, s.ForgetSettled(t.Context(), 7, "a"))
	for app, want := range map[uint64][]event.SettledMark{
		1<<64 - 1: {{EventID: "a", At: now}},
		0:         {{EventID: "b", At: now.Add(-3 * time.Second)}, {EventID: "a", At: now.Add(-95 * time.Hour)}},
		1:         nil,
	} {
		got, err := s.Settled(t.Context(), app)
		require.NoError(t, err)
		require.Equal(t, want, got, app)
	}

	// The oldest of an application are forgotten when it has too many, and no other one's.
	err := s.write(t.Context(), 1, func(ctx context.Context, txn *txn) error {
		var rows [][]any
		for i := range maxSettled + 100 {
			rows = append(rows, []any{int64(2), fmt.Sprint(i), now.UnixMilli() - int64(i)})
		}
		return txn.db.change(ctx, txn, rememberSettled, rows, nil)
	})
	require.NoError(t, err)
	for range settledSlack {
		require.NoError(t, s.RememberSettled(t.Context(), 2, "x", now))
	}
	var stored int
	require.NoError(t, s.db.read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM vodrelay_settled WHERE sub_app_id = 2`).Scan(&stored))
	require.LessOrEqual(t, stored, maxSettled)
	got, err := s.Settled(t.Context(), 2)
	require.NoError(t, err)
	require.Greater(t, len(got), maxSettled-settledSlack)
	got, err = s.Settled(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, got, 2)
}

func testCounts(t *testing.T, s *Store) {
	got, err := s.Counts(t.Context())
	require.NoError(t, err)
	require.Empty(t, got)
	dead := parcel(3, "b")
	dead.State = event.ParcelDead
	require.NoError(t, s.Put(t.Context(), parcel(2, "b"), parcel(1, "b"), parcel(5, "a"), dead))
	got, err = s.Counts(t.Context())
	require.NoError(t, err)
	size := int64(len(payload))
	require.Equal(t, []Count{
		{"a", event.ParcelWaiting, 1, size, parcel(5, "a").Created},
		{"b", event.ParcelWaiting, 2, 2 * size, parcel(1, "b").Created},
		{"b", event.ParcelDead, 1, size, dead.Created},
	}, got)
	require.NoError(t, s.Complete(t.Context(), parcel(5, "a").Key()))
	got, err = s.Counts(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 2)
}

// testConcurrency: nothing is claimed by two at once, and everything ends up where it belongs.
func testConcurrency(t *testing.T, s *Store) {
	const producers, perProducer, workers = 6, 60, 6
	var group errgroup.Group
	for n := range producers {
		group.Go(func() error {
			for i := range perProducer {
				if err := s.Put(t.Context(), parcel(n*perProducer+i, "a"), parcel(n*perProducer+i, "b")); err != nil {
					return err
				}
				if _, err := s.Counts(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	seen := make(chan event.ParcelKey, 4*producers*perProducer)
	for n := range workers {
		group.Go(func() error {
			for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline) && len(seen) < 2*producers*perProducer; {
				got, err := s.Claim(t.Context(), []string{"a", "b"}[n%2], 7, time.Hour)
				if err != nil {
					return err
				}
				for i, p := range got {
					seen <- p.Key()
					switch i % 3 {
					case 0:
						err = s.Complete(t.Context(), p.Key())
					case 1:
						err = s.Fail(t.Context(), Outcome{Key: p.Key(), Err: "e", Dead: true})
					case 2:
						err = s.Fail(t.Context(), Outcome{Key: p.Key(), Err: "e", Next: time.Now().Add(time.Hour)})
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	close(seen)
	times := make(map[event.ParcelKey]int)
	for key := range seen {
		times[key]++
	}
	require.Len(t, times, 2*producers*perProducer)
	for key, n := range times {
		require.Equal(t, 1, n, key)
	}
}

func testContexts(t *testing.T, s *Store) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Put(ended, parcel(1, "a")), context.Canceled)
	_, err := s.Claim(ended, "a", 1, time.Minute)
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = s.List(ended, Filter{}, "", 1)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, all(t, s, Filter{}))

	// Contexts that end at any moment leave no write half done, and lose no claim.
	var group errgroup.Group
	for n := range 200 {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*50*time.Microsecond)
			defer cancel()
			if err := s.Put(ctx, parcel(n, "a"), parcel(n, "b")); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.NoError(t, s.Close(t.Context()), "what was under way has ended")
	s = open(t, s.cfg)
	defer consistent(t, s)
	require.Len(t, all(t, s, Filter{Sink: "b"}), len(all(t, s, Filter{Sink: "a"})))
	stored, claimed := len(all(t, s, Filter{Sink: "a"})), 0
	for n := 0; claimed < stored; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*20*time.Microsecond)
		got, err := s.Claim(ctx, "a", 3, time.Hour)
		cancel()
		require.True(t, err == nil || len(got) == 0)
		claimed += len(got)
		require.Less(t, n, 100_000)
	}
}

func testClosed(t *testing.T, s *Store) {
	require.NoError(t, s.Put(t.Context(), parcel(1, "a")))
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, s.Close(t.Context()))
	require.ErrorIs(t, s.Put(t.Context(), parcel(2, "a")), ErrClosed)
	require.ErrorIs(t, s.Healthy(t.Context()), ErrClosed)
	_, err := s.Counts(t.Context())
	require.Error(t, err)
}
