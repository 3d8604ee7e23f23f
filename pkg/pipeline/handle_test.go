package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
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

// target is a sink whose answers a test decides.
type target struct {
	mu      sync.Mutex
	err     error
	delay   time.Duration
	got     []event.Event
	at      []time.Time
	sends   int
	closed  int
	closing error
}

func (s *target) Send(ctx context.Context, e event.Event) error {
	s.mu.Lock()
	delay, err := s.delay, s.err
	s.sends++
	s.mu.Unlock()
	if delay > 0 && retry.Sleep(ctx, delay) != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, e)
	s.at = append(s.at, time.Now())
	return nil
}

func (s *target) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return s.closing
}

func (s *target) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func delivery(t testing.TB, content string) event.Delivery {
	now := time.Now()
	return event.Delivery{Event: parse(t, content), Handle: "h", ReceivedAt: now, Deadline: now.Add(event.LeaseTime)}
}

func condition(t testing.TB, src string) *Condition {
	t.Helper()
	cond, err := CompileCondition(src)
	require.NoError(t, err)
	return cond
}

func build(t testing.TB, processors []Processor, routes ...Route) *Pipeline {
	t.Helper()
	p, err := New(nil, processors, routes)
	require.NoError(t, err)
	return p
}

func TestHandleSettles(t *testing.T) {
	videos, all := &target{}, &target{}
	project, err := Project(Field{"id", "payload.FileId"})
	require.NoError(t, err)
	p := build(t, []Processor{Filter(condition(t, `type != "FileDeleted"`)), project},
		Route{Name: "videos", Sink: videos, When: condition(t, `type == "NewFileUpload"`)}, Route{Name: "all", Sink: all})
	require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
	require.NoError(t, p.Handle(t.Context(), delivery(t, `{"EventType":"FileDeleted","FileDeleteEvent":{}}`)))
	require.NoError(t, p.Handle(t.Context(), delivery(t, `{"EventType":"ClipComplete","ClipCompleteEvent":{}}`)))
	require.Len(t, videos.got, 1)
	require.Len(t, all.got, 2)
	require.Equal(t, `{"id":"14508071098244959037"}`, string(videos.got[0].Raw))
	require.Equal(t, parse(t, upload).ID, videos.got[0].ID)
	require.Equal(t, Stats{Dropped: 1, Sinks: []SinkStats{
		{Name: "videos", Sent: 1, Attempts: 1, Skipped: 1, State: StateUp},
		{Name: "all", Sent: 2, Attempts: 2, State: StateUp},
	}}, p.Stats())
}

func TestHandleUnrouted(t *testing.T) {
	p := build(t, nil, Route{Name: "none", Sink: &target{}, When: condition(t, "false")})
	require.NoError(t, p.Handle(t.Context(), delivery(t, bare)))
	require.EqualValues(t, 1, p.Stats().Unrouted)
	p = build(t, nil)
	require.NoError(t, p.Handle(t.Context(), delivery(t, bare)))
	require.EqualValues(t, 1, p.Stats().Unrouted)
}

// A sink that accepted an event must not get it again because another failed, and must get it again once
// the event was settled.
func TestHandleRemembersWhoAccepted(t *testing.T) {
	good, bad, worse, picky := &target{}, &target{err: errDown}, &target{err: errDown}, &target{}
	p := build(t, nil, Route{Name: "good", Sink: good}, Route{Name: "bad", Sink: bad}, Route{Name: "worse", Sink: worse},
		Route{Name: "picky", Sink: picky, When: condition(t, "false")})
	handle := func(d event.Delivery, sent ...int) {
		t.Helper()
		err := p.Handle(t.Context(), d)
		require.Equal(t, sent, []int{len(good.got), len(bad.got), len(worse.got), len(picky.got)}, "%v", err)
	}
	d, other := delivery(t, upload), delivery(t, bare)
	handle(d, 1, 0, 0, 0)
	handle(d, 1, 0, 0, 0)
	handle(other, 2, 0, 0, 0)
	require.Equal(t, 2, p.Stats().Remembered)
	bad.set(nil)
	handle(d, 2, 1, 0, 0)
	require.EqualError(t, p.Handle(t.Context(), d), "sink worse: target down")
	worse.set(nil)
	handle(d, 2, 1, 1, 0)
	require.Equal(t, 1, p.Stats().Remembered, "settled is forgotten")
	handle(d, 3, 2, 2, 0)
	handle(other, 3, 3, 3, 0)
	require.Equal(t, 0, p.Stats().Remembered)
	require.EqualValues(t, 5, p.Stats().Sinks[0].Deduplicated)

	// An event that a processor drops at its next delivery is settled as well.
	drop := false
	p = build(t, []Processor{ProcessorFunc(func(_ context.Context, e event.Event) (event.Event, error) {
		if drop {
			return e, fmt.Errorf("not wanted: %w", ErrSkip)
		}
		return e, nil
	})}, Route{Name: "good", Sink: &target{}}, Route{Name: "bad", Sink: &target{err: errDown}})
	require.Error(t, p.Handle(t.Context(), d))
	require.Equal(t, 1, p.Stats().Remembered)
	drop = true
	require.NoError(t, p.Handle(t.Context(), d))
	require.Equal(t, 0, p.Stats().Remembered)
}

