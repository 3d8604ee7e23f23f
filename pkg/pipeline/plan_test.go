package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// closable is a sink that counts.
type closable struct {
	took   time.Duration
	fail   bool
	sent   atomic.Int64
	closed atomic.Int64
}

func (c *closable) Send(ctx context.Context, _ event.Event) error {
	if err := retry.Sleep(ctx, c.took); err != nil {
		return err
	}
	if c.fail {
		return retry.Permanent(errors.New("refused"))
	}
	c.sent.Add(1)
	return nil
}

func (c *closable) Close(context.Context) error {
	c.closed.Add(1)
	return nil
}

func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := parse(t, bare)
		handle := func(p *Pipeline) error { return p.Handle(t.Context(), event.Delivery{Event: e}) }
		kept, slow, fresh := &closable{}, &closable{took: 20 * time.Second}, &closable{}
		routes := []Route{{Name: "kept", Sink: kept}, {Name: "slow", Sink: slow}}
		p, err := New(nil, nil, routes)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- handle(p) }()
		synctest.Wait()

		drop := ProcessorFunc(func(context.Context, event.Event) (event.Event, error) { return event.Event{}, ErrSkip })
		require.ErrorContains(t, p.Replace(nil, []Route{{Name: "kept", Sink: kept}, {Name: "kept", Sink: fresh}}), "two sinks have this name")
		require.ErrorContains(t, p.Replace(nil, []Route{{Name: "kept"}}), "there is nothing to send to")
		require.NoError(t, p.Replace([]Processor{drop}, []Route{routes[0]}))
		require.NoError(t, p.Replace(nil, []Route{routes[0], {Name: "fresh", Sink: fresh}}))
		began := time.Now()
		require.NoError(t, handle(p))
		require.Zero(t, time.Since(began), "what comes now does not wait for the slow sink")
		require.EqualValues(t, 1, fresh.sent.Load())
		require.EqualValues(t, 2, kept.sent.Load())
		stats := p.Stats()
		require.Len(t, stats.Sinks, 2)
		require.EqualValues(t, 2, stats.Sinks[0].Sent, "a route that stays keeps its counters")

		time.Sleep(19 * time.Second)
		require.Zero(t, slow.closed.Load(), "an event is on its way to it")
		time.Sleep(2 * time.Second)
		require.NoError(t, <-ended)
		synctest.Wait()
		require.EqualValues(t, 1, slow.sent.Load())
		require.EqualValues(t, 1, slow.closed.Load())
		require.Zero(t, kept.closed.Load())

		// The same sink under another policy: a new route, and the sink stays open.
		require.NoError(t, p.Replace(nil, []Route{{Name: "kept", Sink: kept, Concurrency: 3}, {Name: "fresh", Sink: fresh}}))
		require.NoError(t, handle(p))
		synctest.Wait()
		require.EqualValues(t, 1, p.Stats().Sinks[0].Sent)
		require.Zero(t, kept.closed.Load())
		require.NoError(t, p.Close(t.Context()))
		require.EqualValues(t, 1, kept.closed.Load())
		require.EqualValues(t, 1, fresh.closed.Load())
		require.EqualValues(t, 1, slow.closed.Load())
	})
}

// A sink that stays in the next plan and leaves in the one after is closed when the events of the first have
// ended.
func TestReplaceWaitsForEarlierPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, other := &closable{took: 20 * time.Second}, &closable{}
		routes := []Route{{Name: "slow", Sink: slow}}
		p, err := New(nil, nil, routes)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- p.Handle(t.Context(), event.Delivery{Event: parse(t, bare)}) }()
		synctest.Wait()
		require.NoError(t, p.Replace(nil, routes))
		require.NoError(t, p.Replace(nil, []Route{{Name: "other", Sink: other}}))
		time.Sleep(19 * time.Second)
		require.Zero(t, slow.closed.Load())
		require.NoError(t, <-ended)
		require.NoError(t, p.Close(t.Context()))
		require.EqualValues(t, 1, slow.closed.Load(), "Close waits for it, too")
	})
}

