package relay_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func refuse(context.Context, event.Event) error { return errDown }

func takes(d time.Duration) func(context.Context, event.Event) error {
	return func(ctx context.Context, _ event.Event) error { return retry.Sleep(ctx, d) }
}

// A sink is down for a week. Nothing is lost or stays in the queue; what waits goes out when it is back,
// what was due first goes first, at the sink's concurrency.
func TestAWeekOfOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * time.Hour
		source := newStream(time.Minute, int(week/time.Minute))
		source.hold = time.Minute // which saves the test 100,000 polls
		store, site, other := &relaytest.Parcels{}, &sink{answer: refuse}, &sink{}
		core, logs := observer.New(zapcore.InfoLevel)
		routes := []pipeline.Route{siteRoute(site), siteRoute(other)}
		routes[0].Concurrency, routes[1].Name = 8, "other"
		routes[0].Breaker.Open = time.Minute
		w := assemble(t, relay.DefaultConfig(), zap.New(core), store, nil, routes, source)
		stop := w.start(t)
		pass(week)
		published, pulled, confirmed := source.counts()
		require.Equal(t, published, confirmed, "the queue is empty all the time")
		require.Equal(t, published, pulled, "nothing is delivered twice")
		waiting, dead, err := store.Counts(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, published, waiting)
		require.Zero(t, dead)
		_, sends, _ := site.stats()
		require.InDelta(t, week/time.Minute, sends, 500, "one probe in a minute")
		require.Less(t, logs.Len(), 20, "%v", logs.All())

		site.set(takes(100 * time.Millisecond))
		back := time.Now()
		expected := store.All()
		for i, p := range expected {
			if p.Next.After(back) { // released when the sink is back
				expected[i].Next = p.Created
			}
		}
		slices.SortStableFunc(expected, func(a, b event.Parcel) int { return a.Next.Compare(b.Next) })
		pass(70 * time.Second) // the next probe comes within a minute; 80 a second from then on
		accepted, _, most := site.stats()
		require.Greater(t, accepted, 700)
		require.Equal(t, 8, most)
		pass(time.Duration(published)*time.Second/75 - time.Since(back) + 70*time.Second)
		require.Empty(t, store.All())
		stop()

		require.Len(t, site.accepted, published)
		require.Len(t, other.accepted, published)
		require.Len(t, site.order, published, "none twice")
		at := map[string]int{}
		for i, id := range site.order {
			at[id] = i
		}
		overtaken := 0
		for i, p := range expected {
			if off := at[p.ID] - i; off < -24 || off > 24 { // more than what is on its way at the same time
				overtaken++
			}
		}
		require.LessOrEqual(t, overtaken, 5, "only what fell due between the recovery and the probe that found it")
	})
}

// At the quota's 1,600 events a second, a sink that is down must not use up the places.
func TestParkingAtTheFullRate(t *testing.T) {
	tests := map[string]struct {
		answer func(context.Context, event.Event) error
		stall  time.Duration // until the breaker knows
	}{
		"refuses": {refuse, 0},
		"hangs":   {takes(time.Hour), 10 * time.Second},
	}
	for name, tt := range tests {
		bubble(t, name, func(t *testing.T) {
			const rate, seconds = 1600, 16
			source := newStream(time.Second/rate, rate*seconds)
			source.latency = 50 * time.Millisecond
			store, site := &relaytest.Parcels{}, &sink{answer: tt.answer}
			w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{siteRoute(site)}, source)
			stop := w.start(t)
			pass(tt.stall + time.Second)
			for range seconds - 1 {
				pass(time.Second)
				if tt.stall == 0 {
					require.Less(t, w.relay.Stats().InHand, int64(700))
				}
			}
			pass(5 * time.Second)
			published, pulled, confirmed := source.counts()
			require.Equal(t, rate*seconds, published, "it keeps up")
			require.Equal(t, published, confirmed)
			require.Equal(t, published, pulled, "no lease runs out")
			waiting, _, _ := store.Counts(t.Context())
			require.EqualValues(t, published, waiting)
			stop()
		})
	}
}

