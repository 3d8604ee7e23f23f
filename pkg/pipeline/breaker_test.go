package pipeline

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
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

var threeTimes = BreakerConfig{Failures: 3, Open: 10 * time.Second}

// parked is a Parker in memory.
type parked struct {
	mu      sync.Mutex
	err     error
	puts    int
	tries   int
	parcels []event.Parcel
}

func (p *parked) Put(ctx context.Context, parcels ...event.Parcel) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.err != nil {
		return p.err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.puts++
	p.parcels = append(p.parcels, parcels...)
	return nil
}

func (p *parked) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *parked) all() []event.Parcel {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]event.Parcel(nil), p.parcels...)
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		s := &target{err: retry.WithHint(errors.New("refused"), "start it")}
		var recovered []string
		p, err := New(zap.New(core), nil, []Route{{Name: "site", Sink: s, Breaker: threeTimes}, {Name: "off", Sink: &target{}}},
			OnRecovered(func(sink string) { recovered = append(recovered, sink) }))
		require.NoError(t, err)
		e := delivery(t, upload).Event
		send := func() error { return p.Deliver(t.Context(), "site", e) }

		started := time.Now()
		for range 3 {
			require.True(t, p.Available("site"))
			require.EqualError(t, send(), "refused")
		}
		for range 3 { // open
			err := send()
			require.ErrorIs(t, err, retry.ErrNotTried)
			require.EqualError(t, err, "not tried: the target is down, its last error: refused")
			require.Equal(t, "start it", retry.Hint(err))
			require.False(t, retry.IsPermanent(err))
			require.Equal(t, 10*time.Second+time.Millisecond, retry.Delay(err))
		}
		require.Equal(t, 3, s.sends, "no attempt while open")
		require.False(t, p.Available("site"))
		require.Equal(t, started.Add(10*time.Second+time.Millisecond), p.RetryAt("site"))
		require.Equal(t, BreakerStats{"open", started}, p.Stats().Sinks[0].Breaker)
		require.Zero(t, p.Stats().Sinks[1].Breaker)
		require.True(t, p.Available("off"))
		require.True(t, p.Available("unknown"))

		for range 20 { // a probe each time, which fails
			time.Sleep(time.Until(p.RetryAt("site")))
			require.True(t, p.Available("site"))
			require.EqualError(t, send(), "refused")
			require.ErrorIs(t, send(), retry.ErrNotTried)
		}
		require.Equal(t, 23, s.sends)
		require.EqualValues(t, 23, p.Stats().Sinks[0].Attempts)

		s.set(nil)
		time.Sleep(time.Until(p.RetryAt("site")))
		require.Empty(t, recovered)
		require.NoError(t, send())
		require.Equal(t, []string{"site"}, recovered)
		require.Equal(t, "closed", p.Stats().Sinks[0].Breaker.State)
		for range 5 {
			require.NoError(t, send())
		}
		var messages []string
		for _, entry := range logs.All() {
			messages = append(messages, entry.Message)
		}
		require.Equal(t, []string{
			"sink does not accept an event",
			"sink is down: nothing is sent to it but one event at a time",
			"sending one event to find out whether the sink is back",
			"sink is back",
			"sink accepts events again",
		}, messages, "once each, however long it lasts")
		require.Equal(t, "start it", logs.All()[1].ContextMap()["hint"])
		require.InDelta(t, 210*time.Second, logs.All()[3].ContextMap()["lasted"], float64(time.Second))
	})
}

func TestBreakerCountsWhatTellsThatTheTargetIsDown(t *testing.T) {
	permanent := retry.Permanent(errors.New("not wanted"))
	tests := []struct {
		name string
		errs []error
		open bool
	}{
		{"failures in a row", []error{errDown, errDown, errDown}, true},
		{"not in a row", []error{errDown, errDown, nil, errDown, errDown}, false},
		{"permanent", []error{permanent, permanent, permanent, permanent}, false},
		{"a permanent one in between", []error{errDown, errDown, permanent, errDown, errDown}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &target{}
			p := build(t, nil, Route{Name: "site", Sink: s, Breaker: threeTimes})
			for _, err := range tt.errs {
				s.set(err)
				_ = p.Deliver(t.Context(), "site", event.Event{Raw: []byte("{}")})
			}
			require.Equal(t, !tt.open, p.Available("site"))
		})
	}
	t.Run("a permanent error of a probe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &target{err: errDown}
			p := build(t, nil, Route{Name: "site", Sink: s, Breaker: threeTimes})
			for range 3 {
				_ = p.Deliver(t.Context(), "site", event.Event{})
			}
			time.Sleep(11 * time.Second)
			s.set(permanent)
			require.Error(t, p.Deliver(t.Context(), "site", event.Event{}))
			require.Equal(t, "closed", p.Stats().Sinks[0].Breaker.State, "it answers")
		})
	})
	t.Run("our own stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := build(t, nil, Route{Name: "site", Sink: &target{delay: time.Minute}, Breaker: threeTimes})
			for range 5 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(8*time.Second, cancel)
				require.EqualError(t, p.Deliver(ctx, "site", event.Event{}), "context canceled")
			}
			require.True(t, p.Available("site"))
		})
	})
	t.Run("the end of a lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := build(t, nil, Route{Name: "site", Sink: &target{delay: time.Minute}, Breaker: threeTimes})
			for _, given := range []time.Duration{time.Second, 4 * time.Second, 4 * time.Second, 4 * time.Second} {
				ctx, cancel := context.WithTimeout(t.Context(), given)
				require.ErrorIs(t, p.Deliver(ctx, "site", event.Event{}), context.DeadlineExceeded)
				cancel()
			}
			require.True(t, p.Available("site"), "that was no fair trial")
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
				require.Error(t, p.Deliver(ctx, "site", event.Event{}))
				cancel()
			}
			require.False(t, p.Available("site"))
		})
	})
}

func TestBreakerLetsOneProbeThroughAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &target{err: errDown, delay: time.Second}
		p := build(t, nil, Route{Name: "site", Sink: s, Breaker: threeTimes})
		send := func() error { return p.Deliver(t.Context(), "site", event.Event{}) }
		for range 3 {
			_ = send()
		}
		time.Sleep(11 * time.Second)
		s.set(nil)
		var accepted, notTried atomic.Int64
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				switch err := send(); {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, retry.ErrNotTried):
					notTried.Add(1)
				}
			})
		}
		synctest.Wait()
		require.Equal(t, "half-open", p.Stats().Sinks[0].Breaker.State)
		require.False(t, p.Available("site"))
		all.Wait()
		require.EqualValues(t, 1, accepted.Load())
		require.EqualValues(t, 49, notTried.Load())
		require.Equal(t, 4, s.sends)

		// A probe that tells nothing makes room for another one.
		s.set(errDown)
		for range 3 {
			_ = send()
		}
		time.Sleep(11 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		require.ErrorIs(t, p.Deliver(ctx, "site", event.Event{}), context.Canceled)
		require.True(t, p.Available("site"))
		s.set(nil)
		require.NoError(t, send())
	})
}

// Events that wait for a place while the target goes down must not be sent one after the other when it has.
func TestBreakerIsAskedAfterTheWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &target{delay: time.Hour}
		store := &parked{}
		p, err := New(nil, nil, []Route{{Name: "site", Sink: s, Timeout: 10 * time.Second, Concurrency: 4, Breaker: threeTimes, Retry: retry.DefaultPolicy()}}, WithParking(store, ParkFailures))
		require.NoError(t, err)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				require.NoError(t, p.Handle(t.Context(), delivery(t, fmt.Sprintf(`{"EventType":"X","P":{"i":%d}}`, i))))
			})
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		require.GreaterOrEqual(t, len(store.all()), 98)
		all.Wait()
		require.LessOrEqual(t, s.sends, 6, "the first four, and two that got a place before the third had failed")
		require.Len(t, store.all(), 100)
		notTried := 0
		for _, parcel := range store.all() {
			if parcel.Attempts == 0 {
				notTried++
				require.Equal(t, parcel.Created, parcel.Next)
			}
		}
		require.GreaterOrEqual(t, notTried, 94)
	})
}

// Without a store, a short outage must not cost a redelivery: events wait for the target within their lease.
func TestBreakerWithoutParking(t *testing.T) {
	route := func(s Sink) Route {
		return Route{Name: "site", Sink: s, Timeout: 10 * time.Second, Concurrency: 64, Breaker: DefaultBreakerConfig(), Retry: retry.DefaultPolicy()}
	}
	t.Run("a blip", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &target{err: errDown}
			p := build(t, nil, route(s))
			time.AfterFunc(4*time.Second, func() { s.set(nil) })
			var all sync.WaitGroup
			for i := range 100 {
				time.Sleep(50 * time.Millisecond)
				all.Go(func() {
					require.NoError(t, p.Handle(t.Context(), delivery(t, fmt.Sprintf(`{"EventType":"X","P":{"i":%d}}`, i))))
				})
			}
			start := time.Now()
			all.Wait()
			require.Less(t, time.Since(start), 11*time.Second, "they go on as soon as the probe succeeds")
			require.Len(t, s.got, 100)
			require.Less(t, s.sends, 110)
			require.EqualValues(t, s.sends, p.Stats().Sinks[0].Attempts)
		})
	})
	t.Run("max_attempts counts attempts that were made", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &target{err: errDown}
			r := route(s)
			r.Retry.MaxAttempts = 7
			p := build(t, nil, r)
			time.AfterFunc(15*time.Second, func() { s.set(nil) })
			require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
			require.Equal(t, 7, s.sends, "five until it opened, and two probes")
		})
	})
	t.Run("longer than a lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &target{err: errDown}
			p := build(t, nil, route(s))
			start := time.Now()
			err := p.Handle(t.Context(), delivery(t, upload))
			require.Error(t, err)
			require.LessOrEqual(t, time.Since(start), event.LeaseTime)
			require.Less(t, s.sends, 9)
			require.Zero(t, p.Stats().Remembered)
		})
	})
	t.Run("a stop ends the wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := build(t, nil, route(&target{err: errDown}))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(7*time.Second, cancel)
			start := time.Now()
			require.Error(t, p.Handle(ctx, delivery(t, upload)))
			require.Equal(t, 7*time.Second, time.Since(start))
		})
	})
}

func TestBreakerConfig(t *testing.T) {
	require.NoError(t, DefaultBreakerConfig().Validate())
	require.NoError(t, BreakerConfig{}.Validate())
	require.EqualError(t, BreakerConfig{Failures: -1}.Validate(), "failures: -1: must be 0 (off) or more")
	require.EqualError(t, BreakerConfig{Failures: 1}.Validate(), "open: 0s: must be more than 0, such as 10s")
	_, err := New(nil, nil, []Route{{Name: "-", Sink: &target{}}, {Name: "a", Sink: &target{}, Breaker: BreakerConfig{Failures: 2}, Parcels: retry.Schedule{Initial: 2, Max: 1}}})
	require.EqualError(t, err, "sink -: this name stands for events that were not processed: choose another\n"+
		"sink a: breaker.open: 0s: must be more than 0, such as 10s\n"+
		"sink a: parcels.max: 1ns: must be at least initial (2ns)")
}
