package relay_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestPlacesFollowTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: time.Millisecond}
		q.PublishUploads(3500)
		rec := newRecorder(func(ctx context.Context, _ event.Delivery, _ int) error { return retry.Sleep(ctx, time.Second) })
		cfg := relay.DefaultConfig()
		cfg.MaxInHand = 64
		r, stop := start(t, cfg, rec, q)
		inHand := func(want int64) {
			t.Helper()
			pass(5 * time.Second)
			most := int64(0)
			for range 30 {
				pass(100 * time.Millisecond)
				most = max(most, r.Stats().InHand)
			}
			require.LessOrEqual(t, most, want)
			require.Greater(t, most, want*3/4)
		}
		inHand(64)
		cfg.MaxInHand = 192
		require.NoError(t, r.Reconfigure(cfg))
		inHand(192)
		cfg.MaxInHand = 32
		require.NoError(t, r.Reconfigure(cfg))
		inHand(32)
		cfg.MaxInHand = 1
		require.ErrorContains(t, r.Reconfigure(cfg), "max_in_hand: 1: must be at least 16")
		inHand(32)
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
	})
}

func TestTheRateLimitFollowsTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Latency: time.Millisecond}
		q.PublishUploads(16 * 1500)
		cfg := relay.DefaultConfig()
		cfg.RateLimit = 10
		r, stop := start(t, cfg, newRecorder(nil), q)
		pass(10 * time.Second)
		before, _ := q.Calls()
		require.InDelta(t, 100, before, 2)
		cfg.RateLimit = 100
		require.NoError(t, r.Reconfigure(cfg))
		pass(10 * time.Second)
		after, _ := q.Calls()
		require.InDelta(t, 1000, after-before, 20)
		cfg.StopGrace = 0 // also read when the stop comes
		require.NoError(t, r.Reconfigure(cfg))
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestLanesAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 6, "kept")
		put(t, store, 6, "removed")
		put(t, store, 6, "added")
		put(t, store, 6, "changed")
		var mu sync.Mutex
		now, most := map[string]int{}, map[string]int{}
		deliver := func(ctx context.Context, sink string, _ event.Event) error {
			mu.Lock()
			now[sink]++
			most[sink] = max(most[sink], now[sink])
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				now[sink]--
			}()
			return retry.Sleep(ctx, 10*time.Minute)
		}
		counts := func(of map[string]int) map[string]int {
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(of)
		}
		lane := func(sink string, concurrency int) relay.Lane { return relay.Lane{Sink: sink, Concurrency: concurrency} }
		s := relay.NewScheduler(nil, store, deliver, []relay.Lane{lane("kept", 3), lane("removed", 3), lane("changed", 4)})
		stop := schedule(t, s)
		pass(time.Second)
		require.Equal(t, map[string]int{"kept": 3, "removed": 3, "changed": 4}, counts(now))

		s.UseLanes([]relay.Lane{lane("kept", 3), lane("changed", 1), lane("added", 2)})
		pass(9 * time.Minute)
		require.Equal(t, map[string]int{"kept": 3, "removed": 3, "changed": 4, "added": 2}, counts(now), "what is on its way ends")
		require.Equal(t, 12, store.Claimed(), "and nobody else claims it meanwhile")
		s.UseLanes([]relay.Lane{lane("kept", 3), lane("changed", 2), lane("added", 2)}) // while the lane before still waits
		pass(2 * time.Minute)
		require.Equal(t, map[string]int{"kept": 3, "removed": 0, "changed": 2, "added": 2}, counts(now))
		pass(2 * time.Hour)
		left := map[string]int{}
		for _, p := range store.All() {
			left[p.Sink]++
		}
		require.Equal(t, map[string]int{"removed": 3}, left)
		require.Equal(t, map[string]int{"kept": 3, "removed": 3, "changed": 4, "added": 2}, counts(most))
		require.Zero(t, stop())
		s.UseLanes([]relay.Lane{lane("late", 1)}) // and nothing starts any more
	})
}

func TestALoopThatStallsIsNotAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		q := &relaytest.Queue{Hold: 5 * time.Second, OnPull: func(call int) error {
			if call == 3 {
				<-release // heeds no context
			}
			return nil
		}}
		r, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		pass(11 * time.Second)
		require.NoError(t, r.Alive())
		pass(4 * time.Minute)
		require.ErrorContains(t, r.Alive(), "a poll has not ended within 3m0s")
		close(release)
		pass(6 * time.Second) // the queue holds the poll first
		require.NoError(t, r.Alive())
		_, err := stop()
		require.NoError(t, err)
	})
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) {
			<-release
			return true, nil
		}}
		q.PublishUploads(1)
		r, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		pass(4 * time.Minute)
		require.ErrorContains(t, r.Alive(), "a confirm has not ended")
		close(release)
		pass(time.Second)
		require.NoError(t, r.Alive())
		_, err := stop()
		require.NoError(t, err)
	})
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		store := &relaytest.Parcels{Fault: func(_ context.Context, method string) error {
			<-release
			return nil
		}}
		r, err := relay.New(relay.DefaultConfig(), nil, newRecorder(nil), &relaytest.Queue{Hold: 5 * time.Second})
		require.NoError(t, err)
		r.UseScheduler(relay.NewScheduler(nil, store, (&target{}).deliver, []relay.Lane{{Sink: "site"}}), nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		pass(4 * time.Minute)
		require.ErrorContains(t, r.Alive(), "the work on the store has not ended")
		close(release)
		pass(time.Second)
		require.NoError(t, r.Alive())
		cancel()
		require.NoError(t, <-ended)
	})
	synctest.Test(t, func(t *testing.T) { // an outage is no stall
		q := &relaytest.Queue{OnPull: func(int) error { return errDown }}
		r, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		for range 20 {
			pass(time.Minute)
			require.NoError(t, r.Alive())
		}
		_, err := stop()
		require.NoError(t, err)
	})
}

// witness is an Observer that adds up.
type witness struct {
	mu                                              sync.Mutex
	pulls, failedPulls, events, received, confirmed int
	settled, unsettled, refused, failedConfirms     int
	waitedPull, waitedConfirm, handling             time.Duration
	least                                           time.Duration
}

func (w *witness) PullWaited(d time.Duration)    { w.do(func() { w.waitedPull += d }) }
func (w *witness) ConfirmWaited(d time.Duration) { w.do(func() { w.waitedConfirm += d }) }
func (w *witness) Received(string)               { w.do(func() { w.received++ }) }

func (w *witness) PullDone(_ time.Duration, events int, err error) {
	w.do(func() {
		w.pulls++
		w.events += events
		if err != nil {
			w.failedPulls++
		}
	})
}

func (w *witness) Handled(d time.Duration, settled bool) {
	w.do(func() {
		w.handling += d
		if settled {
			w.settled++
		} else {
			w.unsettled++
		}
	})
}

func (w *witness) Confirmed(_ time.Duration, handles int, left time.Duration, err error) {
	w.do(func() {
		switch {
		case err == nil:
			w.confirmed += handles
			w.least = min(w.least, left)
		case errors.Is(err, event.ErrStaleHandle):
			w.refused++
		default:
			w.failedConfirms++
		}
	})
}

func (w *witness) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func TestTheObserverIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 50 * time.Millisecond,
			OnPull: func(call int) error {
				if call == 2 || call == 3 {
					return errDown
				}
				return nil
			},
			OnConfirm: func(call int, _ []string) (bool, error) {
				if call == 1 {
					return false, errDown
				}
				return true, nil
			},
		}
		q.PublishUploads(160)
		rec := newRecorder(func(ctx context.Context, _ event.Delivery, call int) error {
			_ = retry.Sleep(ctx, time.Second)
			if call <= 2 {
				return errDown
			}
			return nil
		})
		w := &witness{least: time.Hour}
		cfg := relay.DefaultConfig()
		cfg.RateLimit = 5
		r, err := relay.New(cfg, nil, rec, q)
		require.NoError(t, err)
		r.Observe(w)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		pass(2 * time.Minute)
		cancel()
		require.NoError(t, <-ended)
		stats := r.Stats()
		require.EqualValues(t, stats.Received, w.received)
		require.EqualValues(t, stats.Received, w.events)
		require.EqualValues(t, 480, w.received)
		require.Equal(t, []int{160, 320, 160}, []int{w.settled, w.unsettled, w.confirmed})
		require.Equal(t, []int{2, 1, 0}, []int{w.failedPulls, w.failedConfirms, w.refused})
		require.EqualValues(t, stats.Pulls, w.pulls+1, "the poll that the stop cancelled is not told")
		require.Equal(t, 480*time.Second, w.handling)
		require.Positive(t, w.waitedPull)
		require.Less(t, w.least, 29*time.Second)
		require.Greater(t, w.least, 20*time.Second)
	})
}
