package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// target is what parcels are delivered to; a test decides its answers.
type target struct {
	mu     sync.Mutex
	answer func(ctx context.Context, sink string, e event.Event) error
	got    []string // event IDs that were accepted, in their order
	at     map[string]time.Time
	tries  []time.Time // all calls
	now    int
	most   int
}

func (g *target) deliver(ctx context.Context, sink string, e event.Event) error {
	g.mu.Lock()
	g.tries = append(g.tries, time.Now())
	g.now++
	g.most = max(g.most, g.now)
	g.mu.Unlock()
	var err error
	if g.answer != nil {
		err = g.answer(ctx, sink, e)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now--
	if err == nil {
		g.got = append(g.got, e.ID)
		if g.at == nil {
			g.at = map[string]time.Time{}
		}
		g.at[e.ID] = time.Now()
	}
	return err
}

func (g *target) accepted() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.got)
}

func (g *target) tried() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.tries)
}

func parcel(n int, sink string) event.Parcel {
	now := time.Now()
	return event.Parcel{
		Event: event.Event{ID: fmt.Sprintf("%06d", n), Type: "X", Raw: []byte("{}")}, Sink: sink,
		State: event.ParcelWaiting, Next: now, Created: now, Updated: now,
	}
}

func put(t *testing.T, store *relaytest.Parcels, n int, sink string) {
	t.Helper()
	for i := range n {
		require.NoError(t, store.Put(t.Context(), parcel(i, sink)))
	}
}

// schedule runs a scheduler inside a bubble and returns the function that stops it and returns how long
// that took.
func schedule(t *testing.T, s *relay.Scheduler) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return func() time.Duration {
		began := time.Now()
		cancel()
		require.NoError(t, <-ended)
		return time.Since(began)
	}
}

// pass lets time go by, and whatever happens then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func sleeping(d time.Duration) func(context.Context, string, event.Event) error {
	return func(ctx context.Context, _ string, _ event.Event) error { return retry.Sleep(ctx, d) }
}

func TestSchedulerWorksOffABacklogInOrderAtItsConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 1000, "site")
		g := &target{answer: sleeping(100 * time.Millisecond)}
		s := relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 10}})
		began := time.Now()
		stop := schedule(t, s)
		pass(9 * time.Second)
		require.NotEmpty(t, store.All())
		pass(1200 * time.Millisecond)
		require.Empty(t, store.All())
		require.Equal(t, 10, g.most)
		require.Len(t, g.accepted(), 1000)
		last := time.Time{}
		for i := 0; i < 1000; i += 10 { // within the ten at a time any order will do
			require.False(t, g.at[fmt.Sprintf("%06d", i)].Before(last))
			last = g.at[fmt.Sprintf("%06d", i+9)]
		}
		require.Less(t, last.Sub(began), 10100*time.Millisecond)
		require.EqualValues(t, 1000, s.Stats().Delivered)
		require.Zero(t, stop())
	})
}

func TestSchedulerLanesDoNotHoldEachOtherUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 20, "slow")
		put(t, store, 20, "good")
		g := &target{answer: func(ctx context.Context, sink string, _ event.Event) error {
			if sink == "slow" {
				return retry.Sleep(ctx, time.Hour)
			}
			return nil
		}}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "slow"}, {Sink: "good"}}))
		pass(time.Second)
		require.Len(t, g.accepted(), 20)
		require.Len(t, store.All(), 20)
		require.LessOrEqual(t, stop(), relay.MaxStopGrace)
	})
}

func TestSchedulerOneSlowParcelDoesNotHoldItsLaneUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 1000, "site")
		g := &target{answer: func(ctx context.Context, _ string, e event.Event) error {
			if e.ID == "000000" {
				return retry.Sleep(ctx, time.Minute)
			}
			return retry.Sleep(ctx, 10*time.Millisecond)
		}}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 8, Timeout: 2 * time.Minute}}))
		pass(3 * time.Second)
		require.Len(t, store.All(), 1)
		pass(time.Minute)
		require.Empty(t, store.All())
		stop()
	})
}

func TestSchedulerBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 1, "site")
		var up atomic.Bool
		g := &target{answer: func(context.Context, string, event.Event) error {
			if !up.Load() {
				return errDown
			}
			return nil
		}}
		policy := retry.Schedule{Initial: time.Second, Max: time.Minute}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Policy: policy}}))
		pass(time.Hour)
		tries := g.tried()
		require.Greater(t, tries, 60, "about one in 30 s")
		require.Less(t, tries, 240)
		all := store.All()
		require.Equal(t, tries, all[0].Attempts)
		require.Equal(t, "target is down", all[0].FirstError)
		require.Equal(t, event.ParcelWaiting, all[0].State)
		up.Store(true)
		pass(time.Minute)
		require.Empty(t, store.All())
		stop()
	})
}

func TestSchedulerDeadLetters(t *testing.T) {
	tests := []struct {
		name   string
		policy retry.Schedule
		err    error
		text   string
		tries  int
	}{
		{"permanent", retry.Schedule{}, retry.Permanent(errors.New("not wanted")), "not wanted", 1},
		{"max_attempts", retry.Schedule{Initial: time.Second, Max: time.Second, MaxAttempts: 4}, errDown, "given up at attempt 4: target is down", 4},
		{"max_age", retry.Schedule{Initial: time.Hour, Max: time.Hour, MaxAge: time.Minute}, errDown, "given up after 1m0s: target is down", 0},
		{"long", retry.Schedule{}, retry.Permanent(errors.New(strings.Repeat("x", 5000))), strings.Repeat("x", event.MaxParcelError-3) + "...", 1},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			store := &relaytest.Parcels{}
			put(t, store, 3, "site")
			var cured atomic.Bool
			g := &target{answer: func(_ context.Context, _ string, e event.Event) error {
				if e.ID == "000001" && !cured.Load() {
					return tt.err
				}
				return nil
			}}
			s := relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Policy: tt.policy}})
			stop := schedule(t, s)
			pass(24 * time.Hour)
			require.Equal(t, []string{"000000", "000002"}, g.accepted(), "the others are not held up")
			all := store.All()
			require.Len(t, all, 1)
			require.Equal(t, event.ParcelDead, all[0].State)
			require.Equal(t, tt.text, all[0].LastError)
			if tt.tries > 0 {
				require.Equal(t, tt.tries, all[0].Attempts)
			}
			require.EqualValues(t, 1, s.Stats().Dead)
			cured.Store(true)
			store.Replay(all[0].Key())
			pass(time.Minute) // found although nobody told
			require.Empty(t, store.All())
			stop()
		})
	}
}

func TestSchedulerWakesForNewParcels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		g := &target{}
		s := relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site"}})
		stop := schedule(t, s)
		pass(10*time.Minute + 7*time.Second)
		put(t, store, 1, "site")
		s.Wake("site")
		s.Wake("unknown")
		synctest.Wait()
		require.Len(t, g.accepted(), 1)

		late := parcel(7, "site")
		late.Next = time.Now().Add(13 * time.Second)
		require.NoError(t, store.Put(t.Context(), late))
		s.Wake("site")
		pass(13*time.Second + time.Millisecond)
		require.Len(t, g.accepted(), 2, "at its time")
		stop()
	})
}

// An idle lane must not cost much.
func TestSchedulerIdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := map[string]int{}
		var mu sync.Mutex
		store := &relaytest.Parcels{Fault: func(_ context.Context, method string) error {
			mu.Lock()
			defer mu.Unlock()
			calls[method]++
			return nil
		}}
		s := relay.NewScheduler(nil, store, (&target{}).deliver, []relay.Lane{{Sink: "site"}})
		stop := schedule(t, s)
		pass(time.Hour)
		require.InDelta(t, 120, calls["Claim"], 5)
		for range 1000 { // many wakes at once
			s.Wake("site")
			pass(time.Millisecond)
		}
		require.InDelta(t, 140, calls["Claim"], 6)
		stop()
	})
}

// breaker is a target that is down for some time, as the pipeline tells it.
type breaker struct {
	mu      sync.Mutex
	until   time.Time // the target is down
	probeAt time.Time // when the next attempt may be made; zero: not open
	probing bool
	probes  []time.Time
	atOnce  int
}

