package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

var short = limits{header: 150 * time.Millisecond, read: 300 * time.Millisecond, write: 300 * time.Millisecond, idle: 150 * time.Millisecond, conns: 16}

func (r *running) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(r.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// closedAfter reads until the server ends the connection.
func closedAfter(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	started := time.Now()
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the server never closed the connection")
	return time.Since(started)
}

func TestSlowLoris(t *testing.T) {
	store := &fakeStore{changed: 1}
	s := start(t, Config{}, someOptions(store), short)
	for name, text := range map[string]string{
		"nothing":        "",
		"half a header":  "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-",
		"half a body":    "POST /parcels/drop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"endless chunks": "POST /parcels/drop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.dial()
			_, err := io.WriteString(conn, text)
			require.NoError(t, err)
			require.Less(t, closedAfter(t, conn), 10*time.Second)
		})
	}
	require.Empty(t, store.filters)
}

func TestIdleConnectionsEnd(t *testing.T) {
	s := start(t, Config{}, someOptions(nil), short)
	conn := s.dial()
	_, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	require.Less(t, closedAfter(t, conn), 10*time.Second)
}

// A client that does not read its answer must not hold the server.
func TestSlowReader(t *testing.T) {
	large := parcel(1, "site", event.ParcelDead)
	large.Raw = []byte(`"` + strings.Repeat("x", 512<<10) + `"`)
	limit := short
	limit.write = 4 * time.Second // making the answer takes a part of it
	s := prepared(t, Config{}, someOptions(&fakeStore{parcels: []event.Parcel{large}}), limit)
	s.http.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		placed := reflect.ValueOf(conn).Elem().FieldByName("Conn") // of the listener with places
		require.NoError(t, placed.Interface().(*net.TCPConn).SetWriteBuffer(4<<10))
		return ctx
	}
	s.serve()
	conn := s.dial()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err := io.WriteString(conn, "GET /parcels/"+large.ID+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	first := make([]byte, 1)
	_, err = io.ReadFull(conn, first)
	require.NoError(t, err)
	require.Len(t, s.looks, 1, "the answer fits into no buffer")
	require.Eventually(t, func() bool { return len(s.looks) == 0 }, 20*time.Second, 5*time.Millisecond)
}

func TestOversized(t *testing.T) {
	store := &fakeStore{changed: 1}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	got := s.post("/parcels/drop", `{"error":"`+strings.Repeat("x", maxBody)+`"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
	require.Contains(t, got.body, "larger than 1048576 bytes")
	require.Empty(t, store.filters)

	conn := s.dial()
	_, err := fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", 2*maxHeader))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}

// shortWrite has room for a busy machine before a handler asks for more time.
var shortWrite = limits{header: 10 * time.Second, read: 20 * time.Second, write: 2 * time.Second, idle: time.Minute, conns: 16}

// What takes long on purpose is not ended by the limits of an ordinary request.
func TestProfilesOutlastTheLimits(t *testing.T) {
	s := start(t, Config{Pprof: true}, someOptions(nil), shortWrite)
	started := time.Now()
	got := s.get("/debug/pprof/trace?seconds=3")
	require.Equal(t, 200, got.status)
	require.GreaterOrEqual(t, time.Since(started), 3*time.Second)
	require.NotEmpty(t, got.body)
}

func TestLongChangesOutlastTheLimits(t *testing.T) {
	store := &slowStore{fakeStore: &fakeStore{}, time: 3 * time.Second}
	opts := someOptions(nil)
	opts.Parcels = store
	s := start(t, Config{}, opts, shortWrite)
	got := s.post("/parcels/replay", `{"all":true}`)
	require.Equal(t, 200, got.status)
	require.JSONEq(t, `{"parcels":1}`, got.body)
}

// slowStore replays for a while.
type slowStore struct {
	*fakeStore
	time time.Duration
}

func (s *slowStore) Replay(ctx context.Context, _ Filter) (int64, error) {
	timer := time.NewTimer(s.time)
	defer timer.Stop()
	select {
	case <-timer.C:
		return 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Whoever keeps connections, a new one gets a place, and an answer.
func TestProbesGetThrough(t *testing.T) {
	limit := defaultLimits
	limit.conns = 4
	s := start(t, Config{}, someOptions(nil), limit)
	for i := range 40 {
		conn := s.dial()
		if i%2 == 0 { // never ends its header
			_, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-")
			require.NoError(t, err)
		}
		if i%5 == 0 {
			require.Equal(t, http.StatusOK, s.get("/livez").status)
		}
	}
	metrics := s.get("/metrics").body
	require.Regexp(t, `vodrelay_connections_closed_total{reason="replaced",server="admin"} [1-9]`, metrics)
	require.Regexp(t, `vodrelay_connections{server="admin"} [1-4]\n`, metrics)
}
