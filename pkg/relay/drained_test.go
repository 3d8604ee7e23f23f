package relay_test

import (
	"context"
	"errors"
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
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// drainWith drains and returns how long it took in all, and the log.
func drainWith(t *testing.T, ctx context.Context, opts relay.DrainOptions, h relay.Handler, sources ...relay.Source) (sum relay.Summary, took time.Duration, logs *observer.ObservedLogs, err error) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	r, err := relay.New(relay.DefaultConfig(), zap.New(core), h, sources...)
	require.NoError(t, err)
	began := time.Now()
	sum, err = r.Drain(ctx, opts)
	return sum, time.Since(began), logs, err
}

const heldByOthers = "the queue is empty; waiting one lease for events that another consumer may hold"

// Nothing is left, and nothing else is called empty: whatever a pull may have leased is waited for.
func TestADrainWaitsForWhatPullsMayHaveLeased(t *testing.T) {
	for _, c := range []struct {
		name  string
		lost  error // of every fifth pull
		quiet time.Duration
	}{
		{"the proof of the default", errDown, relay.DefaultQuiet},
		{"and no more than two polls", errDown, 0},
		{"an error of the API's own that does not say what was done", errors.New("InternalError"), 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond, LosePull: func(call int) error {
				if call%5 == 3 {
					return c.lost
				}
				return nil
			}}
			q.PublishUploads(200)
			rec := newRecorder(nil)
			sum, _, _, err := drainWith(t, t.Context(), relay.DrainOptions{QuietFor: c.quiet}, rec, q)
			require.NoError(t, err)
			require.Zero(t, q.Unconfirmed())
			require.True(t, sum.Empty)
			require.EqualValues(t, 200, sum.Confirmed)
			promises(t, q, rec)
		})
	}
	bubble(t, "the only pull that leased anything", func(t *testing.T) {
		q := &relaytest.Queue{Hold: time.Second, LosePull: func(call int) error {
			if call == 1 {
				return errDown
			}
			return nil
		}}
		q.PublishUploads(16)
		sum, _, logs, err := drainWith(t, t.Context(), relay.DrainOptions{}, newRecorder(nil), q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, q.Unconfirmed())
		require.Len(t, logs.FilterMessageSnippet("events that may come back").All(), 1)
	})
	bubble(t, "polls of an empty queue fail all the time", func(t *testing.T) {
		q := &relaytest.Queue{OnPull: func(call int) error { // which says nothing of what was leased
			if call%5 == 3 {
				return errDown
			}
			return nil
		}}
		q.PublishUploads(200)
		sum, took, _, err := drainWith(t, t.Context(), relay.DefaultDrain(), newRecorder(nil), q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Less(t, took, 5*time.Minute)
	})
	bubble(t, "a pull that certainly did nothing is not waited for", func(t *testing.T) {
		q := &relaytest.Queue{Hold: time.Second, OnPull: func(call int) error {
			if call == 1 {
				return retry.NoEffect(errDown)
			}
			return nil
		}}
		q.PublishUploads(16)
		sum, took, _, err := drainWith(t, t.Context(), relay.DrainOptions{}, newRecorder(nil), q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Less(t, took, 5*time.Second)
	})
}

func TestADrainWaitsForWhatAnotherConsumerHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(100)
		for range 7 { // another consumer, which was killed
			_, err := q.Pull(t.Context())
			require.NoError(t, err)
		}
		rec := newRecorder(nil)
		sum, took, logs, err := drainWith(t, t.Context(), relay.DefaultDrain(), rec, q)
		require.NoError(t, err)
		require.Zero(t, q.Unconfirmed())
		require.True(t, sum.Empty)
		require.Less(t, sum.Elapsed, 31*time.Second, "the time to the last confirm")
		require.InDelta(t, 70, took.Seconds(), 6, "a lease until they are back, and one of quiet")
		require.Len(t, logs.FilterMessage(heldByOthers).All(), 1)
		promises(t, q, rec)
	})
	bubble(t, "an empty queue takes one lease", func(t *testing.T) {
		sum, took, _, err := drainWith(t, t.Context(), relay.DefaultDrain(), newRecorder(nil), &relaytest.Queue{Hold: 5 * time.Second})
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.GreaterOrEqual(t, took, relay.DefaultQuiet)
		require.LessOrEqual(t, took, relay.DefaultQuiet+10*time.Second)
	})
	bubble(t, "a stop meanwhile is no proof", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		sum, _, _, err := drainWith(t, ctx, relay.DefaultDrain(), newRecorder(nil), &relaytest.Queue{Hold: 5 * time.Second})
		require.NoError(t, err)
		require.False(t, sum.Empty)
		require.True(t, sum.Stopped)
	})
}