// TestReplaceForgetsNothing: which sinks accepted an event survives, whatever their order becomes.
func TestReplaceForgetsNothing(t *testing.T) {
	good, bad, other := &closable{}, &closable{fail: true}, &closable{}
	p, err := New(nil, nil, []Route{{Name: "good", Sink: good}, {Name: "bad", Sink: bad}})
	require.NoError(t, err)
	d := event.Delivery{Event: parse(t, bare)}
	require.Error(t, p.Handle(t.Context(), d))
	require.NoError(t, p.Replace(nil, []Route{{Name: "other", Sink: other}, {Name: "good", Sink: good}}))
	require.NoError(t, p.Handle(t.Context(), d))
	require.Equal(t, []int64{1, 1}, []int64{good.sent.Load(), other.sent.Load()})
	require.NoError(t, p.Close(t.Context()))
	require.EqualValues(t, 1, bad.closed.Load())
}

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type seen struct {
			sink string
			d    time.Duration
			err  error
		}
		var all []seen
		down := errors.New("down")
		sink := SinkFunc(func(ctx context.Context, _ event.Event) error {
			_ = retry.Sleep(ctx, time.Second)
			return down
		})
		p, err := New(nil, nil, []Route{{Name: "a", Sink: sink, Breaker: BreakerConfig{Failures: 1, Open: time.Hour}}},
			Observe(func(sink string, d time.Duration, err error) { all = append(all, seen{sink, d, err}) }),
			WithParking(parkerFunc(func(context.Context, ...event.Parcel) error { return nil }), ParkFailures))
		require.NoError(t, err)
		for range rush {
			require.NoError(t, p.Handle(t.Context(), event.Delivery{Event: parse(t, bare)}))
		}
		require.Len(t, all, rush)
		require.ErrorIs(t, all[0].err, down)
		require.Equal(t, "a", all[0].sink)
		require.Equal(t, time.Second, all[0].d)
		require.ErrorIs(t, p.Deliver(t.Context(), "a", parse(t, bare)), retry.ErrNotTried)
		require.Len(t, all, rush+1)
		require.ErrorIs(t, all[rush].err, retry.ErrNotTried)
		require.NoError(t, p.Close(t.Context()))
	})
}

type parkerFunc func(ctx context.Context, parcels ...event.Parcel) error

func (f parkerFunc) Put(ctx context.Context, parcels ...event.Parcel) error {
	return f(ctx, parcels...)
}

// Store parks whatever the mode is, also what could be sent at once.
func TestStore(t *testing.T) {
	var parked []event.Parcel
	park := parkerFunc(func(_ context.Context, parcels ...event.Parcel) error {
		parked = append(parked, parcels...)
		return nil
	})
	a, b := &closable{}, &closable{}
	p, err := New(nil, nil, []Route{{Name: "a", Sink: a}, {Name: "b", Sink: b, When: condition(t, `type == "Other"`)}}, WithParking(park, ParkFailures))
	require.NoError(t, err)
	d := event.Delivery{Event: parse(t, bare)}
	require.NoError(t, p.Store(t.Context(), d, time.Second))
	require.Len(t, parked, 1)
	require.Equal(t, "a", parked[0].Sink)
	require.Equal(t, event.ParcelWaiting, parked[0].State)
	require.Zero(t, a.sent.Load())
	require.NoError(t, p.Handle(t.Context(), d))
	require.EqualValues(t, 1, a.sent.Load())
	require.Len(t, parked, 1)

	without, err := New(nil, nil, []Route{{Name: "a", Sink: a}})
	require.NoError(t, err)
	require.NoError(t, without.Store(t.Context(), d, time.Second))
	require.EqualValues(t, 2, a.sent.Load())
}

// slowToClose is a sink whose Close takes its time, and fails with the end of its context unless it is deaf.
type slowToClose struct {
	closable
	takes time.Duration
	deaf  time.Duration // after the end of its context
}

func (s *slowToClose) Close(ctx context.Context) error {
	if err := retry.Sleep(ctx, s.takes); err != nil {
		time.Sleep(s.deaf)
		return fmt.Errorf("not written out: %w", err)
	}
	return s.closable.Close(ctx)
}

// A sink that was removed has 10 s to write out what it holds.
func TestARemovedSinkHasItsTimeToClose(t *testing.T) {
	for takes, closed := range map[time.Duration]int64{9 * time.Second: 1, 11 * time.Second: 0} {
		synctest.Test(t, func(t *testing.T) {
			core, logs := observer.New(zapcore.WarnLevel)
			s := &slowToClose{takes: takes}
			p, err := New(zap.New(core), nil, []Route{{Name: "gone", Sink: s}})
			require.NoError(t, err)
			require.NoError(t, p.Replace(nil, nil))
			began := time.Now()
			require.NoError(t, p.Close(t.Context()))
			require.Equal(t, min(takes, 10*time.Second), time.Since(began))
			require.Equal(t, closed, s.closed.Load())
			require.Len(t, logs.All(), int(1-closed), "what was not written out is reported")
		})
	}
}

// What a Close says at the end of its time counts; one that says nothing is left behind, and no other waits for it.
func TestCloseSinksEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		quick := &closable{}
		err := CloseSinks(ctx,
			Route{Name: "deaf", Sink: &slowToClose{takes: time.Minute, deaf: time.Hour}},
			Route{Name: "late", Sink: &slowToClose{takes: time.Minute, deaf: 50 * time.Millisecond}},
			Route{Name: "quick", Sink: quick})
		require.EqualError(t, err, "sink deaf: close: does not end: context deadline exceeded\n"+
			"sink late: close: not written out: context deadline exceeded")
		require.Equal(t, 1100*time.Millisecond, time.Since(began))
		require.EqualValues(t, 1, quick.closed.Load())
		time.Sleep(time.Hour) // for the goroutine that was left behind
	})
}
