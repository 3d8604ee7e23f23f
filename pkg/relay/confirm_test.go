package relay_test

import (
	"context"
	"errors"
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

func TestSingleEventsLingerIntoOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		rec := newRecorder(func(_ context.Context, _ event.Delivery, _ int) error { return nil })
		_, stop := start(t, relay.DefaultConfig(), rec, q)
		for range 4 {
			q.PublishUploads(1)
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		_, confirms := q.Calls()
		require.Equal(t, 1, confirms)
		require.Zero(t, q.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestConfirmsKeepTheRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(60)
		var turn atomic.Int64
		rec := newRecorder(func(context.Context, event.Delivery, int) error {
			time.Sleep(time.Duration(turn.Add(1)) * 50 * time.Millisecond) // each settles alone
			return nil
		})
		cfg := relay.DefaultConfig()
		cfg.RateLimit = 5
		_, stop := start(t, cfg, rec, q)
		time.Sleep(4 * time.Second)
		_, confirms := q.Calls()
		require.InDelta(t, 20, confirms, 2)
		time.Sleep(15 * time.Second)
		require.Zero(t, q.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestAFailedConfirmIsTriedAgainWithinTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(call int, _ []string) (bool, error) {
			if call <= 5 {
				return false, errDown
			}
			return true, nil
		}}
		q.PublishUploads(16)
		rec := newRecorder(nil)
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(20 * time.Second)
		require.Zero(t, q.Unconfirmed())
		require.EqualValues(t, 5, r.Stats().ConfirmErrors)
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
	})
}

func TestASettledEventIsConfirmedAtItsNextDeliveryWithoutWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) {
			if time.Since(began) < 45*time.Second {
				return false, errDown // longer than the first lease
			}
			return true, nil
		}}
		q.PublishUploads(16)
		rec := newRecorder(nil)
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(90 * time.Second)
		require.Zero(t, q.Unconfirmed())
		require.Equal(t, 16, rec.calls())
		require.EqualValues(t, 16, r.Stats().Remembered)
		require.EqualValues(t, 16, r.Stats().Confirmed)
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
	})
}

func TestAConfirmWhoseReplyIsLostIsNotWorkedOnTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(call int, _ []string) (bool, error) {
			if call == 1 {
				return true, errors.New("connection reset")
			}
			return true, nil
		}}
		q.PublishUploads(16)
		rec := newRecorder(nil)
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(2 * time.Minute)
		require.Zero(t, q.Unconfirmed())
		require.Equal(t, 16, rec.calls())
		require.EqualValues(t, 16, r.Stats().Refused, "the second attempt finds all handles used")
		require.Zero(t, r.Stats().InHand)
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestAStaleHandleCostsOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(16)
		odd := &replaced{Queue: q, id: q.Messages()[5].ID}
		rec := newRecorder(nil)
		r, stop := start(t, relay.DefaultConfig(), rec, odd)
		time.Sleep(10 * time.Second)
		require.Equal(t, 1, q.Unconfirmed())
		_, confirms := q.Calls()
		require.LessOrEqual(t, confirms, 9, "halving finds one of sixteen in nine calls")
		require.EqualValues(t, 1, r.Stats().Refused)
		time.Sleep(40 * time.Second)
		require.Zero(t, q.Unconfirmed())
		require.Equal(t, 16, rec.calls())
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
	})
}

// replaced gives one event a handle that does not confirm it, at its first delivery.
type replaced struct {
	*relaytest.Queue
	id   string
	done bool
}

func (r *replaced) Pull(ctx context.Context) ([]event.Delivery, error) {
	out, err := r.Queue.Pull(ctx)
	for i := range out {
		if out[i].ID == r.id && !r.done {
			out[i].Handle, r.done = "stale", true
		}
	}
	return out, err
}

func TestAConfirmThatIsForbiddenFromTheStartEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forbidden := errors.New("no right to confirm")
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) { return false, retry.Permanent(forbidden) }}
		q.PublishUploads(3)
		r, err := relay.New(relay.DefaultConfig(), nil, newRecorder(nil), q)
		require.NoError(t, err)
		require.ErrorIs(t, r.Run(t.Context()), forbidden)
	})
}

func TestASettledEventIsNotRememberedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Bool
		fail.Store(true)
		same := `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) {
			if fail.Load() {
				return true, errors.New("reply lost")
			}
			return true, nil
		}}
		q.Publish(same)
		rec := newRecorder(nil)
		_, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(time.Minute)
		require.Equal(t, 1, rec.calls())
		fail.Store(false)
		time.Sleep(11 * time.Minute)
		q.Publish(same) // another notification of the same content, long after
		time.Sleep(time.Minute)
		require.Equal(t, 2, rec.calls())
		require.Zero(t, q.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
}