// A poison event is a dead letter at once, whether a sink or a processor does not take it; the others flow.
func TestPoisonEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newStream(10*time.Millisecond, 2000)
		store := &relaytest.Parcels{}
		site := &sink{answer: func(_ context.Context, e event.Event) error {
			if e.ID == streamID(100) {
				return retry.Permanent(errors.New("not wanted"))
			}
			return nil
		}}
		var mended atomic.Bool
		processor := pipeline.ProcessorFunc(func(_ context.Context, e event.Event) (event.Event, error) {
			if e.ID == streamID(200) && !mended.Load() {
				panic("a bug")
			}
			return e, nil
		})
		w := assemble(t, relay.DefaultConfig(), nil, store, []pipeline.Processor{processor}, []pipeline.Route{siteRoute(site)}, source)
		stop := w.start(t)
		pass(time.Minute)
		_, pulled, confirmed := source.counts()
		require.Equal(t, []int{2000, 2000}, []int{pulled, confirmed}, "neither circulates")
		all := store.All()
		require.Len(t, all, 2)
		require.Equal(t, []string{"site", event.Unprocessed}, []string{all[0].Sink, all[1].Sink})
		require.Equal(t, []event.ParcelState{event.ParcelDead, event.ParcelDead}, []event.ParcelState{all[0].State, all[1].State})
		accepted, _, _ := site.stats()
		require.Equal(t, 1998, accepted)

		mended.Store(true)
		store.Replay(all[1].Key())
		pass(time.Minute)
		require.Len(t, store.All(), 1)
		accepted, _, _ = site.stats()
		require.Equal(t, 1999, accepted)
		stop()
	})
}

// With confirm: stored a sink may take hours, and the queue is empty all the same; a restart goes on.
func TestConfirmStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := relay.DefaultConfig()
		cfg.Confirm = relay.ConfirmStored
		source := newStream(time.Second, 100)
		store, site := &relaytest.Parcels{}, &sink{answer: takes(2 * time.Hour)}
		route := siteRoute(site)
		route.Timeout, route.Concurrency = 3*time.Hour, 10
		w := assemble(t, cfg, nil, store, nil, []pipeline.Route{route}, source)
		stop := w.start(t)
		pass(2 * time.Minute)
		_, pulled, confirmed := source.counts()
		require.Equal(t, []int{100, 100}, []int{pulled, confirmed})
		require.Len(t, store.All(), 100)
		_, _, most := site.stats()
		require.Equal(t, 10, most)
		pass(10 * time.Hour)
		require.LessOrEqual(t, stop(), relay.StopLimit)
		accepted, _, _ := site.stats()
		require.Equal(t, 50, accepted)
		require.Len(t, store.All(), 50)
		require.Zero(t, store.Claimed(), "given back, not lost until the claim ends in hours")

		w = assemble(t, cfg, nil, store, nil, []pipeline.Route{route}, source)
		stop = w.start(t)
		pass(10*time.Hour + time.Minute)
		require.Empty(t, store.All())
		stop()
		require.Len(t, site.order, 100, "none twice")
	})
}

// An event that is stored is sent at once, not when the scheduler next looks by itself.
func TestConfirmStoredIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := relay.DefaultConfig()
		cfg.Confirm = relay.ConfirmStored
		source := newStream(700*time.Millisecond, 100)
		site := &sink{}
		w := assemble(t, cfg, nil, &relaytest.Parcels{}, nil, []pipeline.Route{siteRoute(site)}, source)
		stop := w.start(t)
		pass(100*700*time.Millisecond - 500*time.Millisecond) // 200 ms after the last one
		accepted, _, _ := site.stats()
		require.Equal(t, 100, accepted)
		stop()
	})
}

// While the store cannot be written and a sink is down, the relay pulls no more than it has places for, and
// goes on by itself.
func TestTheStoreIsDownAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newStream(40*time.Millisecond, 25*60*6)
		site := &sink{answer: refuse}
		var broken atomic.Bool
		broken.Store(true)
		store := &relaytest.Parcels{Fault: func(context.Context, string) error {
			if broken.Load() {
				return retry.WithHint(errors.New("disk full"), "make room")
			}
			return nil
		}}
		core, logs := observer.New(zapcore.WarnLevel)
		cfg := relay.DefaultConfig()
		cfg.MaxInHand = 256
		w := assemble(t, cfg, zap.New(core), store, nil, []pipeline.Route{siteRoute(site)}, source)
		stop := w.start(t)
		pass(2 * time.Minute)
		_, pulled, confirmed := source.counts()
		require.Zero(t, confirmed)
		require.Less(t, pulled, 6*256, "each place is taken for most of a lease")
		require.Len(t, logs.FilterMessageSnippet("cannot store events").All(), 1)
		require.Equal(t, "make room", logs.FilterMessageSnippet("cannot store events").All()[0].ContextMap()["hint"])
		broken.Store(false)
		pass(5 * time.Minute)
		published, _, confirmed := source.counts()
		require.Equal(t, source.total, published)
		require.Equal(t, published, confirmed)
		require.Len(t, store.All(), published)
		site.set(nil)
		pass(time.Minute)
		require.Empty(t, store.All())
		stop()
	})
}