func (b *breaker) answer(ctx context.Context, _ string, _ event.Event) error {
	b.mu.Lock()
	now := time.Now()
	if !b.probeAt.IsZero() && (now.Before(b.probeAt) || b.probing) {
		b.atOnce++
		wait := max(b.probeAt.Sub(now), time.Second)
		b.mu.Unlock()
		return retry.After(fmt.Errorf("%w: down", retry.ErrNotTried), wait)
	}
	b.probing = !b.probeAt.IsZero()
	if b.probing {
		b.probes = append(b.probes, now)
	}
	b.mu.Unlock()
	err := retry.Sleep(ctx, 100*time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if time.Now().Before(b.until) {
		b.probeAt = time.Now().Add(10 * time.Second)
		return errDown
	}
	b.probeAt = time.Time{}
	return err
}

func TestSchedulerProbesASinkThatIsDownOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 500, "site")
		b := &breaker{until: time.Now().Add(time.Hour)}
		g := &target{answer: b.answer}
		policy := retry.Schedule{Initial: 100 * time.Hour, Max: 100 * time.Hour}
		s := relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 16, Policy: policy}})
		stop := schedule(t, s)
		pass(59 * time.Minute)
		require.InDelta(t, 350, len(b.probes), 15, "one in 10.1 s")
		require.Less(t, b.atOnce, 800, "what was not tried: the first rush, then at most one for each probe")
		require.LessOrEqual(t, store.Claimed(), 1)
		pass(time.Minute + 11*time.Second)
		// 500 at 160 a second
		pass(4 * time.Second)
		require.Empty(t, store.All(), "those that had failed are not left to their backoff")
		require.Len(t, g.accepted(), 500)
		stop()
	})
}

func TestSchedulerIsToldThatASinkRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		for i := range 50 {
			p := parcel(i, "site")
			p.Next = time.Now().Add(time.Hour)
			require.NoError(t, store.Put(t.Context(), p))
		}
		g := &target{answer: sleeping(10 * time.Millisecond)}
		s := relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 4}})
		stop := schedule(t, s)
		pass(time.Minute)
		require.Empty(t, g.accepted())
		s.Recovered("site")
		pass(time.Second)
		require.Len(t, g.accepted(), 50)
		require.ElementsMatch(t, []string{"000000", "000001", "000002", "000003"}, g.accepted()[:4])
		stop()
	})
}

// A parcel that finds no place among new events is no sign that the sink is down.
func TestSchedulerWithABusySink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 8, "site")
		var free atomic.Bool
		g := &target{answer: func(context.Context, string, event.Event) error {
			if !free.Load() {
				return fmt.Errorf("%w: no place", retry.ErrNotTried)
			}
			return retry.Sleep(t.Context(), time.Second)
		}}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 8}}))
		pass(9500 * time.Millisecond)
		require.Equal(t, 80, g.tried(), "all of them, once in a second")
		require.Zero(t, store.All()[0].Attempts)
		free.Store(true)
		pass(2100 * time.Millisecond)
		require.Empty(t, store.All())
		stop()
	})
}

func TestSchedulerStops(t *testing.T) {
	bubble(t, "what is in flight is finished", func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 100, "site")
		g := &target{answer: sleeping(3 * time.Second)}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 16}}))
		pass(time.Second)
		require.Equal(t, 2*time.Second, stop())
		require.Len(t, store.All(), 84)
		require.Zero(t, store.Claimed())
	})
	bubble(t, "what does not end is given back", func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 100, "site")
		g := &target{answer: sleeping(time.Hour)}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 16}}))
		pass(time.Second)
		require.Equal(t, 16, store.Claimed())
		require.Equal(t, relay.MaxStopGrace, stop())
		require.Len(t, store.All(), 100)
		require.Zero(t, store.Claimed())
		for _, p := range store.All() {
			require.Zero(t, p.Attempts, "our own stop is not the target's failure")
		}
		// The next one goes on at once.
		g.answer = nil
		stop = schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 16}}))
		pass(time.Second)
		require.Empty(t, store.All())
		stop()
	})
	bubble(t, "a claim that comes while stopping is given back", func(t *testing.T) {
		store := &relaytest.Parcels{}
		store.Fault = func(_ context.Context, method string) error {
			if method == "Claim" {
				time.Sleep(time.Second)
			}
			return nil
		}
		put(t, store, 10, "site")
		store2 := &ignoresContext{store}
		g := &target{}
		stop := schedule(t, relay.NewScheduler(nil, store2, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 16}}))
		pass(500 * time.Millisecond)
		require.Equal(t, 500*time.Millisecond, stop())
		require.Zero(t, store.Claimed())
		require.Len(t, store.All(), 10)
		require.Empty(t, g.tries)
	})
	bubble(t, "a store that is down does not hold it up", func(t *testing.T) {
		var broken atomic.Bool
		store := &relaytest.Parcels{}
		store.Fault = func(context.Context, string) error {
			if broken.Load() {
				return errDown
			}
			return nil
		}
		put(t, store, 10, "site")
		g := &target{answer: sleeping(time.Second)}
		core, logs := observer.New(zapcore.ErrorLevel)
		stop := schedule(t, relay.NewScheduler(zap.New(core), store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 16}}))
		pass(500 * time.Millisecond)
		broken.Store(true)
		require.LessOrEqual(t, stop(), 2*time.Second)
		require.NotEmpty(t, logs.FilterMessageSnippet("could not record the last attempts").All())
	})
}

