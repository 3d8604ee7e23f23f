package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

func parking(t *testing.T, store Parker, mode ParkMode, processors []Processor, routes []Route, opts ...Option) *Pipeline {
	t.Helper()
	p, err := New(nil, processors, routes, append(opts, WithParking(store, mode))...)
	require.NoError(t, err)
	return p
}

func TestParkingStoresTheFailedSinksOfAnEventInOnePut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, good := &parked{}, &target{}
		var woken []string
		project, err := Project(Field{"id", "payload.FileId"})
		require.NoError(t, err)
		p := parking(t, store, ParkFailures, []Processor{project}, []Route{
			{Name: "good", Sink: good},
			{Name: "down", Sink: &target{err: errDown}, Retry: retry.DefaultPolicy(), Parcels: retry.Schedule{Initial: time.Minute, Max: time.Hour}},
			{Name: "refuses", Sink: &target{err: retry.Permanent(errors.New(strings.Repeat("x", 5000)))}, Retry: retry.DefaultPolicy()},
			{Name: "odd", Sink: &target{}, When: condition(t, `event.id > 5`)},
			{Name: "other", Sink: &target{}, When: condition(t, `false`)},
			{Name: "later", Sink: &target{err: retry.After(errDown, 2*time.Hour)}},
		}, OnParked(func(sink string) { woken = append(woken, sink) }))
		d := delivery(t, upload)
		d.SubAppID = 7
		start := time.Now()
		require.NoError(t, p.Handle(t.Context(), d), "settled in the store")
		require.Less(t, time.Since(start), 5*time.Second)
		require.Equal(t, 1, store.puts)
		all := store.all()
		now := time.Now()
		require.Len(t, all, 4)
		for _, parcel := range all {
			require.Equal(t, d.ID, parcel.ID)
			require.EqualValues(t, 7, parcel.SubAppID)
			require.Equal(t, `{"id":"14508071098244959037"}`, string(parcel.Raw), "as the processors left it")
			require.Equal(t, now, parcel.Created)
			require.Equal(t, parcel.FirstError, parcel.LastError)
		}
		down, refuses, odd, later := all[0], all[1], all[2], all[3]
		require.Equal(t, []any{"down", event.ParcelWaiting, 3, "target down"}, []any{down.Sink, down.State, down.Attempts, down.LastError})
		require.Less(t, down.Next.Sub(now), 4*time.Minute)
		require.Equal(t, []any{"refuses", event.ParcelDead, 1, event.MaxParcelError}, []any{refuses.Sink, refuses.State, refuses.Attempts, len(refuses.LastError)})
		require.Equal(t, []any{"odd", event.ParcelDead, 0}, []any{odd.Sink, odd.State, odd.Attempts})
		require.Contains(t, odd.LastError, "when: ")
		require.Equal(t, []any{"later", event.ParcelWaiting, 1}, []any{later.Sink, later.State, later.Attempts})
		require.GreaterOrEqual(t, later.Next.Sub(now), 2*time.Hour, "as the target asked")
		require.Equal(t, []string{"down", "later"}, woken)
		require.Zero(t, p.Stats().Remembered)
		require.EqualValues(t, 1, p.Stats().Sinks[1].Parked)
		require.EqualValues(t, 1, p.Stats().Sinks[2].Dead)
	})
}

// A parcel is tried again by the schedule of its sink, which is the default one where it has none.
func TestParkingGoesByTheSchedule(t *testing.T) {
	for name, c := range map[string]struct {
		schedule    retry.Schedule
		least, most time.Duration // of the longest wait
	}{
		"default":    {retry.Schedule{}, time.Second, retry.DefaultSchedule().Initial},
		"the sink's": {retry.Schedule{Initial: 1000 * time.Hour, Max: 1000 * time.Hour}, time.Hour, 1000 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := &parked{}
			p := parking(t, store, ParkFailures, nil, []Route{{Name: "site", Sink: &target{err: errDown}, Parcels: c.schedule}})
			longest := time.Duration(0)
			for range 50 { // each wait is drawn at random
				require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
			}
			for _, parcel := range store.all() {
				longest = max(longest, parcel.Next.Sub(parcel.Created))
			}
			require.Greater(t, longest, c.least, name)
			require.LessOrEqual(t, longest, c.most, name)
		})
	}
}

func TestParkingDoesNotTouchTheStoreOnTheGoodPath(t *testing.T) {
	store := &parked{err: errDown}
	p := parking(t, store, ParkFailures, nil, []Route{{Name: "good", Sink: &target{}, Breaker: DefaultBreakerConfig()}, {Name: "no", Sink: &target{}, When: condition(t, "false")}})
	require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
	require.Zero(t, store.tries)
}