// A message comes back when its own lease ends, although another message of the same content was resolved after
// it: its confirm was tried longer, or it came back and was confirmed.
func TestADrainWaitsForTheLastLeaseOfAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same := `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`
		q := &relaytest.Queue{Hold: time.Second, OnConfirm: func(_ int, handles []string) (bool, error) {
			switch {
			case slices.Contains(handles, "handle-1"):
				return false, errDown // until its lease is over, at 30 s
			case slices.Contains(handles, "handle-2"):
				return false, event.ErrStaleHandle // at 20 s; its message comes back at 50 s
			}
			return true, nil
		}}
		q.Publish(same)
		time.AfterFunc(20*time.Second, func() { q.Publish(same) })
		sum, _, _, err := drainWith(t, t.Context(), relay.DrainOptions{}, newRecorder(nil), q)
		require.NoError(t, err)
		require.Zero(t, q.Unconfirmed())
		require.True(t, sum.Empty)
	})
}

// The pollers of a drain end by themselves: a poll that is cancelled may have leased events.
func TestTheEndOfADrainCancelsNoPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 50 * time.Millisecond}
		q.PublishUploads(1000)
		watched := &cancelled{Queue: q}
		sum, _, _, err := drainWith(t, t.Context(), relay.DrainOptions{}, newRecorder(nil), watched)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Greater(t, watched.most.Load(), int64(2), "several polls at a time")
		require.Zero(t, watched.count.Load())
	})
}

// cancelled counts the polls that were cancelled.
type cancelled struct {
	*relaytest.Queue
	now, most, count atomic.Int64
}

func (c *cancelled) Pull(ctx context.Context) ([]event.Delivery, error) {
	c.most.Store(max(c.most.Load(), c.now.Add(1)))
	defer c.now.Add(-1)
	deliveries, err := c.Queue.Pull(ctx)
	if ctx.Err() != nil {
		c.count.Add(1)
	}
	return deliveries, err
}

func TestADrainAsksHowManyEventsWait(t *testing.T) {
	const minute = time.Minute
	errRight := errors.New("UnauthorizedOperation")
	for _, c := range []struct {
		name    string
		depth   func(since time.Duration, app uint64) (uint64, error)
		quiet   time.Duration
		empty   bool
		counted uint64
		least   time.Duration
		most    time.Duration
	}{
		{"none", func(time.Duration, uint64) (uint64, error) { return 0, nil }, relay.DefaultQuiet, true, 0, 31 * time.Second, 45 * time.Second},
		{"a number that is late", func(since time.Duration, app uint64) (uint64, error) {
			if since < 2*minute && app == 2 {
				return 40, nil
			}
			return 0, nil
		}, relay.DefaultQuiet, true, 0, 2 * minute, 2*minute + 12*time.Second},
		{"a number that stays", func(_ time.Duration, app uint64) (uint64, error) { return 40 * app, nil }, relay.DefaultQuiet, false, 120, 3*minute + 30*time.Second, 4 * minute},
		{"nobody knows", func(time.Duration, uint64) (uint64, error) { return 0, errRight }, relay.DefaultQuiet, true, 0, 31 * time.Second, 45 * time.Second},
		{"nobody knows any more", func(since time.Duration, app uint64) (uint64, error) {
			if since < minute {
				return app, nil
			}
			return 0, errRight
		}, relay.DefaultQuiet, false, 3, 3*minute + 30*time.Second, 4 * minute},
		{"no time to wait for it", func(_ time.Duration, app uint64) (uint64, error) { return app, nil }, 0, false, 3, 0, 15 * time.Second},
	} {
		bubble(t, c.name, func(t *testing.T) {
			one := application{&relaytest.Queue{Hold: 5 * time.Second}, 1}
			two := application{&relaytest.Queue{Hold: 5 * time.Second}, 2}
			one.PublishUploads(20)
			began := time.Now()
			opts := relay.DrainOptions{QuietFor: c.quiet, Depth: func(_ context.Context, app uint64) (uint64, error) { return c.depth(time.Since(began), app) }}
			sum, took, logs, err := drainWith(t, t.Context(), opts, newRecorder(nil), one, two)
			require.NoError(t, err)
			require.Equal(t, c.empty, sum.Empty)
			require.Equal(t, c.counted, sum.Counted)
			require.False(t, sum.Stopped)
			require.Less(t, sum.Elapsed, time.Second)
			require.GreaterOrEqual(t, took, c.least)
			require.LessOrEqual(t, took, c.most)
			if _, err := c.depth(time.Hour, 1); err != nil {
				require.Len(t, logs.FilterMessageSnippet("cannot ask how many events wait").All(), 1)
			}
		})
	}
	bubble(t, "an event that is known to be left", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(1)
		opts := relay.DefaultDrain()
		opts.Depth = func(context.Context, uint64) (uint64, error) { return 1, nil }
		sum, took, _, err := drainWith(t, t.Context(), opts, newRecorder(func(context.Context, event.Delivery, int) error { return errDown }), q)
		require.NoError(t, err)
		require.Equal(t, 1, sum.Left)
		require.Zero(t, sum.Counted)
		require.False(t, sum.Empty)
		require.Less(t, took, 110*time.Second, "its two leases and one of quiet")
	})
}

