package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// stream is a source of events at a steady rate, with leases, that is quick enough for a million of them.
type stream struct {
	interval time.Duration
	total    int
	latency  time.Duration
	hold     time.Duration // of an empty poll

	mu        sync.Mutex
	began     time.Time
	published int
	open      map[string]int // event by handle
	leases    []leased       // in the order in which they end
	confirmed map[string]time.Time
	pulled    int // deliveries
}

type leased struct {
	handle string
	until  time.Time
}

func newStream(interval time.Duration, total int) *stream {
	return &stream{interval: interval, total: total, hold: 5 * time.Second, began: time.Now(), open: map[string]int{}, confirmed: map[string]time.Time{}}
}

func streamID(n int) string { return fmt.Sprintf("event-%07d", n) }

func (s *stream) Pull(ctx context.Context) ([]event.Delivery, error) {
	if err := retry.Sleep(ctx, s.latency); err != nil {
		return nil, err
	}
	end := time.Now().Add(s.hold)
	for {
		deliveries, next := s.take()
		if len(deliveries) > 0 || !time.Now().Before(end) {
			return deliveries, nil
		}
		if next.After(end) {
			next = end
		}
		if err := retry.Sleep(ctx, time.Until(next)); err != nil {
			return nil, err
		}
	}
}

// take leases what is there, up to a batch, or tells when there may be something.
func (s *stream) take() (out []event.Delivery, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	lease := func(n int) {
		s.pulled++
		l := leased{fmt.Sprintf("%d/%d", n, s.pulled), now.Add(event.LeaseTime)}
		s.open[l.handle] = n
		s.leases = append(s.leases, l)
		e := event.Event{ID: streamID(n), Type: "X", Raw: json.RawMessage(fmt.Sprintf(`{"EventType":"X","XEvent":{"n":%d}}`, n))}
		out = append(out, event.Delivery{Event: e, Handle: l.handle, ReceivedAt: now, Deadline: l.until})
	}
	for len(out) < event.MaxBatch && len(s.leases) > 0 {
		first := s.leases[0]
		n, unconfirmed := s.open[first.handle]
		if unconfirmed && first.until.After(now) {
			break
		}
		s.leases = s.leases[1:]
		if unconfirmed {
			delete(s.open, first.handle)
			lease(n)
		}
	}
	for len(out) < event.MaxBatch && s.published < s.total && !s.began.Add(time.Duration(s.published)*s.interval).After(now) {
		lease(s.published)
		s.published++
	}
	next = now.Add(time.Hour)
	if s.published < s.total {
		next = s.began.Add(time.Duration(s.published) * s.interval)
	}
	if len(s.leases) > 0 && s.leases[0].until.Before(next) {
		next = s.leases[0].until
	}
	return out, next
}

func (s *stream) Confirm(ctx context.Context, handles []string) error {
	if err := retry.Sleep(ctx, s.latency); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range handles {
		if _, ok := s.open[h]; !ok {
			return event.ErrStaleHandle
		}
	}
	for _, h := range handles {
		s.confirmed[streamID(s.open[h])] = time.Now()
		delete(s.open, h)
	}
	return nil
}

func (s *stream) counts() (published, pulled, confirmed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published, s.pulled, len(s.confirmed)
}

// sink is a pipeline.Sink that notes what it accepts.
type sink struct {
	mu       sync.Mutex
	answer   func(ctx context.Context, e event.Event) error
	order    []string
	accepted map[string]int
	sends    int
	now      int
	most     int
}

func (s *sink) Send(ctx context.Context, e event.Event) error {
	s.mu.Lock()
	s.sends++
	s.now++
	s.most = max(s.most, s.now)
	answer := s.answer
	s.mu.Unlock()
	var err error
	if answer != nil {
		err = answer(ctx, e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	if err == nil {
		if s.accepted == nil {
			s.accepted = map[string]int{}
		}
		s.accepted[e.ID]++
		s.order = append(s.order, e.ID)
	}
	return err
}

func (s *sink) Close(context.Context) error { return nil }

func (s *sink) set(answer func(ctx context.Context, e event.Event) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.most = answer, 0
}

func (s *sink) stats() (accepted, sends, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.accepted), s.sends, s.most
}

// whole is a relay with a pipeline, a scheduler and a store, put together as the program does it.
type whole struct {
	relay     *relay.Relay
	pipeline  *pipeline.Pipeline
	scheduler *relay.Scheduler
}

func assemble(t *testing.T, cfg relay.Config, log *zap.Logger, store *relaytest.Parcels, processors []pipeline.Processor, routes []pipeline.Route, sources ...relay.Source) *whole {
	t.Helper()
	w := &whole{}
	lanes := []relay.Lane{{Sink: event.Unprocessed, Concurrency: 4, Timeout: time.Minute}}
	for _, r := range routes {
		lanes = append(lanes, relay.Lane{Sink: r.Name, Concurrency: r.Concurrency, Timeout: r.Timeout, Policy: r.Parcels})
	}
	w.scheduler = relay.NewScheduler(log, store, func(ctx context.Context, sink string, e event.Event) error {
		return w.pipeline.Deliver(ctx, sink, e)
	}, lanes)
	mode := pipeline.ParkFailures
	if cfg.Confirm == relay.ConfirmStored {
		mode = pipeline.ParkEverything
	}
	var err error
	w.pipeline, err = pipeline.New(log, processors, routes,
		pipeline.WithParking(store, mode), pipeline.OnParked(w.scheduler.Wake), pipeline.OnRecovered(w.scheduler.Recovered))
	require.NoError(t, err)
	w.relay, err = relay.New(cfg, log, w.pipeline, sources...)
	require.NoError(t, err)
	w.relay.UseScheduler(w.scheduler, store)
	w.relay.UseMemory(store)
	return w
}

// start runs it and returns the function that stops it and returns how long that took.
func (w *whole) start(t *testing.T) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.relay.Run(ctx) }()
	return func() time.Duration {
		began := time.Now()
		cancel()
		require.NoError(t, <-ended)
		return time.Since(began)
	}
}

// siteRoute is a sink as it is configured by default.
func siteRoute(s pipeline.Sink) pipeline.Route {
	c := pipeline.DefaultRouteConfig()
	return pipeline.Route{
		Name: "site", Sink: s, Timeout: c.Timeout, Concurrency: c.Concurrency,
		Retry: c.Retry, Breaker: c.Breaker, Parcels: c.Parcels,
	}
}
