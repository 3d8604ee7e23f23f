package pipeline

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// shares takes no parcels of the sinks that are full, and those of a Put together or none.
type shares struct {
	mu      sync.Mutex
	full    map[string]bool
	hang    bool
	parcels map[string]int // by sink
}

func (s *shares) Put(ctx context.Context, parcels ...event.Parcel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, p := range parcels {
		if s.full[p.Sink] || s.full["all"] {
			return errors.New("full for " + p.Sink)
		}
	}
	for _, p := range parcels {
		if s.parcels == nil {
			s.parcels = map[string]int{}
		}
		s.parcels[p.Sink]++
	}
	return nil
}

func TestASinkWhoseShareIsFullKeepsOutNoOther(t *testing.T) {
	for _, mode := range []ParkMode{ParkFailures, ParkEverything} {
		synctest.Test(t, func(t *testing.T) {
			store := &shares{full: map[string]bool{"dead": true}}
			good, dead := &target{}, &target{err: errDown}
			p := parking(t, store, mode, nil, []Route{
				{Name: "dead", Sink: dead}, {Name: "late", Sink: &target{err: errDown}}, {Name: "good", Sink: good}, {Name: "idle", Sink: good, When: condition(t, "false")},
			})
			for range 3 { // as often as VOD delivers it
				start := time.Now()
				require.ErrorContains(t, p.Handle(t.Context(), delivery(t, upload)), "cannot store the event: full for dead")
				require.Equal(t, holdTime, time.Since(start))
				want := map[string]int{"late": 1}
				if mode == ParkEverything {
					want["good"] = 1
				} else {
					require.Len(t, good.got, 1)
				}
				require.Equal(t, want, store.parcels, "neither twice")
			}
			store.full = nil
			require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
			require.Equal(t, 1, store.parcels["dead"])
			require.Equal(t, 1, store.parcels["late"])
			require.Zero(t, p.Stats().Remembered)
		})
	}
}

// What a receiver is posted goes to the sinks that are up, whatever the store does.
func TestStoreSendsWhatCannotBeStored(t *testing.T) {
	const patience = time.Second
	both, onlyGood := upload, `{"EventType":"FileDeleted","FileDeleteEvent":{}}`
	for _, tt := range []struct {
		name, item string
		store      *shares
		settled    bool
		sent       int // to good
		stored     map[string]int
		within     time.Duration
	}{
		{"there is room", both, &shares{}, true, 0, map[string]int{"good": 1, "dead": 1}, 0},
		{"a share is full", both, &shares{full: map[string]bool{"dead": true}}, false, 0, map[string]int{"good": 1}, holdTime},
		{"a share of no concern is full", onlyGood, &shares{full: map[string]bool{"dead": true}}, true, 0, map[string]int{"good": 1}, 0},
		{"the store is full", onlyGood, &shares{full: map[string]bool{"all": true}}, true, 1, nil, 0},
		{"the store is full for both", both, &shares{full: map[string]bool{"all": true}}, false, 1, nil, holdTime},
		{"the store hangs", onlyGood, &shares{hang: true}, true, 1, nil, patience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := &target{}
				p := parking(t, tt.store, ParkFailures, nil, []Route{
					{Name: "good", Sink: good}, {Name: "dead", Sink: &target{err: errDown}, When: condition(t, `type == "NewFileUpload"`)}, {Name: "idle", Sink: good, When: condition(t, "false")},
				})
				attempt := func() error {
					d := delivery(t, tt.item)
					d.Deadline = time.Now().Add(15 * time.Second)
					return p.Store(t.Context(), d, patience)
				}
				start := time.Now()
				err := attempt()
				require.LessOrEqual(t, time.Since(start), tt.within)
				require.Equal(t, tt.settled, err == nil, err)
				require.Len(t, good.got, tt.sent)
				require.Equal(t, tt.stored, tt.store.parcels)
				if tt.settled {
					return
				}
				require.Error(t, attempt(), "VOD posts it once more")
				tt.store.full = nil
				require.NoError(t, attempt())
				require.Equal(t, 1, tt.store.parcels["dead"])
				require.Equal(t, 1, tt.store.parcels["good"]+len(good.got), "once, whichever way")
				require.Zero(t, p.Stats().Remembered)
			})
		})
	}
}

// A dead letter is told when it is stored, and not before. What keeps several from being stored is said once.
func TestDeadLettersAreToldWhenTheyAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuses := &target{err: retry.Permanent(errors.New("refused"))}
		var told []string
		note := OnDead(func(sink string, e event.Event, err error) { told = append(told, sink) })
		routes := []Route{{Name: "a", Sink: refuses}, {Name: "b", Sink: refuses}, {Name: "up", Sink: &target{}}}

		store := &shares{full: map[string]bool{"b": true}}
		p := parking(t, store, ParkFailures, nil, routes, note)
		require.Error(t, p.Handle(t.Context(), delivery(t, upload)))
		require.Equal(t, []string{"a"}, told)
		store.full = nil
		require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
		require.Equal(t, []string{"a", "b"}, told)
		require.NoError(t, p.Store(t.Context(), delivery(t, bare), time.Second))
		require.Len(t, told, 2, "what was stored before it was sent is not refused yet")

		p = parking(t, &parked{err: errDown}, ParkFailures, nil, routes, note)
		require.EqualError(t, p.Handle(t.Context(), delivery(t, upload)), "sink a: refused\nsink b: refused\ncannot store the event: target down")
		require.Len(t, told, 2)

		broken := ProcessorFunc(func(_ context.Context, e event.Event) (event.Event, error) { return e, errDown })
		p = parking(t, &shares{}, ParkFailures, []Processor{broken}, routes, note)
		require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
		require.Equal(t, []string{"a", "b", event.Unprocessed}, told)
	})
}