// Lives of random length, a sink that comes and goes, a store that fails now and then: every event that was
// confirmed is in the sink or in the store after every one of them, and in the end in the sink.
func TestParkingSurvivesRestarts(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			source := newStream(40*time.Millisecond, 5_000)
			var rough, down atomic.Bool
			rough.Store(true)
			var draw atomic.Uint64
			store := &relaytest.Parcels{Fault: func(context.Context, string) error {
				if rough.Load() && draw.Add(0x9E3779B97F4A7C15)%29 == 0 {
					return errDown
				}
				return nil
			}}
			site := &sink{answer: func(ctx context.Context, e event.Event) error {
				switch {
				case down.Load():
					return errDown
				case rough.Load() && draw.Add(0x9E3779B97F4A7C15)%11 == 0:
					return retry.Sleep(ctx, 12*time.Second)
				}
				return retry.Sleep(ctx, 20*time.Millisecond)
			}}
			cfg := relay.DefaultConfig()
			for i := 0; i < 40; i++ {
				if i == 25 {
					rough.Store(false)
				}
				down.Store(i < 25 && random.IntN(2) == 0)
				cfg.StopGrace = time.Duration(random.Int64N(int64(relay.MaxStopGrace) + 1))
				cfg.Confirm = []string{relay.ConfirmHandled, relay.ConfirmStored}[random.IntN(2)]
				w := assemble(t, cfg, nil, store, nil, []pipeline.Route{siteRoute(site)}, source)
				stop := w.start(t)
				pass(time.Duration(1+random.IntN(20)) * time.Second)
				require.LessOrEqual(t, stop(), relay.StopLimit)
				stored := map[string]bool{}
				for _, p := range store.All() {
					stored[p.ID] = true
				}
				for id := range source.confirmed {
					require.True(t, stored[id] || site.accepted[id] > 0, "seed %d: %s was confirmed and is nowhere", seed, id)
				}
			}
			w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{siteRoute(site)}, source)
			stop := w.start(t)
			pass(5 * time.Minute)
			stop()
			require.Empty(t, store.All())
			require.Len(t, source.confirmed, source.total)
			require.Len(t, site.accepted, source.total)
		})
	}
}

// A stop with everything in hand cut off: stored, confirmed, and in time.
func TestAStopStoresWhatItCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newStream(time.Millisecond, 200)
		source.latency = 100 * time.Millisecond
		store := &relaytest.Parcels{}
		cfg := relay.DefaultConfig()
		cfg.StopGrace = 3 * time.Second
		route := siteRoute(&sink{answer: takes(time.Hour)})
		route.Timeout = time.Minute
		w := assemble(t, cfg, nil, store, nil, []pipeline.Route{route}, source)
		stop := w.start(t)
		pass(2 * time.Second)
		require.Less(t, stop(), 4*time.Second)
		_, pulled, confirmed := source.counts()
		require.Equal(t, []int{200, 200}, []int{pulled, confirmed})
		require.Len(t, store.All(), 200)
	})
}

// A sink that is too slow for what comes in gets new events and parcels in turn.
func TestABusySinkGetsToItsParcels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newStream(25*time.Millisecond, 40*240) // 40 a second
		store, site := &relaytest.Parcels{}, &sink{answer: takes(200 * time.Millisecond)}
		put(t, store, 100, "site")
		route := siteRoute(site)
		route.Concurrency = 2 // 10 a second
		cfg := relay.DefaultConfig()
		cfg.MaxInHand = 512 // which is a wait of 51 s for all of them
		w := assemble(t, cfg, nil, store, nil, []pipeline.Route{route}, source)
		stop := w.start(t)
		pass(4 * time.Minute)
		site.mu.Lock()
		fresh, parcels := 0, 0
		for id := range site.accepted {
			if len(id) == 6 { // those of put
				parcels++
			} else {
				fresh++
			}
		}
		site.mu.Unlock()
		require.Greater(t, parcels, 10)
		require.Greater(t, fresh, 1200)
		stop()
	})
}