func TestParkingKeepsTheRetriesOfALeaseShort(t *testing.T) {
	tests := []struct {
		name     string
		delay    time.Duration
		err      error
		retry    retry.Policy
		attempts int
		most     time.Duration
	}{
		{"fails at once", 0, errDown, retry.DefaultPolicy(), 3, time.Second},
		{"fails slowly", 3 * time.Second, errDown, retry.DefaultPolicy(), 2, 7 * time.Second},
		{"asks for time", 0, retry.After(errDown, 20*time.Second), retry.DefaultPolicy(), 1, time.Millisecond},
		{"as configured", 0, errDown, retry.Policy{Initial: time.Second, Max: time.Second, MaxAttempts: 10}, 10, 20 * time.Second},
		{"no retry", 0, errDown, retry.Policy{}, 1, time.Millisecond},
		{"hangs", time.Hour, nil, retry.DefaultPolicy(), 1, 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, s := &parked{}, &target{err: tt.err, delay: tt.delay}
				p := parking(t, store, ParkFailures, nil, []Route{{Name: "site", Sink: s, Timeout: 10 * time.Second, Retry: tt.retry}})
				start := time.Now()
				require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
				require.LessOrEqual(t, time.Since(start), tt.most)
				require.Equal(t, tt.attempts, s.sends)
				require.Equal(t, tt.attempts, store.all()[0].Attempts)
			})
		})
	}
}

// An event whose sends take up the whole lease still needs time to be stored.
func TestParkingLeavesTimeToStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &parked{err: errors.New("busy")}
		p := parking(t, store, ParkFailures, nil, []Route{{Name: "site", Sink: &target{delay: time.Hour}}})
		time.AfterFunc(28*time.Second, func() { store.fail(nil) })
		require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
		require.Equal(t, 1, store.puts)
	})
}

func TestParkingWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		store := &parked{err: retry.Permanent(retry.WithHint(errors.New("disk full"), "make room"))}
		good := &target{}
		p, err := New(zap.New(core), nil, []Route{{Name: "good", Sink: good, Breaker: threeTimes}, {Name: "down", Sink: &target{err: errDown}}}, WithParking(store, ParkFailures))
		require.NoError(t, err)
		start := time.Now()
		err = p.Handle(t.Context(), delivery(t, upload))
		require.EqualError(t, err, "sink down: target down\ncannot store the event: disk full")
		require.Equal(t, "make room", retry.Hint(err))
		require.Equal(t, holdTime, time.Since(start), "the other sink could use the place")
		require.Equal(t, 1, p.Stats().Remembered)
		told := logs.FilterMessageSnippet("cannot store events").All()
		require.Len(t, told, 1)
		require.Equal(t, "make room", told[0].ContextMap()["hint"])

		start, tries := time.Now(), store.tries
		alone := parking(t, store, ParkFailures, nil, []Route{{Name: "down", Sink: &target{err: errDown}}})
		require.Error(t, alone.Handle(t.Context(), delivery(t, upload)))
		require.Equal(t, event.LeaseTime, time.Since(start), "no other sink could use the place, and it stays taken, so that pulls stop")
		require.Greater(t, store.tries, tries+10)
		require.Less(t, store.tries, tries+100, "a store that is down is not asked all the time")

		time.AfterFunc(holdTime/2, func() { store.fail(nil) })
		start = time.Now()
		require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
		require.LessOrEqual(t, time.Since(start), holdTime)
		require.Len(t, good.got, 1, "it is remembered who accepted the event")
		require.Len(t, store.all(), 1)
		require.Zero(t, p.Stats().Remembered)
		require.Len(t, logs.FilterMessage("storing events of a sink again").All(), 1)
	})
}