func TestWithMemory(t *testing.T) {
	good := &target{}
	p, err := New(zap.NewNop(), nil, []Route{{Name: "good", Sink: good}, {Name: "bad", Sink: &target{err: errDown}}}, WithMemory(1, time.Hour))
	require.NoError(t, err)
	for range 2 {
		require.Error(t, p.Handle(t.Context(), delivery(t, upload)))
		require.Error(t, p.Handle(t.Context(), delivery(t, bare)))
	}
	require.Len(t, good.got, 4, "the memory holds one event only")
	require.Equal(t, 1, p.Stats().Remembered)
}

func TestHandleFansOutAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, quick, failing := &target{delay: 8 * time.Second}, &target{delay: time.Second}, &target{err: errDown}
		p := build(t, nil,
			Route{Name: "slow", Sink: slow},
			Route{Name: "failing", Sink: failing, Retry: retry.DefaultPolicy()},
			Route{Name: "quick", Sink: quick})
		start := time.Now()
		err := p.Handle(t.Context(), delivery(t, upload))
		require.EqualError(t, err, "sink failing: target down")
		require.Equal(t, time.Second, quick.at[0].Sub(start))
		require.Equal(t, 8*time.Second, slow.at[0].Sub(start))
		require.Greater(t, failing.sends, 4)
		require.LessOrEqual(t, time.Since(start), event.LeaseTime, "the delivery's deadline ends the retries")
		require.EqualValues(t, failing.sends, p.Stats().Sinks[1].Attempts)
	})
}

func TestHandleTimeoutWithinTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &target{delay: time.Hour}
		p := build(t, nil, Route{Name: "hanging", Sink: hanging, Timeout: 10 * time.Second, Retry: retry.DefaultPolicy()})
		start := time.Now()
		err := p.Handle(t.Context(), delivery(t, upload))
		require.EqualError(t, err, "sink hanging: context deadline exceeded", "the last attempt is cut by the lease")
		require.Equal(t, event.LeaseTime, time.Since(start))
		require.Equal(t, 3, hanging.sends)

		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		start = time.Now()
		require.Error(t, p.Handle(ctx, delivery(t, upload)))
		require.Equal(t, 15*time.Second, time.Since(start), "the context's own deadline counts")
	})
}

func TestHandleCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.WarnLevel)
		p, err := New(zap.New(core), nil, []Route{
			{Name: "a", Sink: &target{delay: time.Hour}, Retry: retry.DefaultPolicy()},
			{Name: "b", Sink: &target{err: errDown}, Retry: retry.Policy{Initial: time.Hour, Max: time.Hour}},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		start := time.Now()
		d := delivery(t, upload)
		d.Deadline = time.Time{}
		err = p.Handle(ctx, d)
		require.EqualError(t, err, "sink a: context canceled\nsink b: target down")
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Zero(t, logs.Len(), "a stop is not the sinks' fault")
	})
}

func TestHandlePermanent(t *testing.T) {
	permanent := retry.Permanent(errors.New("gone"))
	tests := []struct {
		a, b error
		want bool
		text string
	}{
		{permanent, permanent, true, "sink a: gone\nsink b: gone"},
		{permanent, errDown, false, "sink a: gone\nsink b: target down"},
		{permanent, nil, true, "sink a: gone"},
		{nil, errDown, false, "sink b: target down"},
	}
	for _, tt := range tests {
		p := build(t, nil, Route{Name: "a", Sink: &target{err: tt.a}}, Route{Name: "b", Sink: &target{err: tt.b}})
		err := p.Handle(t.Context(), delivery(t, upload))
		require.EqualError(t, err, tt.text)
		require.Equal(t, tt.want, retry.IsPermanent(err))
	}
}

