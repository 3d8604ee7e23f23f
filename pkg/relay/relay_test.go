package relay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

func TestEveryEventIsHandledOnceAndConfirmedInFullBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond}
		q.PublishUploads(320)
		rec := newRecorder(nil)
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(10 * time.Second)
		require.Zero(t, q.Unconfirmed())
		require.Equal(t, 320, rec.calls())
		_, confirms := q.Calls()
		require.LessOrEqual(t, confirms, 320/event.MaxBatch+5)
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
		s := r.Stats()
		require.EqualValues(t, 320, s.Confirmed)
		require.EqualValues(t, 320, s.Settled)
		require.Zero(t, s.InHand)
		require.Zero(t, s.Pollers)
	})
}

func TestAFailedEventComesBackAloneAfterItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(16)
		poison := q.Messages()[3].ID
		var again atomic.Int64
		began := time.Now()
		rec := newRecorder(func(_ context.Context, d event.Delivery, call int) error {
			if d.ID == poison && call == 1 {
				return errDown
			}
			again.Store(int64(time.Since(began)))
			return nil
		})
		_, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(29 * time.Second)
		require.Equal(t, 1, q.Unconfirmed())
		time.Sleep(10 * time.Second)
		require.Zero(t, q.Unconfirmed())
		require.Equal(t, 17, rec.calls())
		require.InDelta(t, event.LeaseTime.Seconds(), time.Duration(again.Load()).Seconds(), 1)
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
	})
}

func TestAPanicIsAnErrorOfItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(3)
		bad := q.Messages()[0].ID
		rec := newRecorder(func(_ context.Context, d event.Delivery, _ int) error {
			if d.ID == bad {
				panic("a bug")
			}
			return nil
		})
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(time.Second)
		require.Equal(t, 1, q.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Stats().Unsettled)
	})
}

func TestPlacesBoundTheWorkInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: time.Millisecond}
		q.PublishUploads(500)
		rec := newRecorder(func(ctx context.Context, _ event.Delivery, _ int) error {
			<-ctx.Done() // a sink that is stuck
			return ctx.Err()
		})
		cfg := relay.DefaultConfig()
		cfg.MaxInHand = 64
		r, stop := start(t, cfg, rec, q)
		time.Sleep(20 * time.Second)
		require.Equal(t, 64, rec.mostAtOnce())
		require.EqualValues(t, 64, r.Stats().InHand)
		pulls, _ := q.Calls()
		require.Equal(t, 4, pulls, "no pull without room for its events")
		time.Sleep(200 * time.Second)
		require.Equal(t, 64, rec.mostAtOnce())
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
	})
}

func TestWorkEndsBeforeItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(1)
		left := make(chan time.Duration, 1)
		rec := newRecorder(func(ctx context.Context, d event.Delivery, call int) error {
			if call > 1 {
				return nil
			}
			<-ctx.Done()
			left <- time.Until(d.Deadline)
			return ctx.Err()
		})
		_, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(40 * time.Second)
		require.Equal(t, 4*time.Second, <-left)
		_, err := stop()
		require.NoError(t, err)
	})
}

// preparing is a handler that prepares its contexts.
type preparing struct {
	*recorder
	mu       sync.Mutex
	contexts map[context.Context]int // handled under each
	early    int                     // ends before the last of a reply was handled
	ended    int
}

func (p *preparing) Prepare(ctx context.Context) (context.Context, context.CancelFunc) {
	prepared, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contexts[prepared] = 0
	return prepared, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended++
		if p.contexts[prepared] != event.MaxBatch || prepared.Err() != nil {
			p.early++
		}
		cancel()
	}
}

func (p *preparing) Handle(ctx context.Context, d event.Delivery) error {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.contexts[ctx]++
	}()
	return p.recorder.Handle(ctx, d)
}

