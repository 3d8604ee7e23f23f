package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// threeTimes opens after twelve failures at once.
var threeTimes = BreakerConfig{Failures: 3, Open: 10 * time.Second}

const atOnce = 3 * rush

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
		for range atOnce {
			require.True(t, p.Available("site"))
			require.EqualError(t, send(), "refused")
		}
		for range 3 { // open
			err := send()
			require.ErrorIs(t, err, retry.ErrNotTried)
			require.EqualError(t, err, "not tried: the target is down, its last error: refused")
			require.Equal(t, "start it", retry.Hint(err))
			require.False(t, retry.IsPermanent(err))
			require.Equal(t, 10*time.Second, retry.Delay(err))
		}
		require.Equal(t, atOnce, s.sends, "no attempt while open")
		require.False(t, p.Available("site"))
		require.Equal(t, started.Add(10*time.Second), p.RetryAt("site"))
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
		require.Equal(t, atOnce+20, s.sends)
		require.EqualValues(t, atOnce+20, p.Stats().Sinks[0].Attempts)
		require.Equal(t, BreakerStats{"open", started}, p.Stats().Sinks[0].Breaker, "down since then, whatever was tried")

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
			"sink is back",
			"sink accepts events again",
		}, messages, "once each, however long it lasts")
		down, back := logs.All()[1].ContextMap(), logs.All()[2].ContextMap()
		require.Equal(t, "start it", down["hint"])
		require.EqualValues(t, atOnce, down["failed"])
		require.EqualValues(t, atOnce, down["attempts"])
		require.Equal(t, 210*time.Second, back["lasted"])
		require.EqualValues(t, 1, back["accepted"])
		require.EqualValues(t, 20, back["failed_probes"])
	})
}

func TestBreakerCountsWhatTellsThatTheTargetIsDown(t *testing.T) {
	permanent := retry.Permanent(errors.New("not wanted"))
	eleven := slices.Repeat([]error{errDown}, atOnce-1)
	tests := []struct {
		name  string
		pause time.Duration // after each
		errs  []error
		open  bool
	}{
		{"failures in a row", 0, append(eleven, errDown), true},
		{"too few at once", 0, eleven, false},
		{"an accepted one in between", 0, slices.Concat(eleven, []error{nil}, eleven), false},
		{"few in a long time", time.Minute, []error{errDown, errDown, errDown}, true},
		{"too few in a long time", time.Minute, []error{errDown, errDown}, false},
		{"an accepted one in a long time", time.Minute, []error{errDown, errDown, nil, errDown, errDown}, false},
		{"refusals", 0, slices.Repeat([]error{permanent}, 100), false},
		{"refusals in between say nothing", 0, slices.Concat(eleven, []error{permanent, permanent, errDown}), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &target{}
				p := build(t, nil, Route{Name: "site", Sink: s, Breaker: threeTimes})
				began := time.Now()
				for i, err := range tt.errs {
					require.True(t, p.Available("site"), i)
					s.set(err)
					_ = p.Deliver(t.Context(), "site", event.Event{Raw: []byte("{}")})
					time.Sleep(tt.pause)
				}
				require.Equal(t, tt.open, p.Stats().Sinks[0].Breaker.State == "open")
				if tt.open {
					require.Equal(t, began, p.Stats().Sinks[0].Breaker.Since, "the first failure")
				}
			})
		})
	}
	t.Run("a refusal of a probe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &target{err: errDown}
			core, logs := observer.New(zapcore.InfoLevel)
			p, err := New(zap.New(core), nil, []Route{{Name: "site", Sink: s, Breaker: threeTimes}}, OnRecovered(func(string) { t.Error("that is no recovery") }))
			require.NoError(t, err)
			for range atOnce {
				_ = p.Deliver(t.Context(), "site", event.Event{})
			}
			time.Sleep(11 * time.Second)
			s.set(permanent)
			for range 10 {
				require.ErrorIs(t, p.Deliver(t.Context(), "site", event.Event{}), permanent, "the next probe comes at once")
			}
			require.Equal(t, "open", p.Stats().Sinks[0].Breaker.State, "it may be back or not")
			require.Empty(t, logs.FilterMessage("sink is back").All())
		})
	})
	t.Run("our own stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := build(t, nil, Route{Name: "site", Sink: &target{delay: time.Minute}, Breaker: threeTimes})
			for range 2 * atOnce {
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
			for range 6 { // within long enough a time for three to be enough
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second-1)
				require.ErrorIs(t, p.Deliver(ctx, "site", event.Event{}), context.DeadlineExceeded)
				cancel()
			}
			require.True(t, p.Available("site"), "that was no fair trial")
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				require.Error(t, p.Deliver(ctx, "site", event.Event{}))
				cancel()
			}
			require.False(t, p.Available("site"))
		})
	})
	t.Run("the end of a lease with the sink's own time limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := build(t, nil, Route{Name: "site", Sink: &target{delay: time.Minute}, Timeout: time.Second, Breaker: threeTimes})
			for range 11 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				require.Error(t, p.Deliver(ctx, "site", event.Event{}))
				cancel()
			}
			require.False(t, p.Available("site"), "it had all the time that it ever gets")
		})
	})
}

func TestBreakerLetsOneProbeThroughAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &target{err: errDown, delay: time.Second}
		p := build(t, nil, Route{Name: "site", Sink: s, Breaker: threeTimes})
		send := func() error { return p.Deliver(t.Context(), "site", event.Event{}) }
		trip := func() {
			for p.Available("site") {
				_ = send()
			}
		}
		trip()
		before := s.sends
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
		require.Equal(t, before+1, s.sends)

		// A probe that tells nothing makes room for another one.
		s.set(errDown)
		trip()
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
		time.Sleep(20*time.Second + time.Millisecond)
		synctest.Wait()
		require.GreaterOrEqual(t, len(store.all()), 96)
		all.Wait()
		require.LessOrEqual(t, s.sends, 12, "the first four and the four behind them; some got a place before that was enough")
		require.Len(t, store.all(), 100)
		notTried := 0
		for _, parcel := range store.all() {
			if parcel.Attempts == 0 {
				notTried++
				require.Equal(t, parcel.Created, parcel.Next)
			}
		}
		require.GreaterOrEqual(t, notTried, 88)
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
			require.Less(t, s.sends, 130)
			require.EqualValues(t, s.sends, p.Stats().Sinks[0].Attempts)
		})
	})
	t.Run("max_attempts counts attempts that were made", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &target{err: errDown}
			r := route(s)
			r.Breaker = BreakerConfig{Failures: 1, Open: 7 * time.Second}
			r.Retry.MaxAttempts = 6
			p := build(t, nil, r)
			time.AfterFunc(12*time.Second, func() { s.set(nil) })
			require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
			require.Equal(t, 6, s.sends, "four until it opened, and two probes")
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
			require.LessOrEqual(t, s.sends, 9)
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

// A reload that changes the route but not the sink must not forget that the target is down; another sink starts
// as one that is up, and so does one whose breaker changed.
func TestBreakerOverAReload(t *testing.T) {
	s, another := &target{err: errDown}, &target{}
	route := Route{Name: "site", Sink: s, Breaker: threeTimes}
	p := build(t, nil, route)
	for range atOnce {
		require.Equal(t, "closed", p.Stats().Sinks[0].Breaker.State)
		require.ErrorIs(t, p.Deliver(t.Context(), "site", event.Event{}), errDown)
	}
	changed := func(change func(*Route)) []Route {
		r := route
		change(&r)
		return []Route{r}
	}
	for _, c := range []struct {
		routes []Route
		state  string
	}{
		{changed(func(r *Route) { r.Timeout = time.Second }), "open"},
		{changed(func(r *Route) { r.When = condition(t, "true") }), "open"},
		{changed(func(r *Route) { r.Breaker.Open = time.Second }), "closed"},
		{changed(func(r *Route) { r.Sink = another }), "closed"},
	} {
		require.NoError(t, p.Replace(nil, c.routes))
		require.Equal(t, c.state, p.Stats().Sinks[0].Breaker.State)
	}
	require.NoError(t, p.Close(t.Context()))
}

// What was under way when a target was found down may still be accepted. If it began since the failures began, the
// target is up, and an outage of a moment is no news; if it began before, it says nothing.
func TestBreakerHearsWhatEndsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(threeTimes)
		attempt := func() uint64 {
			number, ok, _ := h.begin()
			require.True(t, ok)
			return number
		}
		old := attempt()
		failure := attempt()
		slow := attempt()
		require.Nil(t, h.end(failure, failed, errDown))
		for range atOnce - 1 {
			require.Nil(t, h.end(attempt(), failed, errDown), "one is under way: it may be a moment")
		}
		require.Equal(t, "open", h.stats().State)
		require.Nil(t, h.end(old, accepted, nil))
		require.Equal(t, "open", h.stats().State)
		news := h.end(slow, accepted, nil)
		require.True(t, news.up)
		require.Equal(t, 2, news.accepted, "the old one as well")
		require.False(t, news.told)
		require.Equal(t, "closed", h.stats().State)

		slow = attempt()
		for range atOnce - 1 {
			require.Nil(t, h.end(attempt(), failed, errDown))
		}
		news = h.end(attempt(), failed, errDown)
		require.False(t, news.up, "what is under way began before, so there is no doubt")
		require.Nil(t, h.end(slow, accepted, nil))
		require.Equal(t, "open", h.stats().State)

		h = newHealth(threeTimes)
		require.Nil(t, h.end(attempt(), failed, errDown))
		slow = attempt()
		for range atOnce - 1 {
			require.Nil(t, h.end(attempt(), failed, errDown))
		}
		news = h.end(slow, noVerdict, nil)
		require.NotNil(t, news, "nothing is under way any more that could end it")
		require.False(t, news.up)

		h = newHealth(threeTimes)
		require.Nil(t, h.end(attempt(), failed, errDown))
		attempt()
		for range atOnce - 1 {
			require.Nil(t, h.end(attempt(), failed, errDown))
		}
		time.Sleep(moment)
		_, ok, news := h.begin()
		require.False(t, ok)
		require.NotNil(t, news, "it has lasted for long enough")
	})
}

// A target is down from three quarters of failures on, of what began between the first and the last of them.
func TestBreakerCountsTheShareOfFailures(t *testing.T) {
	for span, state := range map[int]string{16: "open", 17: "closed"} { // 12 failures are needed at once
		synctest.Test(t, func(t *testing.T) {
			h := newHealth(threeTimes)
			var numbers []uint64
			for range 5 + span + 3 { // what began before and after them does not count
				number, _, _ := h.begin()
				numbers = append(numbers, number)
			}
			run := numbers[5 : 5+span]
			for i, number := range append(run[:11:11], run[span-1]) {
				require.Equal(t, "closed", h.stats().State, i)
				h.end(number, failed, errDown)
			}
			require.Equal(t, state, h.stats().State, span)
		})
	}
}