// ignoresContext is a store that finishes a claim although its context has ended.
type ignoresContext struct{ *relaytest.Parcels }

func (i *ignoresContext) Claim(ctx context.Context, sink string, limit int, hold time.Duration) ([]event.Parcel, error) {
	return i.Parcels.Claim(context.WithoutCancel(ctx), sink, limit, hold)
}

func TestSchedulerWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		broken := ""
		set := func(method string) { mu.Lock(); broken = method; mu.Unlock() }
		store := &relaytest.Parcels{}
		store.Fault = func(_ context.Context, method string) error {
			mu.Lock()
			defer mu.Unlock()
			if broken == "all" || broken == method {
				return errDown
			}
			return nil
		}
		put(t, store, 1000, "site")
		g := &target{answer: sleeping(10 * time.Millisecond)}
		core, logs := observer.New(zapcore.InfoLevel)
		s := relay.NewScheduler(zap.New(core), store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 10}})
		stop := schedule(t, s)
		for _, method := range []string{"all", "Complete", "Claim", "NextDue"} {
			pass(100 * time.Millisecond)
			set(method)
			pass(10 * time.Minute)
			set("")
			pass(16 * time.Second) // the longest pause is 15 s, with its jitter up to 22
		}
		pass(time.Minute)
		require.Empty(t, store.All())
		ids := map[string]bool{}
		for _, id := range g.accepted() {
			ids[id] = true
		}
		require.Len(t, ids, 1000)
		require.Less(t, len(g.accepted()), 1020, "what was accepted and could not be recorded before its claim ran out is not sent again")
		require.NotZero(t, s.Stats().StoreErrors)
		require.Less(t, s.Stats().StoreErrors, int64(400))
		require.LessOrEqual(t, len(logs.FilterMessageSnippet("the store fails").All()), 4, "one message for each outage")
		require.NotEmpty(t, logs.FilterMessage("the store works again").All())
		stop()
	})
}

func TestSchedulerSurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 5, "site")
		g := &target{answer: func(_ context.Context, _ string, e event.Event) error {
			if e.ID == "000002" {
				panic("a bug")
			}
			return nil
		}}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site"}}))
		pass(time.Second)
		require.Len(t, g.accepted(), 4)
		require.Equal(t, "the delivery panicked: a bug", store.All()[0].LastError)
		stop()
	})
}

