package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// flaky is a target that fails a share of its Sends.
type flaky struct {
	mu       sync.Mutex
	random   *rand.Rand
	share    float64 // of failures
	success  func(*rand.Rand) time.Duration
	failure  func(*rand.Rand) time.Duration
	sends    int
	now      int // being sent
	most     int
	accepted int
}

func within(from, to time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return from + time.Duration(r.Int64N(int64(to-from)+1)) }
}

func (f *flaky) Send(ctx context.Context, _ event.Event) error {
	f.mu.Lock()
	f.sends++
	f.now++
	f.most = max(f.most, f.now)
	fails := f.random.Float64() < f.share
	took := f.success
	if fails {
		took = f.failure
	}
	pause := took(f.random)
	f.mu.Unlock()
	err := retry.Sleep(ctx, pause)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now--
	if fails {
		return errDown
	}
	if err == nil {
		f.accepted++
	}
	return err
}

func (f *flaky) Close(context.Context) error { return nil }

func (f *flaky) become(share float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.share, f.sends, f.accepted, f.most = share, 0, 0, f.now
}

func (f *flaky) counts() (sends, accepted, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sends, f.accepted, f.most
}

// load is a pipeline with a store, a flaky target and events at a rate.
type load struct {
	*Pipeline
	t      *testing.T
	target *flaky
	store  *parked
	logs   *observer.ObservedLogs
	events int
	all    sync.WaitGroup
}

func newLoad(t *testing.T, seed uint64, concurrency int, target *flaky) *load {
	core, logs := observer.New(zapcore.InfoLevel)
	target.random = rand.New(rand.NewPCG(seed, 7))
	l := &load{t: t, target: target, store: &parked{}, logs: logs}
	r := Route{Name: "site", Sink: target, Timeout: 10 * time.Second, Concurrency: concurrency, Breaker: DefaultBreakerConfig(), Retry: retry.DefaultPolicy()}
	var err error
	l.Pipeline, err = New(zap.New(core), nil, []Route{r}, WithParking(l.store, ParkFailures))
	require.NoError(t, err)
	t.Cleanup(l.all.Wait)
	return l
}

// run sends an event every so often.
func (l *load) run(every, lasting time.Duration) {
	for end := time.Now().Add(lasting); time.Now().Before(end); time.Sleep(every) {
		l.events++
		e := event.Event{ID: fmt.Sprint(l.events), Raw: []byte("{}")}
		l.all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), event.LeaseTime)
			defer cancel()
			if err := l.Handle(ctx, event.Delivery{Event: e}); err != nil {
				l.t.Error(err)
			}
		})
	}
}

// direct is the share of the events that were accepted without the store.
func (l *load) direct() float64 {
	l.all.Wait()
	return 1 - float64(len(l.store.all()))/float64(l.events)
}

func property(t *testing.T, name string, f func(t *testing.T, seed uint64)) {
	t.Run(name, func(t *testing.T) {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { f(t, seed) })
			})
		}
	})
}

// A target that accepts most of what it gets is not down, however quick its failures and however slow its
// successes are. An event has three attempts, so a share s of failures alone stores s³ of the events.
func TestBreakerLeavesAFlakyTargetItsTraffic(t *testing.T) {
	ms := time.Millisecond
	for _, speed := range []struct {
		name             string
		success, failure func(*rand.Rand) time.Duration
		concurrency      int
		every            time.Duration
	}{
		{"quick failures among quick successes", within(5*ms, 20*ms), within(ms, 2*ms), 64, 3 * ms},
		{"quick failures among slow successes", within(200*ms, 800*ms), within(ms, 2*ms), 64, 12 * ms},
		{"quick failures among very slow successes", within(3000*ms, 9000*ms), within(ms, 2*ms), 64, 150 * ms},
		{"slow failures among quick successes", within(5*ms, 20*ms), within(500*ms, 2000*ms), 64, 20 * ms},
		{"mixed", within(ms, 2000*ms), within(ms, 2000*ms), 64, 25 * ms},
		{"more than it can take", within(100*ms, 300*ms), within(ms, 2*ms), 16, 11 * ms},
		{"one at a time", within(ms, 5*ms), within(ms, 2*ms), 1, 10 * ms},
		{"now and then", within(ms, 50*ms), within(ms, 2*ms), 64, 1500 * ms},
	} {
		for _, share := range []struct{ failing, direct float64 }{{0.05, 0.995}, {0.2, 0.98}, {0.3, 0.92}, {0.5, 0.6}} {
			property(t, fmt.Sprintf("%.0f %%, %s", 100*share.failing, speed.name), func(t *testing.T, seed uint64) {
				l := newLoad(t, seed, speed.concurrency, &flaky{share: share.failing, success: speed.success, failure: speed.failure})
				l.run(speed.every, 800*speed.every)
				require.GreaterOrEqual(t, l.direct(), share.direct)
				if share.failing <= 0.3 {
					require.Empty(t, l.logs.FilterMessageSnippet("sink is down").All())
				}
			})
		}
	}
}

// A target that is down is noticed after a few attempts, and then gets one at a time. One that is back is
// noticed by the first of them.
func TestBreakerNoticesAnOutageAndItsEnd(t *testing.T) {
	ms := time.Millisecond
	for _, speed := range []struct {
		name        string
		failure     func(*rand.Rand) time.Duration
		concurrency int
		every       time.Duration
		attempts    int // until it is noticed
	}{
		{"refused at once", within(ms, 2*ms), 64, 10 * ms, 40},
		{"slow refusals", within(500*ms, 2000*ms), 64, 10 * ms, 3 * 64},
		{"timeouts", within(20*time.Second, 20*time.Second), 64, 10 * ms, 64 + 20},
		{"one at a time", within(ms, 2*ms), 1, 10 * ms, 20},
		{"an event in a second", within(ms, 2*ms), 64, time.Second, 20},
		{"an event in a minute", within(ms, 2*ms), 64, time.Minute, 5},
		{"an event in an hour", within(ms, 2*ms), 64, time.Hour, 5},
	} {
		property(t, speed.name, func(t *testing.T, seed uint64) {
			target := &flaky{success: within(20*ms, 50*ms), failure: speed.failure}
			l := newLoad(t, seed, speed.concurrency, target)
			l.run(speed.every, 100*speed.every)
			target.become(1)
			began := time.Now()
			for l.Stats().Sinks[0].Breaker.State == "closed" && time.Since(began) < 10*time.Hour {
				l.run(speed.every, speed.every)
			}
			noticed, _, _ := target.counts()
			require.LessOrEqual(t, noticed, speed.attempts)

			time.Sleep(30 * time.Second) // what was under way ends
			target.become(1)
			began = time.Now()
			l.run(speed.every, max(30*time.Second, 20*speed.every))
			probes, _, most := target.counts()
			require.LessOrEqual(t, most, 1, "one probe at a time")
			require.LessOrEqual(t, probes, 1+int(time.Since(began)/(10*time.Second)))
			require.Len(t, l.logs.FilterMessageSnippet("sink is down").All(), 1)

			time.Sleep(30 * time.Second)
			target.become(0)
			before := len(l.store.all())
			l.run(speed.every, 50*speed.every)
			l.all.Wait()
			require.LessOrEqual(t, len(l.store.all())-before, 1+int(50*ms/speed.every), "only what came while the probe was under way")
			back := l.logs.FilterMessage("sink is back").All()
			require.Len(t, back, 1)
			require.Positive(t, back[0].ContextMap()["accepted"])
		})
	}
}
