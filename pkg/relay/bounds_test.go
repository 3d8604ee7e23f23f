package relay_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// A second message of the same content that arrives while the first one is being confirmed is confirmed with it, and
// both together give back the one place that they have.
func TestASettledEventThatIsJoinedLeavesTheHandOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same := `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`
		var confirming atomic.Bool
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) {
			if confirming.Load() {
				return true, nil
			}
			return false, retry.NoEffect(errDown)
		}}
		q.Publish(same)
		rec := newRecorder(nil)
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		pass(2 * time.Second)
		q.Publish(same)
		pass(2 * time.Second)
		require.EqualValues(t, 1, r.Stats().InHand)
		require.EqualValues(t, 1, r.Stats().Joined)
		confirming.Store(true)
		pass(10 * time.Second)
		require.Zero(t, q.Unconfirmed())
		require.Equal(t, 1, rec.calls())
		require.Zero(t, r.Stats().InHand)
		require.EqualValues(t, 1, r.Stats().Confirmed)
		_, err := stop()
		require.NoError(t, err)
	})
}

// There are as many pollers as can be under way, and no more than could wait for half of a poll.
func TestNoPollerCanOnlyWait(t *testing.T) {
	for _, row := range []struct {
		name        string
		rate        float64
		places      int
		least, most int64
	}{
		{"for the rate limiter", 10, 1024, 10, 18}, // a poll takes a second: 10 are under way, 5 may wait, and one begins
		{"for places", 0, 48, 3, 3},
	} {
		bubble(t, row.name, func(t *testing.T) {
			q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 500 * time.Millisecond} // each way
			q.PublishUploads(10_000)
			cfg := relay.DefaultConfig()
			cfg.RateLimit, cfg.MaxInHand = row.rate, row.places
			r, stop := start(t, cfg, newRecorder(nil), q)
			most := int64(0)
			for range 200 {
				pass(100 * time.Millisecond)
				most = max(most, r.Stats().Pollers)
			}
			_, err := stop()
			require.NoError(t, err)
			require.GreaterOrEqual(t, most, row.least)
			require.LessOrEqual(t, most, row.most)
		})
	}
}

// After a stop, the time of the last confirms counts from the end of the grace.
func TestWorkThatOutlivesTheGraceTakesItsTimeFromTheConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := deaf{&relaytest.Queue{Hold: 5 * time.Second}}
		q.PublishUploads(1)
		cfg := relay.DefaultConfig()
		cfg.StopGrace = 5 * time.Second
		_, stop := start(t, cfg, newRecorder(func(context.Context, event.Delivery, int) error {
			time.Sleep(8 * time.Second) // heeds no context
			return nil
		}), q)
		pass(2 * time.Second)
		took, err := stop() // the work ends a second after the grace
		require.NoError(t, err)
		require.Equal(t, 7500*time.Millisecond, took)
	})
}

// A lane in which all is under way asks the store for nothing.
func TestABusyLaneClaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var claims atomic.Int64
		store := &relaytest.Parcels{Fault: func(_ context.Context, method string) error {
			if method == "Claim" {
				claims.Add(1)
			}
			return nil
		}}
		put(t, store, 2, "site")
		s := relay.NewScheduler(nil, store, (&target{answer: sleeping(10 * time.Second)}).deliver, []relay.Lane{{Sink: "site", Concurrency: 1}})
		stop := schedule(t, s)
		for range 5 {
			pass(time.Second)
			s.Wake("site")
		}
		require.EqualValues(t, 1, claims.Load())
		stop()
	})
}

// Each claim is extended when it is 20 s old, whatever others there are.
func TestEachClaimIsExtendedInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var extended []time.Duration
		store := &relaytest.Parcels{Fault: func(_ context.Context, method string) error {
			if method == "Extend" {
				extended = append(extended, time.Since(began).Round(time.Second))
			}
			return nil
		}}
		put(t, store, 1, "site")
		s := relay.NewScheduler(nil, store, (&target{answer: sleeping(34 * time.Second)}).deliver, []relay.Lane{{Sink: "site", Concurrency: 2}})
		stop := schedule(t, s)
		pass(10 * time.Second)
		second := parcel(2, "site")
		require.NoError(t, store.Put(t.Context(), second))
		s.Wake("site")
		pass(23 * time.Second)
		stop()
		require.Equal(t, []time.Duration{20 * time.Second, 30 * time.Second}, extended)
	})
}

// A relay without queues works its store off, if there is one, until it is stopped; its scheduler's error is its own.
func TestARelayWithoutSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 3, "site")
		run := func(s *relay.Scheduler, d time.Duration) (time.Duration, error) {
			r, err := relay.New(relay.DefaultConfig(), nil, newRecorder(nil))
			require.NoError(t, err)
			if s != nil {
				r.UseScheduler(s, store)
			}
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			began := time.Now()
			err = r.Run(ctx)
			return time.Since(began), err
		}
		s := relay.NewScheduler(nil, store, (&target{}).deliver, []relay.Lane{{Sink: "site"}})
		took, err := run(s, time.Minute)
		require.NoError(t, err)
		require.Equal(t, time.Minute, took)
		require.Empty(t, store.All())
		took, err = run(s, time.Hour)
		require.ErrorContains(t, err, "a scheduler runs only once")
		require.Less(t, took, time.Minute)
		took, err = run(nil, time.Minute)
		require.NoError(t, err)
		require.Equal(t, time.Minute, took)
	})
}

// The places can become fewer and more as often as somebody likes.
func TestPlacesChangeAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(2000)
		rec := newRecorder(func(ctx context.Context, _ event.Delivery, _ int) error { return retry.Sleep(ctx, time.Second) })
		cfg := relay.DefaultConfig()
		cfg.MaxInHand = 64
		r, stop := start(t, cfg, rec, q)
		for _, places := range []int{32, 64, 32, 16, 64} {
			cfg.MaxInHand = places
			require.NoError(t, r.Reconfigure(cfg))
			pass(5 * time.Second)
			most := int64(0)
			for range 20 {
				pass(100 * time.Millisecond)
				most = max(most, r.Stats().InHand)
			}
			require.EqualValues(t, places, most)
		}
		_, err := stop()
		require.NoError(t, err)
	})
}

// The limits that an error names are allowed themselves.
func TestTheLimitsOfAConfigurationAreAllowed(t *testing.T) {
	for _, row := range []struct {
		places, sources int
		allowed         bool
	}{
		{16, 1, true}, {15, 1, false}, {64, 2, true}, {63, 2, false},
		{relay.MinInHand(3), 3, true}, {relay.MinInHand(3) - 1, 3, false},
	} {
		cfg := relay.DefaultConfig()
		cfg.MaxInHand = row.places
		require.Equal(t, row.allowed, cfg.ValidateFor(row.sources) == nil, "%d places, %d sources", row.places, row.sources)
	}
	cfg := relay.DefaultConfig()
	cfg.StopGrace = relay.MaxStopGrace
	require.NoError(t, cfg.Validate())
	cfg.StopGrace++
	require.Error(t, cfg.Validate())
}
