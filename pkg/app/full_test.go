package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// counter is an endpoint that counts what it accepts, by ID, unless it is down.
type counter struct {
	url  string
	down atomic.Bool

	mu  sync.Mutex
	ids map[string]int
}

func count(t *testing.T) *counter {
	c := &counter{ids: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if c.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ids[r.Header.Get("Idempotency-Key")]++
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// got is how many events arrived, and how many of them more than once.
func (c *counter) got() (events, again int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.ids {
		if n > 1 {
			again++
		}
	}
	return len(c.ids), again
}

// post posts notifications of the type, numbered, at once, and returns how many were answered with each status.
func (a *assembled) post(url, eventType string, from, to int) map[int]int {
	a.t.Helper()
	var mu sync.Mutex
	answers := map[int]int{}
	var posts errgroup.Group
	posts.SetLimit(16)
	for i := from; i < to; i++ {
		posts.Go(func() error {
			body := fmt.Sprintf(`{"EventType":%q,"Number":%d}`, eventType, i)
			req, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, url, strings.NewReader(body))
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			answers[resp.StatusCode]++
			return resp.Body.Close()
		})
	}
	require.NoError(a.t, posts.Wait())
	http.DefaultClient.CloseIdleConnections()
	return answers
}

// TestCallbackWithAFullStore has a sink that is down fill its share of the store, or the store: notifications for
// another sink are accepted all the same and arrive once, and no attempt at one for both has it sent twice.
func TestCallbackWithAFullStore(t *testing.T) {
	for _, c := range []struct{ share, room int }{{50, 150}, {100, 300}} {
		t.Run(fmt.Sprintf("share of %d %%", c.share), func(t *testing.T) {
			healthy, dead := count(t), count(t)
			dead.down.Store(true)
			free, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, free.Close())
			sinks := fmt.Sprintf(`[{name: healthy, type: webhook, url: %q, when: type != "ForDead"}, {name: dead, type: webhook, url: %q, when: type != "ForHealthy", breaker: {open: 1s}}]`, healthy.url, dead.url)
			a := assemble(t, sinks, "VODRELAY_SOURCES=callback", "VODRELAY_CALLBACK_LISTEN="+free.Addr().String(),
				"VODRELAY_STORE_MAX_PARCELS=300", fmt.Sprint("VODRELAY_STORE_MAX_SHARE=", c.share))
			stop := a.run()
			url := "http://" + free.Addr().String()

			require.Equal(t, map[int]int{200: c.room}, a.post(url, "ForDead", 0, c.room))
			require.Equal(t, map[int]int{503: 20}, a.post(url, "ForDead", 1000, 1020), "there is no room for it")
			require.NotEmpty(t, a.logs.FilterMessage("cannot store events of a sink").All())
			require.Equal(t, map[int]int{200: 200}, a.post(url, "ForHealthy", 0, 200))
			a.eventually("all arrive", func() bool { n, _ := healthy.got(); return n == 200 })
			for range 3 { // as often as VOD tries
				require.Equal(t, map[int]int{503: 1}, a.post(url, "ForBoth", 0, 1))
			}
			a.eventually("it arrives where it can", func() bool { n, _ := healthy.got(); return n == 201 })
			if c.share < 100 {
				st := a.status()
				require.Equal(t, c.share, st.Parcels.MaxShare)
				require.InDelta(t, 1, *st.Sinks[1].ShareUsed, 1e-9)
			}
			dead.down.Store(false)
			a.eventually("the sink gets what waited for it", func() bool { n, _ := dead.got(); return n == c.room })
			require.Equal(t, map[int]int{200: 1}, a.post(url, "ForBoth", 0, 1))
			a.eventually("and the one for both", func() bool { n, _ := dead.got(); return n == c.room+1 })
			stop()
			for _, sink := range []*counter{healthy, dead} {
				_, again := sink.got()
				require.Zero(t, again, "each arrives once")
			}
			n, _ := healthy.got()
			require.Equal(t, 201, n)
		})
	}
}