func TestHandleConditionFails(t *testing.T) {
	other := &target{}
	odd := &target{}
	p := build(t, nil, Route{Name: "odd", Sink: odd, When: condition(t, `payload.FileId > 5`)}, Route{Name: "other", Sink: other})
	for range 2 {
		err := p.Handle(t.Context(), delivery(t, upload))
		require.EqualError(t, err, "sink odd: when: expression 'payload.FileId > 5', column 16: a text and a number cannot be compared")
		require.True(t, retry.IsPermanent(err))
	}
	require.Empty(t, odd.got)
	require.Len(t, other.got, 1, "the other sink goes on, and accepts it once")
	require.EqualValues(t, 2, p.Stats().Sinks[0].Failed)

	p = build(t, nil, Route{Name: "odd", Sink: odd, When: condition(t, `payload.FileId > 5`)})
	require.Error(t, p.Handle(t.Context(), delivery(t, upload)), "not to know is not the same as unrouted")
	require.Zero(t, p.Stats().Unrouted)
}

func TestHandlePanics(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	good := &target{}
	p, err := New(zap.New(core), nil, []Route{
		{Name: "bad", Sink: SinkFunc(func(context.Context, event.Event) error { panic("boom") }), Concurrency: 1},
		{Name: "good", Sink: good},
	})
	require.NoError(t, err)
	for range 3 {
		require.EqualError(t, p.Handle(t.Context(), delivery(t, upload)), "sink bad: panic: boom")
	}
	require.Len(t, good.got, 1)
	require.Len(t, logs.FilterLevelExact(zapcore.WarnLevel).All(), 1)
	require.NotContains(t, logs.FilterLevelExact(zapcore.WarnLevel).All()[0].ContextMap(), "stack")
	stack := logs.FilterMessage("event not delivered").All()[0].ContextMap()["stack"]
	require.Contains(t, stack, "handle_test.go")

	core, logs = observer.New(zapcore.DebugLevel)
	p, err = New(zap.New(core), []Processor{
		ProcessorFunc(func(_ context.Context, e event.Event) (event.Event, error) { return e, nil }),
		ProcessorFunc(func(context.Context, event.Event) (event.Event, error) { panic("boom") }),
	}, []Route{{Name: "good", Sink: good}})
	require.NoError(t, err)
	require.EqualError(t, p.Handle(t.Context(), delivery(t, upload)), "processor 2: panic: boom")
	require.Len(t, good.got, 1)
	require.EqualValues(t, 1, p.Stats().Failed)
	require.Contains(t, logs.FilterMessage("processor failed").All()[0].ContextMap()["stack"], "handle_test.go")
}

// Only a processor can drop an event, and only by returning ErrSkip.
func TestHandleSkipIsForProcessors(t *testing.T) {
	p := build(t, nil, Route{Name: "a", Sink: &target{err: ErrSkip}}, Route{Name: "b", Sink: &target{err: errDown}})
	require.EqualError(t, p.Handle(t.Context(), delivery(t, upload)), "sink a: event dropped by a processor\nsink b: target down")

	p = build(t, []Processor{ProcessorFunc(func(context.Context, event.Event) (event.Event, error) { panic(ErrSkip) })},
		Route{Name: "a", Sink: &target{}})
	require.EqualError(t, p.Handle(t.Context(), delivery(t, upload)), "processor 1: panic: event dropped by a processor")
	require.Zero(t, p.Stats().Dropped)
}

// What a processor fails on is the fault of single events: others that go through do not end it.
func TestHandleProcessorFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		failing := true
		p, err := New(zap.New(core), []Processor{ProcessorFunc(func(_ context.Context, e event.Event) (event.Event, error) {
			if failing {
				return e, errDown
			}
			return e, nil
		})}, []Route{{Name: "s", Sink: &target{}}})
		require.NoError(t, err)
		for range 100 {
			failing = true
			require.EqualError(t, p.Handle(t.Context(), delivery(t, upload)), "processor 1: target down")
			failing = false
			require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
		}
		require.Len(t, logs.All(), 1)
		time.Sleep(retry.Quiet)
		require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
		require.Len(t, logs.All(), 2)
		require.EqualValues(t, 100, logs.All()[1].ContextMap()["failures"])
	})
}

func TestHandleLogsStreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		s := &target{}
		p, err := New(zap.New(core), nil, []Route{{Name: "site", Sink: s}})
		require.NoError(t, err)
		for _, err := range []error{nil, errDown, errDown, retry.WithHint(errors.New("refused"), "start it"), nil, nil} {
			s.set(err)
			_ = p.Handle(t.Context(), delivery(t, upload))
			time.Sleep(time.Second)
		}
		var got []map[string]any
		for _, entry := range logs.All() {
			fields := entry.ContextMap()
			fields["level"] = entry.Level.String()
			got = append(got, fields)
		}
		require.Equal(t, []map[string]any{
			{"level": "warn", "sink": "site", "error": "target down"},
			{"level": "warn", "sink": "site", "error": "refused", "hint": "start it"},
			{"level": "info", "sink": "site", "failures": int64(3), "lasted": 3 * time.Second, "errors": "2 × target down; 1 × refused"},
		}, got)
	})
}

func TestHandleLogsAttempts(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	p, err := New(zap.New(core), nil, []Route{{Name: "site", Sink: &target{}}})
	require.NoError(t, err)
	d := delivery(t, upload)
	require.NoError(t, p.Handle(t.Context(), d))
	require.Equal(t, map[string]any{"sink": "site", "event_id": d.ID, "event_type": "NewFileUpload", "attempt": int64(1)}, logs.All()[0].ContextMap())
}

func TestNewErrors(t *testing.T) {
	_, err := New(nil, nil, []Route{
		{Name: "a", Sink: &target{}}, {Name: "a", Sink: &target{}}, {Name: "b"}, {Sink: &target{}},
		{Name: "c", Sink: &target{}, Retry: retry.Policy{Initial: -1, MaxAttempts: -1}},
	})
	require.EqualError(t, err, "sink a: two sinks have this name: rename one\n"+
		"sink b: there is nothing to send to: set Sink\n"+
		"a sink has no name: give each one its own\n"+
		"sink c: retry.initial: -1ns: must be more than 0, such as 200ms\n"+
		"sink c: retry.max_attempts: -1: must be 0 (no limit) or more")
}

func TestClose(t *testing.T) {
	a, b := &target{closing: errors.New("disk full")}, &target{}
	p := build(t, nil, Route{Name: "a", Sink: a}, Route{Name: "b", Sink: b}, Route{Name: "c", Sink: panicsOnClose{}})
	require.EqualError(t, p.Close(t.Context()), "sink a: close: disk full\nsink c: close: panic: closing")
	require.Equal(t, []int{1, 1}, []int{a.closed, b.closed})
}

// Many events at a time, sinks that fail now and then, deliveries until all are settled: each sink must
// have accepted each event exactly once.
func TestHandleConcurrently(t *testing.T) {
	var running, most [2]int
	flaky := func(i int) (*target, Sink) {
		s := &target{}
		n := 0
		return s, SinkFunc(func(ctx context.Context, e event.Event) error {
			s.mu.Lock()
			n++
			fail := n%3 == 0
			running[i]++
			most[i] = max(most[i], running[i])
			s.mu.Unlock()
			runtime.Gosched()
			defer func() {
				s.mu.Lock()
				running[i]--
				s.mu.Unlock()
			}()
			if fail {
				return errDown
			}
			return s.Send(ctx, e)
		})
	}
	a, sinkA := flaky(0)
	b, sinkB := flaky(1)
	p := build(t, nil, Route{Name: "a", Sink: sinkA, Concurrency: 4}, Route{Name: "b", Sink: sinkB})
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			d := delivery(t, fmt.Sprintf(`{"EventType":"X","P":{"i":%d}}`, i))
			for p.Handle(t.Context(), d) != nil {
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, most[0], 4)
	for _, s := range []*target{a, b} {
		ids := map[string]int{}
		for _, e := range s.got {
			ids[e.ID]++
		}
		require.Len(t, ids, 200)
		require.Len(t, s.got, 200)
	}
	require.Equal(t, 0, p.Stats().Remembered)
}