// When the grace of a stop is over, what was cut off is still stored, for some moments.
func TestParkingAtAStop(t *testing.T) {
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprint("store down: ", down), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &parked{}
				if down {
					store.err = errDown
				}
				p := parking(t, store, ParkFailures, nil, []Route{{Name: "site", Sink: &target{delay: time.Hour}, Breaker: threeTimes}})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				start := time.Now()
				err := p.Handle(ctx, delivery(t, upload))
				if down {
					require.Error(t, err)
					require.Equal(t, 3*time.Second+afterStop, time.Since(start))
					return
				}
				require.NoError(t, err)
				require.Equal(t, 3*time.Second, time.Since(start))
				require.Equal(t, event.ParcelWaiting, store.all()[0].State)
				require.Zero(t, store.all()[0].Attempts, "it was our own doing")
				require.Equal(t, time.Now(), store.all()[0].Next)
			})
		})
	}
	t.Run("never beyond the lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := &parked{err: errDown}
			p := parking(t, store, ParkFailures, nil, []Route{{Name: "site", Sink: &target{delay: time.Hour}}})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			time.AfterFunc(9500*time.Millisecond, cancel)
			start := time.Now()
			require.Error(t, p.Handle(ctx, delivery(t, upload)))
			require.Equal(t, 10*time.Second, time.Since(start))
		})
	})
}

func TestParkingWhenAProcessorFails(t *testing.T) {
	for _, mode := range []ParkMode{ParkFailures, ParkEverything} {
		store, s := &parked{}, &target{}
		broken := true
		poison := ProcessorFunc(func(ctx context.Context, e event.Event) (event.Event, error) {
			if ctx.Err() != nil {
				return e, ctx.Err()
			}
			if broken && e.Type == "FileDeleted" {
				panic("a bug")
			}
			e.Raw = []byte(`"processed"`)
			return e, nil
		})
		p := parking(t, store, mode, []Processor{poison}, []Route{{Name: "site", Sink: s}, {Name: "down", Sink: &target{err: errDown}}})
		bad := delivery(t, `{"EventType":"FileDeleted","FileDeleteEvent":{}}`)
		require.NoError(t, p.Handle(t.Context(), bad), "it does not circulate")
		all := store.all()
		require.Len(t, all, 1)
		require.Equal(t, []any{event.Unprocessed, event.ParcelDead, "processor 1: panic: a bug", string(bad.Raw)},
			[]any{all[0].Sink, all[0].State, all[0].LastError, string(all[0].Raw)}, "kept as it came")

		// Replayed in vain, then with the bug mended: it goes the whole way.
		err := p.Deliver(t.Context(), all[0].Sink, all[0].Event)
		require.True(t, retry.IsPermanent(err), err)
		require.Len(t, store.all(), 1)
		broken = false
		require.NoError(t, p.Deliver(t.Context(), all[0].Sink, all[0].Event))
		all = store.all()[1:]
		if mode == ParkEverything {
			require.Len(t, all, 2)
			require.Empty(t, s.got)
		} else {
			require.Equal(t, `"processed"`, string(s.got[0].Raw))
			require.Len(t, all, 1)
		}
		require.Equal(t, `"processed"`, string(all[0].Raw))

		// A stop is no fault of the event.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		store = &parked{}
		p = parking(t, store, mode, []Processor{poison}, []Route{{Name: "site", Sink: s}})
		require.Error(t, p.Handle(ctx, bad))
		require.Empty(t, store.all())
	}
}

func TestParkEverything(t *testing.T) {
	store, a, b := &parked{}, &target{}, &target{}
	var woken []string
	p := parking(t, store, ParkEverything, []Processor{Filter(condition(t, `type != "FileDeleted"`))}, []Route{
		{Name: "a", Sink: a}, {Name: "b", Sink: b, When: condition(t, `type == "NewFileUpload"`)}, {Name: "odd", Sink: a, When: condition(t, `payload.FileId > 5`)},
	}, OnParked(func(sink string) { woken = append(woken, sink) }))
	require.NoError(t, p.Handle(t.Context(), delivery(t, `{"EventType":"FileDeleted","FileDeleteEvent":{}}`)))
	require.Zero(t, store.tries)
	require.NoError(t, p.Handle(t.Context(), delivery(t, upload)))
	require.Empty(t, a.got, "nothing is sent from here")
	require.Equal(t, 1, store.puts)
	all := store.all()
	require.Len(t, all, 3)
	for _, parcel := range all[:2] {
		require.Equal(t, []any{event.ParcelWaiting, 0, ""}, []any{parcel.State, parcel.Attempts, parcel.LastError})
		require.NoError(t, p.Deliver(t.Context(), parcel.Sink, parcel.Event))
	}
	require.Equal(t, event.ParcelDead, all[2].State)
	require.Len(t, a.got, 1)
	require.Len(t, b.got, 1)
	require.Equal(t, []string{"a", "b"}, woken)

	synctest.Test(t, func(t *testing.T) {
		store.fail(errDown)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		require.ErrorContains(t, p.Handle(ctx, delivery(t, upload)), "cannot store the event: target down")
		require.Equal(t, afterStop, time.Since(start))
	})
}

