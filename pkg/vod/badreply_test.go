package vod

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// raw answers each request on a connection with the same bytes and closes it.
func raw(t *testing.T, bytes string) *memory {
	m := newMemory()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := m.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, bytes)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = m.Close(); <-ended })
	return m
}

func reply200(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// Each of these is an error that may pass, with a short text that repeats, and nothing of the body in it.
func TestBadReplies(t *testing.T) {
	t.Parallel()
	const leak = "BODYTEXT"
	for _, row := range []struct{ name, wire, want string }{
		{"null", reply200("null"), "the reply has no Response object"},
		{"empty", reply200(""), "the reply is empty"},
		{"braces", reply200("{}"), "the reply has no Response object"},
		{"no request id", reply200(`{"Response":{}}`), "the reply has no RequestId"},
		{"event set of another type", reply200(`{"Response":{"EventSet":{"a":"` + leak + `"},"RequestId":"r"}}`), "the reply's EventSet is not a list"},
		{"html", "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 13\r\n\r\n<b>BODYTEXT</", "the reply is not valid JSON (text/html)"},
		{"html 502", "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n<b>BODYTEXT<", "HTTP 502 Bad Gateway instead of a reply of the API (text/html)"},
		{"json 502", "HTTP/1.1 502 Oops BODYTEXT\r\nContent-Length: 2\r\n\r\n{}", "HTTP 502 Bad Gateway instead of a reply of the API"},
		{"success with 500", strings.Replace(reply200(oneEvent), "200 OK", "500 X", 1), "HTTP 500 Internal Server Error instead of a reply of the API"},
		{"429", "HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", "HTTP 429 Too Many Requests instead of a reply of the API"},
		{"redirect", "HTTP/1.1 307 X\r\nLocation: http://other.example/BODYTEXT\r\nContent-Length: 0\r\n\r\n", "HTTP 307 Temporary Redirect instead of a reply of the API"},
		{"404", "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", "HTTP 404 Not Found instead of a reply of the API"},
		{"unknown status", "HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n", "HTTP 599 instead of a reply of the API"},
		{"truncated JSON", reply200(oneEvent[:len(oneEvent)-20]), "the reply is cut short"},
		{"cut in the middle", reply200(oneEvent)[:len(reply200(oneEvent))-20], "the connection was closed in the middle of the reply"},
		{"cut chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Res\r\n", "the connection was closed in the middle of the reply"},
		{"no reply", "", "the connection was closed without a reply"},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-", "malformed MIME header: missing colon"},
		{"not HTTP", "BODYTEXT BODYTEXT BODYTEXT\r\n\r\n", "the server does not speak HTTP"},
		{"huge", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{", "the reply is larger than 67108864 bytes"},
		{"unsupported encoding", "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 8\r\n\r\nBODYTEXT", "the reply's Content-Encoding"},
		{"broken gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 16\r\n\r\nBODYTEXTBODYTEXT", "gzip: invalid header"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, raw(t, row.wire), testConfig())
			got, err := c.Queue(0).Pull(context.Background())
			require.EqualError(t, err, "PullEvents: "+row.want)
			require.Nil(t, got)
			require.False(t, retry.IsPermanent(err))
			require.NotContains(t, err.Error(), leak)
			require.NotContains(t, fmt.Sprintf("%+v %#v", err, err), leak)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Empty(t, e.Code)

			err = c.Queue(0).Confirm(context.Background(), []string{"a"})
			if row.name != "event set of another type" {
				want := strings.Replace(row.want, "67108864", "1048576", 1) // no other reply may be as large
				require.EqualError(t, err, "ConfirmEvents: "+want, "a confirm must not believe it either")
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"7": 7 * time.Second, "": time.Second, "-1": time.Second, "99999": maxDelay, "x": time.Second, "99999999999999999999": time.Second} {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		_, err := c.Queue(0).Pull(context.Background())
		require.Equal(t, want, retry.Delay(err), value)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ex := &exchange{receivedAt: at, header: http.Header{"Retry-After": {at.Add(9 * time.Second).Format(http.TimeFormat)}}}
	require.Equal(t, 9*time.Second, retryAfter(ex))
	ex.receivedAt = at.Add(time.Hour)
	require.Zero(t, retryAfter(ex))

	// The API's own code counts even with another status.
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, apiError("RequestLimitExceeded", "21 of 20"))
	})
	_, err := c.Queue(0).Pull(context.Background())
	require.EqualError(t, err, "PullEvents: RequestLimitExceeded")
	require.Equal(t, 3*time.Second, retry.Delay(err))
}

func TestGzip(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, oneEvent)
		_ = z.Close()
	})
	got, err := c.Queue(0).Pull(context.Background())
	require.NoError(t, err)
	require.Len(t, got, 1)
}

