package relay_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func drain(t *testing.T, ctx context.Context, h relay.Handler, sources ...relay.Source) (relay.Summary, error) {
	t.Helper()
	r, err := relay.New(relay.DefaultConfig(), nil, h, sources...)
	require.NoError(t, err)
	return r.Drain(ctx, relay.DrainOptions{})
}

func TestDrain(t *testing.T) {
	bubble(t, "ends when the queue is empty", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond}
		q.PublishUploads(1000)
		rec := newRecorder(nil)
		sum, err := drain(t, t.Context(), rec, q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, sum.Left)
		require.EqualValues(t, 1000, sum.Confirmed)
		require.Less(t, sum.Elapsed, 2*time.Second, "the polls that find the queue empty do not count")
		promises(t, q, rec)
	})
	bubble(t, "an empty queue takes two polls", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		sum, err := drain(t, t.Context(), newRecorder(nil), q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Equal(t, 10*time.Second, sum.Elapsed)
	})
	bubble(t, "several queues are drained each to its end", func(t *testing.T) {
		one, two := &relaytest.Queue{Hold: 5 * time.Second}, &relaytest.Queue{Hold: time.Second, Latency: time.Second}
		one.PublishUploads(10)
		two.PublishUploads(500)
		sum, err := drain(t, t.Context(), newRecorder(nil), one, two)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, one.Unconfirmed()+two.Unconfirmed())
	})
	bubble(t, "an event that fails once is waited for", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(40)
		id := q.Messages()[7].ID
		rec := newRecorder(func(_ context.Context, d event.Delivery, call int) error {
			if d.ID == id && call == 1 {
				return errDown
			}
			return nil
		})
		sum, err := drain(t, t.Context(), rec, q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, sum.Left)
		require.Zero(t, q.Unconfirmed())
	})
	bubble(t, "work that takes longer than the polls is waited for", func(t *testing.T) {
		q := &relaytest.Queue{Hold: time.Second}
		q.PublishUploads(1)
		rec := newRecorder(func(_ context.Context, _ event.Delivery, call int) error {
			time.Sleep(12 * time.Second)
			if call == 1 {
				return errDown
			}
			return nil
		})
		sum, err := drain(t, t.Context(), rec, q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, sum.Left)
		require.Zero(t, q.Unconfirmed())
	})
	bubble(t, "an event that fails twice is left, and the others are not held up", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(40)
		id := q.Messages()[7].ID
		rec := newRecorder(func(_ context.Context, d event.Delivery, _ int) error {
			if d.ID == id {
				return errDown
			}
			return nil
		})
		sum, err := drain(t, t.Context(), rec, q)
		require.NoError(t, err)
		require.False(t, sum.Empty)
		require.False(t, sum.Stopped)
		require.Equal(t, 1, sum.Left)
		require.Equal(t, 2, rec.handled[id])
		require.Equal(t, 1, q.Unconfirmed())
		require.Less(t, sum.Elapsed, 80*time.Second)
	})
	bubble(t, "a lost reply to a confirm leaves nothing", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(call int, _ []string) (bool, error) {
			if call == 1 {
				return true, errDown
			}
			return true, nil
		}}
		q.PublishUploads(16)
		began := time.Now()
		sum, err := drain(t, t.Context(), newRecorder(nil), q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, sum.Left)
		require.EqualValues(t, 16, sum.Confirmed)
		require.Less(t, sum.Elapsed, time.Second)
		require.Less(t, time.Since(began), 12*time.Second, "nothing is waited for that is gone")
	})
	bubble(t, "a confirm that never works leaves the events, worked on once", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) { return false, errDown }}
		q.PublishUploads(5)
		rec := newRecorder(nil)
		sum, err := drain(t, t.Context(), rec, q)
		require.NoError(t, err)
		require.Equal(t, 5, sum.Left)
		require.Equal(t, 5, rec.calls())
	})
	bubble(t, "a stop leaves what was unfinished", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(16)
		rec := newRecorder(func(ctx context.Context, _ event.Delivery, _ int) error { <-ctx.Done(); return ctx.Err() })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sum, err := drain(t, ctx, rec, q)
		require.NoError(t, err)
		require.False(t, sum.Empty)
		require.Equal(t, 16, sum.Left)
	})
	bubble(t, "pulls that keep failing end it", func(t *testing.T) {
		q := &relaytest.Queue{OnPull: func(int) error { return errDown }}
		sum, err := drain(t, t.Context(), newRecorder(nil), q)
		require.ErrorIs(t, err, errDown)
		require.False(t, sum.Empty)
		require.Greater(t, sum.Elapsed, 2*time.Minute)
		require.Less(t, sum.Elapsed, 4*time.Minute)
	})
	bubble(t, "a wrong configuration ends it at once", func(t *testing.T) {
		wrong := errors.New("wrong key")
		q := &relaytest.Queue{OnPull: func(int) error { return retry.Permanent(wrong) }}
		_, err := drain(t, t.Context(), newRecorder(nil), q)
		require.ErrorIs(t, err, wrong)
	})
}

func TestADrainStopsWhenNothingSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &endless{}
		rec := newRecorder(func(context.Context, event.Delivery, int) error { return errDown })
		sum, err := drain(t, t.Context(), rec, source)
		require.ErrorIs(t, err, relay.ErrTooManyLeft)
		require.False(t, sum.Empty)
		require.Greater(t, sum.Left, 10_000)
		require.Less(t, sum.Left, 12_000)
	})
}

// endless is a queue that never runs out of new events.
type endless struct{ oversized }

func (e *endless) Pull(ctx context.Context) ([]event.Delivery, error) {
	if err := retry.Sleep(ctx, 10*time.Millisecond); err != nil {
		return nil, err
	}
	out := make([]event.Delivery, event.MaxBatch)
	for i := range out {
		id := time.Now().String() + string(rune('a'+i))
		out[i] = event.Delivery{Event: event.Event{ID: id}, Handle: id, ReceivedAt: time.Now(), Deadline: time.Now().Add(event.LeaseTime)}
	}
	return out, nil
}