// TestPullsGoOnWithAFullShare has a sink that is down fill its share of the store: the other sink gets every event,
// without the wait for a lease, and only what is stored for the first one is confirmed. A sink that came with a reload
// has a share as well.
func TestPullsGoOnWithAFullShare(t *testing.T) {
	for _, reloaded := range []bool{false, true} {
		t.Run(fmt.Sprint("reloaded: ", reloaded), func(t *testing.T) {
			healthy, dead := count(t), count(t)
			dead.down.Store(true)
			a := assemble(t, fmt.Sprintf(`[{name: healthy, type: webhook, url: %q}, {name: dead, type: webhook, url: %q}]`, healthy.url, dead.url),
				"VODRELAY_STORE_MAX_PARCELS=100", "VODRELAY_RELAY_MAX_IN_HAND=32")
			if reloaded {
				alone := *a.cfg
				alone.Sinks = alone.Sinks[:1]
				_, err := a.Reload(&alone)
				require.NoError(t, err)
			}
			stop := a.run()
			if reloaded {
				require.Zero(t, a.status().Parcels.MaxShare, "a single sink has the whole store")
				_, err := a.Reload(a.cfg)
				require.NoError(t, err)
			}
			a.publish(200, 1)
			started := time.Now()
			a.eventually("all arrive at the sink that is up", func() bool { n, _ := healthy.got(); return n == 200 })
			require.Less(t, time.Since(started), 29*time.Second, "32 places that are held for 30 s would let 32 through")
			stop()
			_, again := healthy.got()
			require.Zero(t, again)
			require.EqualValues(t, 50, a.cloud.Counts().Confirmed, "half of the store")
			require.Len(t, a.cloud.Pending(), 150)
		})
	}
}

// TestASinkComesBackToAFullShare is the whole life of an outage that is longer than the store has room for: what was
// not stored stays in the queue, the other sink gets each new event within seconds, and in the end both have all of
// them, each once.
func TestASinkComesBackToAFullShare(t *testing.T) {
	for _, mode := range []pipeline.ParkMode{pipeline.ParkFailures, pipeline.ParkEverything} {
		cfg := store.DefaultConfig()
		cfg.Path, cfg.MaxParcels = filepath.Join(t.TempDir(), "vodrelay.db"), 80
		synctest.Test(t, func(t *testing.T) {
			queue := &relaytest.Queue{Hold: 5 * time.Second}
			s, err := store.Open(t.Context(), cfg, nil, store.Sinks(func() int { return 2 }))
			require.NoError(t, err)
			var down atomic.Bool
			down.Store(true)
			healthy, dead := &memorySink{}, &memorySink{down: &down}
			var scheduler *relay.Scheduler
			route := func(name string, sink pipeline.Sink) pipeline.Route {
				return pipeline.Route{Name: name, Sink: sink, Timeout: 5 * time.Second, Concurrency: 16, Breaker: pipeline.DefaultBreakerConfig()}
			}
			p, err := pipeline.New(nil, nil, []pipeline.Route{route("healthy", healthy), route("dead", dead)}, pipeline.WithParking(s, mode),
				pipeline.OnParked(func(sink string) { scheduler.Wake(sink) }), pipeline.OnRecovered(func(sink string) { scheduler.Recovered(sink) }))
			require.NoError(t, err)
			lane := func(name string) relay.Lane {
				return relay.Lane{Sink: name, Concurrency: 16, Timeout: 5 * time.Second, Policy: retry.DefaultSchedule()}
			}
			scheduler = relay.NewScheduler(nil, s, p.Deliver, []relay.Lane{lane("healthy"), lane("dead")})
			r, err := relay.New(relay.DefaultConfig(), nil, p, queue)
			require.NoError(t, err)
			r.UseScheduler(scheduler, nil)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()

			for round := range 2 {
				queue.PublishUploads(60)
				time.Sleep(15 * time.Second)
				require.Len(t, healthy.got(), 60*(round+1), "though the other sink's share is full")
				time.Sleep(time.Minute)
			}
			require.Equal(t, 80, queue.Unconfirmed(), "half of the store is stored")
			down.Store(false)
			time.Sleep(20 * time.Minute)
			require.Zero(t, queue.Unconfirmed())
			stop()
			require.NoError(t, <-ended)
			waiting, letters, err := s.Totals(t.Context())
			require.NoError(t, err)
			require.Zero(t, waiting+letters)
			require.NoError(t, s.Close(t.Context()))
			for _, sink := range []*memorySink{healthy, dead} {
				require.Len(t, sink.got(), 120)
				for id, n := range sink.got() {
					require.Equal(t, 1, n, id)
				}
			}
		})
	}
}

// memorySink counts what it accepts, by ID.
type memorySink struct {
	down *atomic.Bool // nil: never

	mu       sync.Mutex
	accepted map[string]int
}

func (s *memorySink) Send(_ context.Context, e event.Event) error {
	if s.down != nil && s.down.Load() {
		return errors.New("down")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted == nil {
		s.accepted = map[string]int{}
	}
	s.accepted[e.ID]++
	return nil
}

func (s *memorySink) Close(context.Context) error { return nil }

func (s *memorySink) got() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.accepted)
}