// The limit counts what a reply unpacks to, whatever length it announces.
func TestReplyLimit(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.WriteString(z, `{"Response":{"X":"`)
	_, _ = z.Write(bytes.Repeat([]byte("x"), 3<<20))
	_, _ = io.WriteString(z, `","RequestId":"r"}}`)
	_ = z.Close()
	bombs := func(maxBytes int64) *Queue {
		cfg := testConfig()
		cfg.MaxReplyBytes = maxBytes
		return newClient(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		})), cfg).Queue(0)
	}
	_, err := bombs(1 << 20).Pull(t.Context())
	require.EqualError(t, err, "PullEvents: the reply is larger than 1048576 bytes")
	require.Contains(t, retry.Hint(err), "max_reply_bytes")
	q := bombs(8 << 20)
	_, err = q.Pull(t.Context())
	require.NoError(t, err)
	err = q.Confirm(t.Context(), []string{"a"})
	require.EqualError(t, err, "ConfirmEvents: the reply is larger than 1048576 bytes", "no other reply is large")
	require.Contains(t, retry.Hint(err), "vod.endpoint")
}

// Large replies are in memory a few at a time, with an announced length or without one; small ones pass by.
func TestLargeRepliesWaitForEachOther(t *testing.T) {
	t.Parallel()
	for _, announced := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			const max = 2 << 20
			large := `{"Response":{"X":"` + strings.Repeat("x", max-100) + `","EventSet":null,"RequestId":"r"}}`
			var calls, begun atomic.Int32
			cfg := testConfig()
			cfg.MaxReplyBytes, cfg.ReadTimeout = max, 20*time.Second
			end := make(chan struct{})
			c := newClient(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) > 8 {
					write(w, okReply)
					return
				}
				if announced {
					w.Header().Set("Content-Length", strconv.Itoa(len(large)))
				}
				if _, err := io.WriteString(w, large[:max-200]); err != nil {
					return
				}
				begun.Add(1)
				<-end
				_, _ = io.WriteString(w, large[max-200:])
			})), cfg)
			var pulls sync.WaitGroup
			for range 8 {
				pulls.Go(func() {
					if _, err := c.Queue(0).Pull(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			require.EqualValues(t, largeReplies, begun.Load())
			require.NoError(t, c.Queue(0).Confirm(t.Context(), []string{"a"}))
			close(end)
			pulls.Wait()
		})
	}
}

func TestServerMessageIsTamed(t *testing.T) {
	t.Parallel()
	c := client(t, answer(apiError("InternalError", "line\nbreak \x1b[31m"+strings.Repeat("x", 100000))))
	_, err := c.Queue(0).Pull(context.Background())
	require.Less(t, len(err.Error()), 600)
	require.NotContains(t, err.Error(), "\n")
	require.NotContains(t, err.Error(), "\x1b")
}

func TestReset(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	defer func() { _ = listener.Close(); <-ended }()
	cfg := testConfig()
	cfg.Endpoint = "http://" + listener.Addr().String()
	c, err := New(cfg)
	require.NoError(t, err)
	defer c.Close()
	for range 3 {
		_, err = c.Queue(0).Pull(context.Background())
		require.EqualError(t, err, "PullEvents: read: connection reset by peer")
	}
}

// Events that are not as documented come between others: they are reported once, and not once for each.
func TestUnreadableEventsAreReportedOnce(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	n := 0
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		item := `{"EventHandle":"h","EventType":"FileDeleted","FileDeleteEvent":{}}`
		if n%2 == 0 {
			item = `{"EventType":"FileDeleted","FileDeleteEvent":{}}` // no handle
		}
		write(w, `{"Response":{"EventSet":[`+item+`],"RequestId":"r"}}`)
	}, WithLogger(zap.New(core)))
	q := c.Queue(1500000001)
	for range 100 {
		got, err := q.Pull(t.Context())
		require.NoError(t, err)
		require.Len(t, got, 1)
	}
	require.Len(t, logs.FilterMessageSnippet("cannot be confirmed").All(), 1)
}
