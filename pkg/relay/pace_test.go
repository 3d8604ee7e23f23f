package relay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
)

func TestAnIdleQueueIsPolledByOneLongPollAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		r, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		time.Sleep(time.Minute + time.Second)
		pulls, _ := q.Calls()
		require.Equal(t, 13, pulls)
		require.EqualValues(t, 1, r.Stats().Pollers)
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestAnEmptyAnswerAtOnceIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Latency: time.Millisecond} // does not hold
		_, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		time.Sleep(time.Minute)
		pulls, _ := q.Calls()
		require.InDelta(t, 60, pulls, 2)
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestPollersFollowTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 100 * time.Millisecond}
		q.PublishUploads(4000)
		r, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		began := time.Now()
		most := int64(0)
		for q.Unconfirmed() > 0 {
			time.Sleep(50 * time.Millisecond)
			most = max(most, r.Stats().Pollers)
			require.Less(t, time.Since(began), time.Minute)
		}
		// 4,000 events are 250 batches: 2.5 s at 100 requests per second. A loop of one request after the
		// other needs 250 times the 200 ms of a round trip, twice.
		require.Less(t, time.Since(began), 5*time.Second)
		require.Greater(t, most, int64(10))
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 1, r.Stats().Pollers)
		_, err := stop()
		require.NoError(t, err)
	})
}

// At a long round trip a relay that only doubled its polls with each would stand still for most of a second: it
// would have made 3 and 7 polls.
func TestPollersGrowFastAtALongRoundTrip(t *testing.T) {
	for _, row := range []struct {
		rate  float64
		after time.Duration
		pulls int
	}{
		{100, 390 * time.Millisecond, 8},  // the first, and those that come with it when it is back after 200 ms
		{100, 590 * time.Millisecond, 20}, // up to one every 10 ms since 400 ms; who comes first decides
		{0, 390 * time.Millisecond, 8},
		{0, 590 * time.Millisecond, 40}, // as many at a time as there are places for: 64
	} {
		synctest.Test(t, func(t *testing.T) {
			q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 100 * time.Millisecond} // each way
			q.PublishUploads(2000)
			cfg := relay.DefaultConfig()
			cfg.RateLimit = row.rate
			_, stop := start(t, cfg, newRecorder(nil), q)
			time.Sleep(row.after)
			pulls, _ := q.Calls()
			_, err := stop()
			require.NoError(t, err)
			require.GreaterOrEqual(t, pulls, row.pulls, "at %v/s after %s", row.rate, row.after)
			require.LessOrEqual(t, pulls, 80)
		})
	}
}

func TestTheRateLimitIsSharedByAllQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queues []relay.Source
		var all []*relaytest.Queue
		for range 3 {
			q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 10 * time.Millisecond}
			q.PublishUploads(2000)
			all = append(all, q)
			queues = append(queues, q)
		}
		cfg := relay.DefaultConfig()
		cfg.RateLimit = 20
		_, stop := start(t, cfg, newRecorder(nil), queues...)
		time.Sleep(10 * time.Second)
		pulls, confirms := 0, 0
		for _, q := range all {
			p, c := q.Calls()
			require.Greater(t, p, 30, "every queue gets its share")
			pulls, confirms = pulls+p, confirms+c
		}
		require.InDelta(t, 200, pulls, 5)
		require.LessOrEqual(t, confirms, 205)
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestStop(t *testing.T) {
	bubble(t, "a poll held by an empty queue is cancelled at once", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		_, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		time.Sleep(2 * time.Second)
		took, err := stop()
		require.NoError(t, err)
		require.Zero(t, took)
	})
	bubble(t, "a young poll may still bring events, which are worked on", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 400 * time.Millisecond}
		q.PublishUploads(5)
		rec := newRecorder(nil)
		_, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(100 * time.Millisecond)
		took, err := stop()
		require.NoError(t, err)
		require.Zero(t, q.Unconfirmed())
		require.Less(t, took, 3*time.Second)
		promises(t, q, rec)
	})
	bubble(t, "work in hand is finished and confirmed", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 50 * time.Millisecond}
		q.PublishUploads(16)
		rec := newRecorder(func(context.Context, event.Delivery, int) error { time.Sleep(10 * time.Second); return nil })
		_, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(time.Second)
		before, _ := q.Calls()
		took, err := stop()
		require.NoError(t, err)
		require.Zero(t, q.Unconfirmed())
		require.InDelta(t, 9.3, took.Seconds(), 0.3)
		after, _ := q.Calls()
		require.Equal(t, before, after, "no pull after the stop")
		promises(t, q, rec)
	})
	bubble(t, "after the grace work is cancelled, and what was settled is confirmed", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(16)
		slow := q.Messages()[0].ID
		rec := newRecorder(func(ctx context.Context, d event.Delivery, _ int) error {
			if d.ID == slow {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		cfg := relay.DefaultConfig()
		cfg.StopGrace = 7 * time.Second
		_, stop := start(t, cfg, rec, q)
		synctest.Wait()
		took, err := stop()
		require.NoError(t, err)
		require.Equal(t, 7*time.Second, took)
		require.Equal(t, 1, q.Unconfirmed())
		promises(t, q, rec)
	})
	bubble(t, "a stop ends in time although confirms hang", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(16)
		rec := newRecorder(nil)
		r, err := relay.New(relay.DefaultConfig(), nil, rec, deaf{q})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		require.NoError(t, r.Run(ctx))
		require.Equal(t, 4500*time.Millisecond, time.Since(began)) // 2 s and the time to flush
		require.Equal(t, 16, q.Unconfirmed())
	})
	bubble(t, "all limits together hold", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(40)
		first := q.Messages()[0].ID
		rec := newRecorder(func(ctx context.Context, d event.Delivery, _ int) error {
			if d.ID == first {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		r, err := relay.New(relay.DefaultConfig(), nil, rec, deaf{q})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.NoError(t, r.Run(ctx))
		require.LessOrEqual(t, time.Since(began), time.Second+relay.StopLimit)
	})
}

// deaf is a queue whose confirms hang until they are cancelled.
type deaf struct{ *relaytest.Queue }

func (deaf) Confirm(ctx context.Context, _ []string) error {
	<-ctx.Done()
	return ctx.Err()
}
