package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodToken = "0123456789abcdef0123456789abcdef"

// fakeStore keeps parcels in memory, and notes what it was asked.
type fakeStore struct {
	mu       sync.Mutex
	parcels  []event.Parcel
	err, ill error    // of every call, and of Healthy alone
	filters  []Filter // of lists and changes
	moves    []selection.Move
	changed  int // parcels of each change, also beside err
	health   int // calls of Healthy
	block    chan struct{}
	entered  chan struct{}
	doneWith error // the ctx error that a blocked call saw
}

func (f *fakeStore) Healthy(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.health++
	return errors.Join(f.err, f.ill)
}

func (f *fakeStore) Counts(context.Context) ([]Count, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Count
	for _, p := range f.parcels {
		all = append(all, Count{p.Sink, p.State, 1, int64(len(p.Raw)), p.Created})
	}
	return all, f.err
}

func (f *fakeStore) List(ctx context.Context, filter Filter, after string, limit int) ([]event.Parcel, string, error) {
	if f.block != nil {
		f.entered <- struct{}{}
		select {
		case <-f.block:
		case <-ctx.Done():
			f.mu.Lock()
			f.doneWith = ctx.Err()
			f.mu.Unlock()
			return nil, "", ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filters = append(f.filters, filter)
	from := 0
	if after != "" {
		if _, err := fmt.Sscanf(after, "c%d", &from); err != nil {
			return nil, "", retry.Permanent(errors.New("that is no cursor"))
		}
	}
	end := min(from+limit, len(f.parcels))
	next := ""
	if end < len(f.parcels) {
		next = fmt.Sprintf("c%d", end)
	}
	return f.parcels[from:end], next, f.err
}

func (f *fakeStore) Find(_ context.Context, filter Filter, limit int) ([]event.Parcel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []event.Parcel
	for _, p := range f.parcels {
		if strings.HasPrefix(p.ID, filter.EventID) && (filter.Sink == "" || filter.Sink == p.Sink) && (filter.State == "" || filter.State == p.State) &&
			(filter.SubAppID == nil || *filter.SubAppID == p.SubAppID) && len(found) < limit {
			found = append(found, p)
		}
	}
	return found, f.err
}

func (f *fakeStore) Matching(ctx context.Context, filter Filter) ([]selection.Group, error) {
	found, err := f.Find(ctx, filter, 1000)
	if len(found) == 0 {
		return nil, err
	}
	return []selection.Group{{Sink: found[0].Sink, State: found[0].State, Parcels: int64(len(found))}}, err
}

func (f *fakeStore) Mark(context.Context) (int64, error) { return 77, nil }

func (f *fakeStore) PlanMove(ctx context.Context, m selection.Move) (*selection.Plan, error) {
	if m.To != "site" {
		return nil, retry.Permanent(retry.WithHint(errors.New("there is no such sink"), "did you mean site?"))
	}
	return selection.NewPlan(ctx, f, selection.Selection{Sink: &m.From}, time.Now())
}

func (f *fakeStore) Move(_ context.Context, m selection.Move) (selection.Moved, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moves = append(f.moves, m)
	return selection.Moved{Parcels: int64(f.changed), Collisions: 2}, f.err
}

func (f *fakeStore) Latest(_ context.Context, state event.ParcelState, limit int) ([]event.Parcel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []event.Parcel
	for _, p := range f.parcels {
		if p.State == state && len(found) < limit {
			found = append(found, p)
		}
	}
	return found, f.err
}

func (f *fakeStore) Get(_ context.Context, id, sink string) ([]event.Parcel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []event.Parcel
	for _, p := range f.parcels {
		if p.ID == id && (sink == "" || p.Sink == sink) {
			found = append(found, p)
		}
	}
	return found, f.err
}

func (f *fakeStore) change(filter Filter) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filters = append(f.filters, filter)
	return int64(f.changed), f.err
}

func (f *fakeStore) Replay(_ context.Context, filter Filter) (int64, error) { return f.change(filter) }
func (f *fakeStore) Drop(_ context.Context, filter Filter) (int64, error)   { return f.change(filter) }

func (f *fakeStore) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func parcel(n int, sink string, state event.ParcelState) event.Parcel {
	at := time.Now().Add(-time.Duration(n) * time.Minute)
	return event.Parcel{
		Event: event.Event{
			ID: fmt.Sprintf("%032x", n), Type: event.NewFileUpload, SubAppID: 1500000001,
			Raw: json.RawMessage(fmt.Sprintf(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"5285890784%d","Big":12345678901234567891}}`, n)),
		},
		Sink: sink, State: state, Attempts: n, Next: at.Add(time.Hour),
		FirstError: "first", LastError: "503 Service Unavailable", Created: at, Updated: at,
	}
}

func someStats() Stats {
	return Stats{
		Relay: RelayStats{Pulls: 10, Received: 7, Joined: 1, Settled: 5, Unsettled: 1, Confirmed: 4, Confirms: 3, Late: 2, InHand: 3, MaxInHand: 512, Pollers: 2},
		Pipeline: PipelineStats{Dropped: 1, Remembered: 1, Unrouted: 9, UnroutedTypes: map[string]uint64{event.NewFileUpload: 4, "New<b>": 3, "other": 2}, Sinks: []SinkStats{
			{Name: "site", Sent: 4, Failed: 2, Attempts: 9, Parked: 1, Dead: 1, State: "down", Breaker: "open", BreakerSince: time.Now().Add(-time.Minute), Failing: Failing{
				InARow: 2, Since: time.Now().Add(-time.Minute), Last: time.Now(), Error: "http://u:sesame@h/x answered 503: <busy>\x1b", Hint: "start <it>",
			}},
			{Name: "archive", Sent: 5, Attempts: 5, State: "refusing", Breaker: "closed", BreakerSince: time.Now(), Failing: Failing{InARow: 7, Since: time.Now().Add(-4 * time.Minute)}, Refusals: Refusals{
				Total: 9, InARow: 7, Since: time.Now().Add(-3 * time.Minute), Last: time.Now(), Error: "422: <too> large\x1b", Hint: "less of <it>",
			}},
			{Name: "plain", State: "unknown", Sent: 5, Attempts: 5},
		}},
		Queues:    []QueueStats{{SubAppID: 1500000002, Pull: Failing{InARow: 3, Since: time.Now().Add(-2 * time.Minute), Last: time.Now(), Error: "no <route>\x1b", Hint: "check <it>"}}},
		Scheduler: &SchedulerStats{Delivered: 3, Failed: 2, Dead: 1},
		Callback:  &CallbackStats{Requests: 9, Accepted: 4, Unsigned: 2, Refused: 3, Unsettled: 1},
	}
}

func someOptions(store *fakeStore) Options {
	o := Options{
		Version: "v1.2.3", Stats: someStats, Observer: NewObserver("site", "archive", "plain"),
		Applications: []uint64{1500000001, 1500000002},
		Depth:        func(_ context.Context, app uint64) (uint64, error) { return app - 1500000000, nil },
		MaxParcels:   1000, MaxBytes: 1 << 30, MaxShare: func() int { return 50 }, StoreLog: func() int64 { return 4096 }, StoreLogExcess: func() int64 { return 1000 },
		StoreDriver: "sqlite", StoreLabel: func() string { return "abcd" },
	}
	if store != nil {
		o.Parcels = store
	}
	return o
}

// running is a server that answers at url.
type running struct {
	*Server
	t    testing.TB
	url  string
	stop context.CancelFunc
}

func start(t testing.TB, cfg Config, opts Options, limit limits) *running {
	t.Helper()
	r := prepared(t, cfg, opts, limit)
	r.serve()
	return r
}

// prepared listens, and does not answer yet.
func prepared(t testing.TB, cfg Config, opts Options, limit limits) *running {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := newServer(cfg, zaptest.NewLogger(t), opts, limit)
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context()))
	return &running{Server: s, t: t, url: "http://" + s.Addr().String()}
}

func (r *running) serve() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	r.t.Cleanup(func() {
		stop()
		require.NoError(r.t, <-done)
	})
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (r *running) ask(method, path, body string, header ...string) answer {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	require.NoError(r.t, err)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (r *running) get(path string, header ...string) answer {
	r.t.Helper()
	return r.ask(http.MethodGet, path, "", header...)
}

// post sends JSON.
func (r *running) post(path, body string, header ...string) answer {
	r.t.Helper()
	return r.ask(http.MethodPost, path, body, append([]string{"Content-Type", "application/json"}, header...)...)
}

func (a answer) json(t testing.TB, into any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(a.body)))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(into), a.body)
}
