package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestServeEndsWithItsContext(t *testing.T) {
	store := &fakeStore{block: make(chan struct{}), entered: make(chan struct{})}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	under := make(chan answer, 1)
	go func() { under <- s.get("/parcels") }()
	<-store.entered
	s.stop()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 5*time.Second, time.Millisecond, "nothing more is accepted")
	close(store.block)
	require.Equal(t, 200, (<-under).status, "what was under way is answered")
}

func TestServeCutsOffWhatDoesNotEnd(t *testing.T) {
	store := &fakeStore{block: make(chan struct{}), entered: make(chan struct{})}
	s, err := New(Config{Listen: "127.0.0.1:0"}, nil, someOptions(store))
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	// While a body has still to come, net/http does not notice the end of the connection.
	_, err = io.WriteString(conn, "GET /parcels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
	require.NoError(t, err)
	<-store.entered
	started := time.Now()
	stop()
	require.NoError(t, <-done)
	require.Less(t, time.Since(started), stopTime+2*time.Second)
	store.mu.Lock()
	require.ErrorIs(t, store.doneWith, context.Canceled, "the request had ended when Serve returned")
	store.mu.Unlock()
}

func TestShutdown(t *testing.T) {
	store := &fakeStore{block: make(chan struct{}), entered: make(chan struct{})}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	under := make(chan struct{})
	go func() {
		defer close(under)
		req, _ := http.NewRequest(http.MethodGet, s.url+"/parcels", nil)
		if resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-store.entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	<-under
	require.NoError(t, s.Shutdown(t.Context()), "again")
}

// Whoever calls Shutdown decides how long it may take.
func TestShutdownTakesItsTime(t *testing.T) {
	store := &fakeStore{block: make(chan struct{}), entered: make(chan struct{})}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	under := make(chan answer, 1)
	go func() { under <- s.get("/parcels") }()
	<-store.entered
	time.AfterFunc(stopTime+500*time.Millisecond, func() { close(store.block) })
	require.NoError(t, s.Shutdown(t.Context()))
	require.Equal(t, 200, (<-under).status)
}

// hangingStore says when it is looked at, and then nothing.
type hangingStore struct {
	*fakeStore
	looked chan struct{}
}

func (h hangingStore) Healthy(ctx context.Context) error {
	h.looked <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// A store that hangs does not hold up a stop: probes never end, and each looks at it.
func TestShutdownEndsALookAtTheStore(t *testing.T) {
	store := hangingStore{&fakeStore{}, make(chan struct{})}
	opts := someOptions(nil)
	opts.Parcels = store
	s := start(t, Config{}, opts, defaultLimits)
	under := make(chan answer, 1)
	go func() { under <- s.get("/readyz?verbose") }()
	<-store.looked
	began := time.Now()
	require.NoError(t, s.Shutdown(t.Context()))
	require.Less(t, time.Since(began), lookTime)
	got := <-under
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Contains(t, got.body, "context canceled")
}

func TestShutdownBeforeServe(t *testing.T) {
	s, err := New(Config{Listen: "127.0.0.1:0"}, nil, someOptions(nil))
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()))
	_, err = net.Dial("tcp", s.Addr().String())
	require.Error(t, err, "the address is free again")
	require.NoError(t, s.Serve(t.Context()))
}

func TestListenOnATakenAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	s, err := New(Config{Listen: l.Addr().String()}, nil, someOptions(nil))
	require.NoError(t, err)
	err = s.Serve(t.Context())
	require.ErrorContains(t, err, "address already in use")
	require.Contains(t, retry.Hint(err), "admin.listen")
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestServesOnce(t *testing.T) {
	s := start(t, Config{}, someOptions(nil), defaultLimits)
	s.get("/livez")
	require.ErrorContains(t, s.Serve(t.Context()), "only once")
}

func TestPanicIsAnAnswer(t *testing.T) {
	opts := someOptions(nil)
	opts.Alive = func() error { panic("oh") }
	core, logs := observer.New(zapcore.ErrorLevel)
	s, err := newServer(Config{Listen: "127.0.0.1:0"}, zap.New(core), opts, defaultLimits)
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	r := running{Server: s, t: t, url: "http://" + s.Addr().String()}
	require.Equal(t, http.StatusInternalServerError, r.get("/livez").status)
	require.Equal(t, http.StatusServiceUnavailable, r.get("/readyz").status, "the server goes on")
	require.Equal(t, 1, logs.Len())
	stop()
	require.NoError(t, <-done)
}
