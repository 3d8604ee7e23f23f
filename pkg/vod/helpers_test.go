package vod

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testID  = "AKIDtestsecretid0000000000000000000000"
	testKey = "VERYSECRETkey000000000000000000"
	testTok = "VERYSECRETtoken"
)

// memory is a network without sockets, so that a testing/synctest bubble can wait for it.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	dialled []string
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), done: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (m *memory) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	m.mu.Lock()
	m.dialled = append(m.dialled, address)
	m.mu.Unlock()
	near, far := net.Pipe()
	select {
	case m.conns <- far:
		return near, nil
	case <-m.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) dials() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.dialled)
}

// serve runs h on a network of its own until the test ends.
func serve(t testing.TB, h http.Handler) *memory {
	m := newMemory()
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(m)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return m
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Endpoint = "http://127.0.0.1:1"
	cfg.Credentials.Provider = "static"
	cfg.Credentials.SecretID, cfg.Credentials.SecretKey, cfg.Credentials.Token = testID, testKey, testTok
	return cfg
}

func newClient(t testing.TB, m *memory, cfg Config, opts ...Option) *Client {
	c, err := New(cfg, append([]Option{WithDialContext(m.Dial)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// client is a client of a server that answers everything with h.
func client(t testing.TB, h http.HandlerFunc, opts ...Option) *Client {
	return newClient(t, serve(t, h), testConfig(), opts...)
}

func write(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body)
}

// answer always sends body.
func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { write(w, body) }
}

func apiError(code, message string) string {
	text, _ := json.Marshal(map[string]any{"Response": map[string]any{
		"Error": map[string]string{"Code": code, "Message": message}, "RequestId": "req-1"}})
	return string(text)
}

const (
	okReply    = `{"Response":{"RequestId":"req-1"}}`
	oneEvent   = `{"Response":{"EventSet":[{"EventHandle":"h1","EventType":"NewFileUpload","FileUploadEvent":{"FileId":"1"}}],"RequestId":"req-1"}}`
	emptyReply = `{"Response":{"Error":{"Code":"ResourceNotFound","Message":"no event"},"RequestId":"req-1"}}`
)
