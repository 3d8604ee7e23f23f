package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// A handle that is refused while its lease lasts was confirmed, if an attempt of ours had no reply: the event is
// forgotten, so that the next notification of the same content is sent. In any other case it may come again.
func TestARefusedHandle(t *testing.T) {
	lost := errors.New("connection reset")
	for _, c := range []struct {
		name      string
		onConfirm func(q *relaytest.Queue, call int) (applied bool, err error)
		confirmed int64 // of 16, within 25 s
		again     int   // of the 16 published again, how many are worked on
	}{
		{"the reply to an earlier attempt was lost", func(_ *relaytest.Queue, call int) (bool, error) {
			if call == 1 {
				return true, lost
			}
			return true, nil
		}, 16, 16},
		{"only the second attempt arrived, and its reply was lost", func(_ *relaytest.Queue, call int) (bool, error) {
			if call <= 2 {
				return call == 2, lost
			}
			return true, nil
		}, 16, 16},
		{"every reply is lost until the lease is over", func(_ *relaytest.Queue, call int) (bool, error) {
			return call == 1, lost
		}, 0, 0},
		{"the earlier attempt was refused and did nothing", func(q *relaytest.Queue, call int) (bool, error) {
			if call == 1 {
				return false, retry.NoEffect(errDown)
			}
			return false, fmt.Errorf("too late for the queue: %w", event.ErrStaleHandle)
		}, 0, 0},
		{"the first attempt is refused", func(*relaytest.Queue, int) (bool, error) {
			return false, fmt.Errorf("too late for the queue: %w", event.ErrStaleHandle)
		}, 0, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			q := &relaytest.Queue{Hold: 5 * time.Second}
			q.OnConfirm = func(call int, _ []string) (bool, error) { return c.onConfirm(q, call) }
			q.PublishUploads(16)
			rec := newRecorder(nil)
			r, stop := start(t, relay.DefaultConfig(), rec, q)
			time.Sleep(25 * time.Second)
			require.Equal(t, c.confirmed, r.Stats().Confirmed)
			time.Sleep(25 * time.Second)
			require.Equal(t, 16, rec.calls(), "none is worked on twice")
			for _, m := range q.Messages() {
				q.Publish(string(m.Content))
			}
			time.Sleep(time.Second)
			require.Equal(t, 16+c.again, rec.calls())
			_, err := stop()
			require.NoError(t, err)
		})
	}
}

// What an attempt without a reply means for a handle is known for each one, also when the batch is split
// afterwards because another handle is to blame.
func TestARefusedHandleAfterASplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		var stale atomic.Value
		stale.Store("")
		q.OnConfirm = func(call int, handles []string) (bool, error) {
			switch {
			case call == 1:
				return true, errors.New("connection reset")
			case slices.Contains(handles, stale.Load().(string)):
				return false, event.ErrStaleHandle
			}
			return true, nil
		}
		q.PublishUploads(16)
		rec := newRecorder(func(_ context.Context, d event.Delivery, _ int) error {
			if d.ID == q.Messages()[5].ID {
				time.Sleep(time.Second) // in a batch of its own, whose only attempt is refused
				stale.Store(d.Handle)
			}
			return nil
		})
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(25 * time.Second)
		require.EqualValues(t, 15, r.Stats().Confirmed)
		time.Sleep(25 * time.Second)
		require.EqualValues(t, 16, r.Stats().Confirmed)
		require.EqualValues(t, 1, r.Stats().Remembered)
		require.Equal(t, 16, rec.calls())
		require.Zero(t, q.Unconfirmed())
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
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(call int, _ []string) (bool, error) {
			if fail.Load() { // the first is carried out, and no reply arrives while the lease lasts
				return call == 1, errors.New("reply lost")
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

// keyed is a queue whose key may be replaced.
type keyed struct {
	*relaytest.Queue
	changed atomic.Pointer[chan struct{}] // nil: it stays as it is
}

func (k *keyed) CredentialChanged() <-chan struct{} {
	if changed := k.changed.Load(); changed != nil {
		return *changed
	}
	return nil
}

// Whatever the refusal of a key asks for, another key is tried at once. A confirm without one waits as long as its
// lease lasts, if there may be one.
func TestAnotherKeyIsTriedAtOnce(t *testing.T) {
	for name, refusal := range map[string]error{"wrong": retry.Permanent(errDown), "unknown": retry.After(errDown, 15*time.Second)} {
		synctest.Test(t, func(t *testing.T) {
			var wrong atomic.Bool
			refuse := func() error {
				if wrong.Load() {
					return retry.NoEffect(retry.KeyRefused(refusal))
				}
				return nil
			}
			q := &keyed{Queue: &relaytest.Queue{Hold: time.Second, OnPull: func(int) error { return refuse() },
				OnConfirm: func(int, []string) (bool, error) { err := refuse(); return err == nil, err }}}
			first, second := make(chan struct{}), make(chan struct{})
			q.changed.Store(&first)
			q.PublishUploads(16)
			rec := newRecorder(func(context.Context, event.Delivery, int) error {
				wrong.Store(true)
				time.Sleep(3 * time.Second)
				return nil
			})
			r, stop := start(t, relay.DefaultConfig(), rec, q)
			time.Sleep(25 * time.Second)
			require.Equal(t, 16, q.Unconfirmed(), name)
			wrong.Store(false)
			q.changed.Store(&second)
			close(first)
			time.Sleep(2 * time.Second)
			require.Zero(t, q.Unconfirmed(), name)
			q.PublishUploads(1)
			time.Sleep(2 * time.Second)
			require.EqualValues(t, 17, r.Stats().Received, name)
			time.Sleep(40 * time.Second)
			require.Equal(t, 1, q.Unconfirmed(), name)
			require.EqualValues(t, 1, r.Stats().Late, name)
			_, err := stop()
			require.NoError(t, err, "a key that pulled before is no reason to end")
		})
	}
}