func TestDeliver(t *testing.T) {
	s := &target{}
	p := build(t, nil,
		Route{Name: "site", Sink: s, Retry: retry.DefaultPolicy(), When: condition(t, `type == "NewFileUpload"`)},
		Route{Name: "odd", Sink: s, When: condition(t, `payload.FileId > 5`)},
		Route{Name: "panics", Sink: SinkFunc(func(context.Context, event.Event) error { panic("boom") })})
	e := parse(t, upload)
	require.NoError(t, p.Deliver(t.Context(), "site", e))
	require.Len(t, s.got, 1)
	s.set(errDown)
	require.ErrorIs(t, p.Deliver(t.Context(), "site", e), errDown)
	require.Equal(t, 2, s.sends, "a single attempt")
	require.NoError(t, p.Deliver(t.Context(), "site", parse(t, `{"EventType":"FileDeleted","FileDeleteEvent":{}}`)), "not wanted any more")
	require.Equal(t, 2, s.sends)
	require.True(t, retry.IsPermanent(p.Deliver(t.Context(), "odd", e)))
	require.EqualError(t, p.Deliver(t.Context(), "panics", e), "panic: boom")
	err := p.Deliver(t.Context(), "gone", e)
	require.EqualError(t, err, "there is no sink gone")
	require.ErrorIs(t, err, retry.ErrNotTried, "its parcels stay where they are")
	require.False(t, retry.IsPermanent(err))
	require.Equal(t, []uint64{1, 1, 2, 1}, []uint64{p.Stats().Sinks[0].Sent, p.Stats().Sinks[0].Failed, p.Stats().Sinks[0].Attempts, p.Stats().Sinks[0].Skipped})
}

// A parcel does not wait so long for its place that no time is left to send it in.
func TestDeliverGivesUpWaitingForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &target{delay: time.Minute}
		p := build(t, nil, Route{Name: "site", Sink: s, Timeout: 5 * time.Second, Concurrency: 1, Breaker: threeTimes})
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for range 3 { // 15 s of work
			all.Go(func() { _ = p.Deliver(t.Context(), "site", event.Event{}) })
		}
		synctest.Wait()
		start := time.Now()
		err := p.Deliver(ctx, "site", event.Event{})
		require.ErrorIs(t, err, retry.ErrNotTried)
		require.Zero(t, retry.Delay(err), "the target is busy, not down")
		require.Equal(t, 10*time.Second, time.Since(start))
		all.Wait()
		require.Equal(t, 3, s.sends)
	})
}

// New events and parcels share the places of a sink in the order in which they ask for them: neither can
// keep the other from it.
func TestNewEventsAndParcelsAreServedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		sent := map[string]int{}
		s := SinkFunc(func(ctx context.Context, e event.Event) error {
			err := retry.Sleep(ctx, 100*time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			sent[e.Type]++
			return err
		})
		p := build(t, nil, Route{Name: "site", Sink: s, Concurrency: 4})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var all sync.WaitGroup
		for range 8 { // each asks again as soon as it was served
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					_ = p.Handle(ctx, event.Delivery{Event: event.Event{ID: fmt.Sprint(i), Type: "new", Raw: []byte("{}")}})
				}
			})
			all.Go(func() {
				for ctx.Err() == nil {
					_ = p.Deliver(ctx, "site", event.Event{Type: "parcel", Raw: []byte("{}")})
				}
			})
		}
		all.Wait()
		require.InDelta(t, sent["new"], sent["parcel"], 20)
		require.InDelta(t, 2400, sent["new"]+sent["parcel"], 30)
	})
}

func TestWhatASinkThatEndedDidNotTakeIsNotParked(t *testing.T) {
	store := &relayStore{}
	ended := SinkFunc(func(context.Context, event.Event) error { return fmt.Errorf("output has %w", retry.ErrEnding) })
	p, err := New(nil, nil, []Route{{Name: "out", Sink: ended, Retry: retry.DefaultPolicy()}}, WithParking(store, ParkFailures))
	require.NoError(t, err)
	for range 10 {
		require.ErrorIs(t, p.Handle(t.Context(), delivery(t, upload)), retry.ErrEnding)
	}
	require.Zero(t, store.puts)
	require.True(t, p.Available("out"), "it says nothing about the target")
}

// relayStore counts what is put into it.
type relayStore struct{ puts int }

func (s *relayStore) Put(context.Context, ...event.Parcel) error { s.puts++; return nil }