func TestAHandlerPreparesOnceForTheEventsOfAReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 10 * time.Millisecond}
		q.PublishUploads(10 * event.MaxBatch)
		h := &preparing{contexts: map[context.Context]int{}, recorder: newRecorder(func(_ context.Context, _ event.Delivery, _ int) error {
			time.Sleep(time.Second)
			return nil
		})}
		_, stop := start(t, relay.DefaultConfig(), h, q)
		time.Sleep(3 * time.Second)
		_, err := stop()
		require.NoError(t, err)
		require.Zero(t, q.Unconfirmed())
		require.Len(t, h.contexts, 10)
		require.Equal(t, 10, h.ended)
		require.Zero(t, h.early)
	})
}

func TestARedeliveryJoinsTheEventInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(1)
		rec := newRecorder(func(context.Context, event.Delivery, int) error {
			time.Sleep(40 * time.Second) // deaf to its context, and longer than a lease
			return nil
		})
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(45 * time.Second)
		require.Equal(t, 1, rec.calls())
		require.Zero(t, q.Unconfirmed(), "confirmed with the handle of the second delivery")
		require.EqualValues(t, 1, r.Stats().Joined)
		require.Zero(t, r.Stats().Late, "the handle that ran out is not tried")
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, rec)
	})
}

func TestTwoMessagesOfOneContentAreWorkedOnOnceAndBothConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		same := `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`
		q.Publish(same, same)
		rec := newRecorder(func(context.Context, event.Delivery, int) error {
			time.Sleep(time.Second)
			return nil
		})
		r, stop := start(t, relay.DefaultConfig(), rec, q)
		time.Sleep(5 * time.Second)
		require.Equal(t, 1, rec.calls())
		require.Zero(t, q.Unconfirmed())
		require.EqualValues(t, 1, r.Stats().Confirmed)
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestQueuesDoNotMixTheirEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &relaytest.Queue{Hold: 5 * time.Second}, &relaytest.Queue{Hold: 5 * time.Second}
		same := `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`
		one.Publish(same)
		two.Publish(same)
		rec := newRecorder(nil)
		_, stop := start(t, relay.DefaultConfig(), rec, one, two)
		time.Sleep(time.Second)
		require.Equal(t, 2, rec.calls())
		require.Zero(t, one.Unconfirmed()+two.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestAReplyWithMoreThanABatchIsWorkedOnWithinThePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &oversized{n: 100}
		rec := newRecorder(func(context.Context, event.Delivery, int) error { time.Sleep(10 * time.Millisecond); return nil })
		cfg := relay.DefaultConfig()
		cfg.MaxInHand = 32
		r, stop := start(t, cfg, rec, source)
		time.Sleep(10 * time.Second)
		_, err := stop()
		require.NoError(t, err)
		require.Equal(t, 100, rec.calls())
		require.LessOrEqual(t, rec.mostAtOnce(), 32)
		require.EqualValues(t, 100, r.Stats().Confirmed)
	})
}

// oversized answers its first pull with n events at once, which the API promises not to do.
type oversized struct {
	n    int
	done bool
}

func (o *oversized) Pull(ctx context.Context) ([]event.Delivery, error) {
	if o.done {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	o.done = true
	out := make([]event.Delivery, o.n)
	for i := range out {
		out[i] = event.Delivery{Event: event.Event{ID: fmt.Sprint(i)}, Handle: fmt.Sprint(i), ReceivedAt: time.Now(), Deadline: time.Now().Add(event.LeaseTime)}
	}
	return out, nil
}

func (o *oversized) Confirm(context.Context, []string) error { return nil }

func TestADeliveryWithoutHandleIsHandledAndNeverConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &handleless{}
		rec := newRecorder(nil)
		r, stop := start(t, relay.DefaultConfig(), rec, source)
		time.Sleep(time.Minute)
		_, err := stop()
		require.NoError(t, err)
		require.Equal(t, 1, rec.calls(), "the redelivery is remembered")
		require.Zero(t, source.confirms)
		require.Positive(t, r.Stats().Late)
	})
}

type handleless struct{ confirms int }