// Two replicas share the work, and one takes over what the other left behind.
func TestSchedulersShareAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 100, "site")
		var mu sync.Mutex
		working := map[string]int{}
		answer := func(d time.Duration) func(context.Context, string, event.Event) error {
			return func(ctx context.Context, _ string, e event.Event) error {
				mu.Lock()
				working[e.ID]++
				if working[e.ID] > 1 {
					t.Errorf("event %s is worked on by two at once", e.ID)
				}
				mu.Unlock()
				defer func() {
					mu.Lock()
					working[e.ID]--
					mu.Unlock()
				}()
				return retry.Sleep(ctx, d)
			}
		}
		lanes := []relay.Lane{{Sink: "site", Concurrency: 4, Timeout: 10 * time.Second}}
		a, b := &target{answer: answer(time.Second)}, &target{answer: answer(time.Second)}
		stopA, stopB := schedule(t, relay.NewScheduler(nil, store, a.deliver, lanes)), schedule(t, relay.NewScheduler(nil, store, b.deliver, lanes))
		// A third one claims and dies.
		claimed, err := store.Claim(t.Context(), "site", 20, 40*time.Second)
		require.NoError(t, err)
		require.Len(t, claimed, 20)
		pass(15 * time.Second)
		require.Len(t, store.All(), 20)
		require.InDelta(t, len(a.accepted()), len(b.accepted()), 10)
		pass(time.Minute)
		require.Empty(t, store.All())
		require.Equal(t, 100, len(a.accepted())+len(b.accepted()))
		stopA()
		stopB()
	})
}

// A send that takes hours keeps its claim, and yet a process that dies loses its claims within a minute.
func TestSchedulerExtendsItsClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		store := &relaytest.Parcels{}
		put(t, store, 4, "site")
		dying := &perishing{store, &dead}
		lanes := []relay.Lane{{Sink: "site", Concurrency: 4, Timeout: 5 * time.Hour}}
		a, b := &target{answer: sleeping(3 * time.Hour)}, &target{}
		stopA := schedule(t, relay.NewScheduler(nil, dying, a.deliver, lanes))
		pass(time.Second)
		stopB := schedule(t, relay.NewScheduler(nil, store, b.deliver, lanes))
		pass(2 * time.Hour)
		require.Equal(t, 4, store.Claimed())
		require.Equal(t, []int{4, 0}, []int{a.tried(), b.tried()})
		dead.Store(true)
		pass(95 * time.Second)
		require.Empty(t, store.All())
		require.Equal(t, 4, b.tried())
		stopA()
		stopB()
	})
}

// perishing is the store as a process sees it that will die.
type perishing struct {
	*relaytest.Parcels
	dead *atomic.Bool
}

func (p *perishing) Extend(ctx context.Context, hold time.Duration, keys ...event.ParcelKey) error {
	if p.dead.Load() {
		return errDown
	}
	return p.Parcels.Extend(ctx, hold, keys...)
}

func TestASchedulerRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := relay.NewScheduler(nil, &relaytest.Parcels{}, (&target{}).deliver, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, s.Run(ctx))
		require.Error(t, s.Run(ctx))
	})
}

// A parcel that failed is tried again when it is due, not when the lane looks for other work next.
func TestSchedulerTriesAgainWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		put(t, store, 2, "site")
		var attempts atomic.Int64
		g := &target{answer: func(context.Context, string, event.Event) error {
			if attempts.Add(1) <= 6 {
				return errDown
			}
			return nil
		}}
		policy := retry.Schedule{Initial: 200 * time.Millisecond, Max: 200 * time.Millisecond}
		stop := schedule(t, relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 4, Policy: policy}}))
		pass(3 * time.Second)
		require.Empty(t, store.All())
		stop()
	})
}

// A sink that is down and refuses a probe may be back or not: the next parcel is tried at once, and the others are
// due when one is accepted.
func TestSchedulerTakesARefusalForNoRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released, dead, attempts atomic.Int64
		store := &relaytest.Parcels{Fault: func(_ context.Context, call string) error {
			if call == "ReleaseSink" {
				released.Add(1)
			}
			return nil
		}}
		put(t, store, 20, "site")
		g := &target{answer: func(context.Context, string, event.Event) error {
			switch n := attempts.Add(1); {
			case n <= 4:
				return retry.After(fmt.Errorf("%w: down", retry.ErrNotTried), 10*time.Second)
			case n <= 7:
				require.Zero(t, released.Load())
				return retry.Permanent(errDown)
			}
			return nil
		}}
		s := relay.NewScheduler(nil, store, g.deliver, []relay.Lane{{Sink: "site", Concurrency: 4}})
		s.OnDead(func(string, event.Event, error) { dead.Add(1) })
		stop := schedule(t, s)
		pass(11 * time.Second)
		require.Len(t, g.accepted(), 17)
		require.Equal(t, []int64{3, 1}, []int64{dead.Load(), released.Load()})
		stop()
	})
}
