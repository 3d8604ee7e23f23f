package relay_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestDrainWorksOffTheStore(t *testing.T) {
	upload := func(n int) *relaytest.Queue {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(n)
		return q
	}
	bubble(t, "what is due is tried, what is not is left", func(t *testing.T) {
		store, site, q := &relaytest.Parcels{}, &sink{answer: takes(2 * time.Second)}, upload(20)
		put(t, store, 200, "site")
		later := parcel(1000, "site")
		later.Next = time.Now().Add(24 * time.Hour)
		dead := parcel(1001, "site")
		dead.State = event.ParcelDead
		require.NoError(t, store.Put(t.Context(), later, dead))
		route := siteRoute(site)
		route.Concurrency = 10
		w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{route}, q)
		sum, err := w.relay.Drain(t.Context(), relay.DrainOptions{})
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, q.Unconfirmed())
		require.EqualValues(t, []int64{1, 1}, []int64{sum.Waiting, sum.Dead})
		accepted, _, _ := site.stats()
		require.Equal(t, 220, accepted)
		require.Less(t, sum.Elapsed, 50*time.Second)
	})
	bubble(t, "a sink that is down is given a probe, no more", func(t *testing.T) {
		store, site, q := &relaytest.Parcels{}, &sink{answer: refuse}, upload(20)
		put(t, store, 200, "site")
		w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{siteRoute(site)}, q)
		sum, err := w.relay.Drain(t.Context(), relay.DrainOptions{})
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Zero(t, q.Unconfirmed())
		require.EqualValues(t, 220, sum.Waiting)
		require.Less(t, sum.Elapsed, time.Minute)
		_, sends, _ := site.stats()
		require.Less(t, sends, 80, "the first rush, and probes")
		require.Zero(t, store.Claimed())
	})
	bubble(t, "without a breaker each is tried once", func(t *testing.T) {
		store, site, q := &relaytest.Parcels{}, &sink{}, upload(0)
		put(t, store, 300, "site")
		began := time.Now()
		site.answer = func(ctx context.Context, e event.Event) error {
			if time.Since(began) < 9*time.Second {
				<-ctx.Done() // the polls of the empty queue take 10 s; until then nothing gets on
				return ctx.Err()
			}
			return errors.Join(retry.Sleep(ctx, 500*time.Millisecond), errDown)
		}
		route := siteRoute(site)
		route.Breaker, route.Concurrency, route.Timeout = pipeline.BreakerConfig{}, 4, 12*time.Second
		route.Parcels = retry.Schedule{Initial: time.Second, Max: time.Second} // due again long before the end
		w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{route}, q)
		sum, err := w.relay.Drain(t.Context(), relay.DrainOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 300, sum.Waiting)
		_, sends, _ := site.stats()
		require.InDelta(t, 304, sends, 8)
	})
	bubble(t, "a sink that comes back gets everything", func(t *testing.T) {
		store, site, q := &relaytest.Parcels{}, &sink{answer: refuse}, upload(20)
		put(t, store, 200, "site")
		time.AfterFunc(15*time.Second, func() { site.set(nil) })
		w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{siteRoute(site)}, q)
		sum, err := w.relay.Drain(t.Context(), relay.DrainOptions{})
		require.NoError(t, err)
		require.Zero(t, sum.Waiting)
		accepted, _, _ := site.stats()
		require.Equal(t, 220, accepted)
	})
	bubble(t, "a probe that is refused says nothing: the next one is tried", func(t *testing.T) {
		store, site, q := &relaytest.Parcels{}, &sink{}, upload(0)
		put(t, store, 200, "site")
		back, refused := time.Now().Add(10*time.Second), atomic.Bool{} // when the queue is empty, after two polls
		site.answer = func(context.Context, event.Event) error {
			switch {
			case time.Now().Before(back):
				return errDown
			case refused.CompareAndSwap(false, true):
				return retry.Permanent(errDown)
			}
			return nil
		}
		w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{siteRoute(site)}, q)
		sum, err := w.relay.Drain(t.Context(), relay.DrainOptions{})
		require.NoError(t, err)
		require.EqualValues(t, []int64{0, 1}, []int64{sum.Waiting, sum.Dead})
	})
	bubble(t, "confirm: stored", func(t *testing.T) {
		store, site, q := &relaytest.Parcels{}, &sink{answer: takes(time.Minute)}, upload(100)
		cfg := relay.DefaultConfig()
		cfg.Confirm = relay.ConfirmStored
		route := siteRoute(site)
		route.Timeout, route.Concurrency = time.Hour, 10
		w := assemble(t, cfg, nil, store, nil, []pipeline.Route{route}, q)
		sum, err := w.relay.Drain(t.Context(), relay.DrainOptions{})
		require.NoError(t, err)
		require.Zero(t, sum.Waiting)
		require.Less(t, sum.Elapsed, 11*time.Minute)
	})
	bubble(t, "a stop ends it", func(t *testing.T) {
		store, site := &relaytest.Parcels{}, &sink{answer: takes(time.Second)}
		put(t, store, 1000, "site")
		route := siteRoute(site)
		route.Concurrency = 1
		w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{route}, upload(0))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		sum, err := w.relay.Drain(ctx, relay.DrainOptions{})
		require.NoError(t, err)
		require.InDelta(t, 940, sum.Waiting, 5)
		require.Less(t, sum.Elapsed, 63*time.Second)
		require.Zero(t, store.Claimed())
	})
	bubble(t, "a store that is down ends it", func(t *testing.T) {
		var broken atomic.Bool
		store := &relaytest.Parcels{Fault: func(context.Context, string) error {
			if broken.Load() {
				return errDown
			}
			return nil
		}}
		put(t, store, 10, "site")
		broken.Store(true)
		w := assemble(t, relay.DefaultConfig(), nil, store, nil, []pipeline.Route{siteRoute(&sink{})}, upload(0))
		sum, err := w.relay.Drain(t.Context(), relay.DrainOptions{})
		require.ErrorIs(t, err, errDown)
		require.ErrorContains(t, err, "count what is left in the store")
		require.Less(t, sum.Elapsed, 3*time.Minute)
	})
}

func TestConfirmConfig(t *testing.T) {
	cfg := relay.DefaultConfig()
	for _, good := range []string{"", relay.ConfirmHandled, relay.ConfirmStored} {
		cfg.Confirm = good
		require.NoError(t, cfg.Validate())
	}
	cfg.Confirm = "never"
	require.EqualError(t, cfg.Validate(), `confirm: "never": must be handled or stored`)
}