func (h *handleless) Pull(ctx context.Context) ([]event.Delivery, error) {
	if err := retry.Sleep(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	return []event.Delivery{{Event: event.Event{ID: "x"}, ReceivedAt: time.Now(), Deadline: time.Now().Add(event.LeaseTime)}}, nil
}

func (h *handleless) Confirm(context.Context, []string) error { h.confirms++; return nil }

func TestConfig(t *testing.T) {
	require.NoError(t, relay.DefaultConfig().Validate())
	bad := relay.Config{MaxInHand: 3, MaxBytesInHand: 1000, StopGrace: time.Minute, RateLimit: -1}
	for _, want := range []string{"max_in_hand: 3:", "max_bytes_in_hand: 1000:", "stop_grace: 1m0s:", "rate_limit: -1:"} {
		require.ErrorContains(t, bad.Validate(), want)
	}
	cfg := relay.DefaultConfig()
	cfg.MaxInHand = 32
	_, err := relay.New(cfg, nil, newRecorder(nil), &relaytest.Queue{}, &relaytest.Queue{})
	require.ErrorContains(t, err, "at least 64: 32 for each of 2 applications")
}

func TestARelayRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := start(t, relay.DefaultConfig(), newRecorder(nil), &relaytest.Queue{Hold: time.Second})
		synctest.Wait()
		require.ErrorContains(t, r.Run(t.Context()), "only once")
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestPullErrors(t *testing.T) {
	bubble(t, "permanent before the first success ends the run", func(t *testing.T) {
		wrong := errors.New("no such application")
		q := &relaytest.Queue{OnPull: func(int) error { return retry.Permanent(wrong) }}
		r, err := relay.New(relay.DefaultConfig(), nil, newRecorder(nil), q)
		require.NoError(t, err)
		require.ErrorIs(t, r.Run(t.Context()), wrong)
	})
	bubble(t, "permanent after a success is tried slowly", func(t *testing.T) {
		q := &relaytest.Queue{Hold: time.Second, OnPull: func(call int) error {
			if call > 1 && call < 5 {
				return retry.Permanent(errDown)
			}
			return nil
		}}
		r, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		time.Sleep(25 * time.Second)
		require.EqualValues(t, 1, r.Stats().PullErrors)
		time.Sleep(55 * time.Second)
		require.EqualValues(t, 3, r.Stats().PullErrors)
		q.PublishUploads(1)
		time.Sleep(20 * time.Second)
		require.Zero(t, q.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
	bubble(t, "transient ones are tried with growing waits and recover", func(t *testing.T) {
		q := &relaytest.Queue{Hold: time.Second, OnPull: func(call int) error {
			if call <= 8 {
				return errDown
			}
			return nil
		}}
		q.PublishUploads(40)
		_, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		time.Sleep(10 * time.Second)
		pulls, _ := q.Calls()
		require.LessOrEqual(t, pulls, 7)
		time.Sleep(5 * time.Minute)
		require.Zero(t, q.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
	bubble(t, "the time that the source names is waited for", func(t *testing.T) {
		q := &relaytest.Queue{Hold: time.Second, OnPull: func(call int) error {
			if call == 1 {
				return retry.After(errDown, time.Minute)
			}
			return nil
		}}
		_, stop := start(t, relay.DefaultConfig(), newRecorder(nil), q)
		time.Sleep(59 * time.Second)
		pulls, _ := q.Calls()
		require.Equal(t, 1, pulls)
		_, err := stop()
		require.NoError(t, err)
	})
	bubble(t, "one failing application does not stop the other", func(t *testing.T) {
		down := &relaytest.Queue{OnPull: func(int) error { return errDown }}
		good := &relaytest.Queue{Hold: 5 * time.Second}
		_, stop := start(t, relay.DefaultConfig(), newRecorder(nil), down, good)
		time.Sleep(time.Minute)
		good.PublishUploads(50)
		time.Sleep(2 * time.Second)
		require.Zero(t, good.Unconfirmed())
		_, err := stop()
		require.NoError(t, err)
	})
}

func TestWithoutSourcesTheSchedulerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, g := &relaytest.Parcels{}, &target{}
		put(t, store, 5, "site")
		r, err := relay.New(relay.DefaultConfig(), nil, newRecorder(nil))
		require.NoError(t, err)
		r.UseScheduler(relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site"}}), nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		pass(time.Hour)
		require.Len(t, g.accepted(), 5)
		require.Empty(t, ended)
		cancel()
		require.NoError(t, <-ended)
	})
}