func TestADrainOfAtMost(t *testing.T) {
	for _, queues := range []int{1, 3} {
		bubble(t, "some of many", func(t *testing.T) {
			var sources []relay.Source
			var all []*relaytest.Queue
			for range queues {
				q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond}
				q.PublishUploads(1000)
				all, sources = append(all, q), append(sources, q)
			}
			rec := newRecorder(func(context.Context, event.Delivery, int) error { time.Sleep(25 * time.Second); return nil })
			sum, took, _, err := drainWith(t, t.Context(), relay.DrainOptions{QuietFor: relay.DefaultQuiet, Max: 100}, rec, sources...)
			require.NoError(t, err)
			require.False(t, sum.Empty)
			require.True(t, sum.Stopped)
			require.Zero(t, sum.Left, "what is in hand is finished, however long it takes")
			require.GreaterOrEqual(t, sum.Confirmed, int64(100))
			require.Less(t, sum.Confirmed, int64(116))
			require.Less(t, took, 30*time.Second)
			for _, q := range all {
				for _, m := range q.Messages() {
					require.True(t, m.Confirmed || m.Deliveries == 0, "nothing is leased in addition")
				}
			}
		})
	}
	bubble(t, "fewer than that", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond}
		q.PublishUploads(99)
		sum, _, _, err := drainWith(t, t.Context(), relay.DrainOptions{Max: 100}, newRecorder(nil), q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.EqualValues(t, 99, sum.Confirmed)
	})
	bubble(t, "one, and pulls that fail", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, OnPull: func(call int) error {
			if call < 4 {
				return errDown
			}
			return nil
		}}
		q.PublishUploads(40)
		sum, _, _, err := drainWith(t, t.Context(), relay.DrainOptions{Max: 1}, newRecorder(nil), q)
		require.NoError(t, err)
		require.True(t, sum.Stopped)
		require.EqualValues(t, 16, sum.Confirmed)
	})
}

func TestADrainReportsThatEventsKeepArriving(t *testing.T) {
	for _, c := range []struct {
		name    string
		atStart uint64
		lines   int
	}{
		{"more than there were", 100, 4},
		{"as many as there were, late", 250, 1}, // one a second: reached after 250 s
	} {
		bubble(t, c.name, func(t *testing.T) {
			q := &relaytest.Queue{Hold: 5 * time.Second}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+30*time.Second)
			defer cancel()
			publish := time.AfterFunc(0, func() {
				for ctx.Err() == nil {
					q.PublishUploads(1)
					_ = retry.Sleep(ctx, time.Second)
				}
			})
			defer publish.Stop()
			opts := relay.DefaultDrain()
			opts.Depth = func(context.Context, uint64) (uint64, error) { return c.atStart, nil }
			sum, _, logs, err := drainWith(t, ctx, opts, newRecorder(nil), q)
			require.NoError(t, err)
			require.True(t, sum.Stopped)
			require.Len(t, logs.FilterMessageSnippet("events keep arriving").All(), c.lines)
			synctest.Wait()
		})
	}
}

// Nobody replaces a key while a drain waits; a daemon waits for it.
func TestAKeyThatIsRefused(t *testing.T) {
	wrong := retry.KeyRefused(retry.After(errors.New("SecretIdNotFound"), 15*time.Second))
	bubble(t, "ends a drain", func(t *testing.T) {
		q := &relaytest.Queue{OnPull: func(int) error { return wrong }}
		sum, took, _, err := drainWith(t, t.Context(), relay.DefaultDrain(), newRecorder(nil), q)
		require.ErrorIs(t, err, wrong)
		require.True(t, retry.IsPermanent(err))
		require.False(t, sum.Empty)
		require.Less(t, took, time.Second)
	})
	bubble(t, "does not end a daemon", func(t *testing.T) {
		var replaced atomic.Bool
		q := &relaytest.Queue{Hold: 5 * time.Second, OnPull: func(int) error {
			if replaced.Load() {
				return nil
			}
			return wrong
		}}
		q.PublishUploads(1)
		_, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		time.Sleep(time.Hour)
		replaced.Store(true)
		time.Sleep(time.Minute)
		require.Zero(t, q.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
	bubble(t, "that worked before ends a drain after its patience", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, OnPull: func(call int) error {
			if call > 1 {
				return wrong
			}
			return nil
		}}
		q.PublishUploads(1)
		_, took, _, err := drainWith(t, t.Context(), relay.DefaultDrain(), newRecorder(nil), q)
		require.ErrorIs(t, err, wrong)
		require.InDelta(t, 140, took.Seconds(), 25)
	})
}
