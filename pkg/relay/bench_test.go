//go:build unix

package relay_test

import (
	"context"
	"io"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/stdout"
)

// flood is a source that always has a full batch, until n events were pulled, and counts what is confirmed.
type flood struct {
	make      func(i int64) event.Event
	left      atomic.Int64
	pulled    atomic.Int64
	confirmed atomic.Int64
	n         int64
	end       context.Context // of the run
	done      context.CancelFunc
}

func (s *flood) Pull(context.Context) ([]event.Delivery, error) {
	all := make([]event.Delivery, 0, event.MaxBatch)
	now := time.Now()
	for range event.MaxBatch {
		if s.left.Add(-1) < 0 {
			break
		}
		e := s.make(s.pulled.Add(1))
		all = append(all, event.Delivery{Event: e, Handle: e.ID, ReceivedAt: now, Deadline: now.Add(event.LeaseTime)})
	}
	if len(all) == 0 {
		<-s.end.Done()
		return nil, s.end.Err()
	}
	return all, nil
}

func (s *flood) Confirm(_ context.Context, handles []string) error {
	if s.confirmed.Add(int64(len(handles))) == s.n {
		s.done()
	}
	return nil
}

// run relays b.N events made by make to h.
func run(b *testing.B, h relay.Handler, make func(i int64) event.Event) {
	ctx, done := context.WithCancel(context.Background())
	defer done()
	source := &flood{make: make, n: int64(b.N), end: ctx, done: done}
	source.left.Store(int64(b.N))
	cfg := relay.DefaultConfig()
	cfg.RateLimit = 0
	r, err := relay.New(cfg, nil, h, source)
	require.NoError(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	require.NoError(b, r.Run(ctx))
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/float64(r.Stats().Confirms), "events/confirm")
	require.EqualValues(b, b.N, source.confirmed.Load())
}

// BenchmarkEngine is what the engine itself does for an event: hand it out, and confirm it in a batch.
func BenchmarkEngine(b *testing.B) {
	settled := relay.HandlerFunc(func(context.Context, event.Delivery) error { return nil })
	run(b, settled, func(i int64) event.Event {
		return event.Event{ID: strconv.FormatInt(i, 10), Type: event.NewFileUpload}
	})
}

// BenchmarkRelay is the way of an event of 1.5 KB from its pull to its confirm, without a network: decoding,
// the engine, and a pipeline with the sink stdout.
func BenchmarkRelay(b *testing.B) {
	contents := emulator.GenerateUploads(256, 1)
	out, err := stdout.New(stdout.DefaultConfig(), io.Discard, zap.NewNop())
	require.NoError(b, err)
	p, err := pipeline.New(nil, nil, []pipeline.Route{{
		Name: "sink", Timeout: 10 * time.Second, Concurrency: 64, Retry: retry.DefaultPolicy(), Breaker: pipeline.DefaultBreakerConfig(),
		Sink: out,
	}}, pipeline.WithParking(nowhere{}, pipeline.ParkFailures))
	require.NoError(b, err)
	run(b, p, func(i int64) event.Event {
		e, _, err := event.Decode(contents[int(i)%len(contents)], 1)
		require.NoError(b, err)
		e.ID = strconv.FormatInt(i, 10) // contents come again, events do not
		return e
	})
	require.NoError(b, p.Close(context.Background()))
}

type nowhere struct{}

func (nowhere) Put(context.Context, ...event.Parcel) error { panic("nothing fails here") }

// cpuTime is what this process has used so far. On a machine that others use, too, it says more than time.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
