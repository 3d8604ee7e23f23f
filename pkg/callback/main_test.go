package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	testApp = 1500000001
	testKey = "abcdefghij0123456789ABCDEFGHIJ32"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childTask); text != "" {
		child(text)
		return
	}
	goleak.VerifyTestMain(m)
}

var errDown = errors.New("the store is down")

// recorder is a handler that notes what it was given.
type recorder struct {
	mu      sync.Mutex
	handled map[string]int // by event ID, every call
	last    event.Delivery
	decide  func(ctx context.Context, d event.Delivery, call int) error // nil: settled
}

func (r *recorder) Handle(ctx context.Context, d event.Delivery) error {
	r.mu.Lock()
	if r.handled == nil {
		r.handled = make(map[string]int)
	}
	r.handled[d.ID]++
	r.last = d
	call, decide := r.handled[d.ID], r.decide
	r.mu.Unlock()
	if decide == nil {
		return nil
	}
	return decide(ctx, d, call)
}

// answer changes what the handler decides.
func (r *recorder) answer(decide func(ctx context.Context, d event.Delivery, call int) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decide = decide
}

func (r *recorder) calls() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, calls := range r.handled {
		n += calls
	}
	return n
}

func (r *recorder) delivery() event.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Listen, cfg.SubAppID = "127.0.0.1:0", testApp
	return cfg
}

// receiver makes a server that ends with the test.
func receiver(t testing.TB, cfg Config, log *zap.Logger, h Handler) *Server {
	t.Helper()
	return receiverWithin(t, cfg, log, h, defaultLimits)
}

func receiverWithin(t testing.TB, cfg Config, log *zap.Logger, h Handler, limit limits) *Server {
	t.Helper()
	s, err := newServer(cfg, log, h, limit)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	return s
}

// serve has s listen on this machine, and returns its URL.
func serve(t testing.TB, s *Server) string {
	t.Helper()
	require.NoError(t, s.Listen(t.Context()))
	serveUntilEnd(t, s)
	return "http://" + s.Addr().String() + s.cfg.Path
}

// serveInMemory is serve without sockets, for synctest.
func serveInMemory(t testing.TB, s *Server) *http.Client {
	t.Helper()
	network := emulator.NewNetwork()
	require.NoError(t, s.listenOn(network))
	serveUntilEnd(t, s)
	transport := &http.Transport{DialContext: network.DialContext, MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func serveUntilEnd(t testing.TB, s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

// ask calls the handler without a network.
func ask(h http.Handler, body string, change ...func(*http.Request)) (status int, text string) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n")
}

func post(client *http.Client, url string, body []byte) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func signed(t testing.TB, body, key string, life time.Duration) string {
	t.Helper()
	text, err := Sign([]byte(body), key, time.Now().Add(life))
	require.NoError(t, err)
	return string(text)
}

func notification(n int) string {
	return fmt.Sprintf(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%d","MediaBasicInfo":{"Name":"Animal World"}}}`, n)
}

func idOf(t testing.TB, body string) string {
	t.Helper()
	e, _, err := event.Decode([]byte(body), testApp)
	require.NoError(t, err)
	return e.ID
}

func dial(t testing.TB, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
