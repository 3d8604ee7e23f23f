package vod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/safetext"
	"golang.org/x/sync/semaphore"
)

// DialContext opens a connection, as net.Dialer.DialContext does.
type DialContext func(ctx context.Context, network, address string) (net.Conn, error)

// newTransport is the one set of connections of all pollers and confirms. The SDK's own keeps two idle
// connections per host, so that a third poller would pay for a handshake at every poll.
func newTransport(dial DialContext, proxy *url.URL) *http.Transport {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true, // a dialer of our own would turn it off
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256,
		// VOD closes a connection that was idle for about 60 s; to be first avoids most requests that
		// meet a connection just closed.
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		// A connection that died in silence would otherwise keep all HTTP/2 requests for minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	if t.DialContext == nil {
		t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return t
}

// exchange is one request's limits and what came back. It travels in the request's context, since the SDK
// hands nothing else through to the transport.
type exchange struct {
	replyWithin time.Duration // for the headers, from the start
	readWithin  time.Duration // for the body, from the headers
	maxBytes    int64
	events      bool // the reply holds events
	large       *semaphore.Weighted

	// err is why there is no whole reply.
	err error
	// status is 0 until the headers have arrived, at receivedAt.
	status     int
	header     http.Header
	receivedAt time.Time
	body       []byte // until release
	held       int64  // of large
}

// bodies are used again: they were a sixth of the memory that an event took.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxKept keeps the memory of a rare huge reply from staying in the pool. A full one is about 25 KB.
const maxKept = 64 << 10

// release ends the use of body.
func (ex *exchange) release() {
	if ex.held > 0 {
		ex.large.Release(ex.held)
	}
	if body := ex.body; cap(body) > 0 && cap(body) <= maxKept {
		bodies.Put(&body)
	}
	ex.body = nil
}

type exchangeKey struct{}

var (
	errNoReply  = errors.New("no reply in time")
	errSlowBody = errors.New("the reply did not end in time")
	errTooLarge = errors.New("the reply is too large")
)

// reader is the RoundTripper under the SDK: it reads the reply once, under limits, into the request's
// exchange, and gives the SDK a stand-in. The SDK parses a body five times, turns numbers into float64,
// panics on `null`, and pastes what it cannot parse into its error. It would also follow redirects, with
// the token in the headers.
type reader struct{ base http.RoundTripper }

func (r reader) RoundTrip(req *http.Request) (*http.Response, error) {
	ex, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("vod: a request without an exchange")
	}
	if ex.err = r.read(ex, req); ex.status == 0 {
		return nil, ex.err
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Content-Type": {"application/json"}},
		Body:    io.NopCloser(strings.NewReader("{}")),
		Request: req,
	}, nil
}

func (r reader) read(ex *exchange, req *http.Request) error {
	// A reply that has begun holds events that are leased to us: the caller's end is no reason to throw
	// them away. So the caller's context counts until the headers are here, and the time limits after.
	caller := req.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	defer cancel(nil)
	release := context.AfterFunc(caller, func() { cancel(caller.Err()) })
	defer release()
	timer := time.AfterFunc(ex.replyWithin, func() { cancel(errNoReply) })
	defer timer.Stop()

	// A request has no Idempotency-Key: net/http would send one that had no reply again by itself, and nobody
	// would know that the first one may have leased or confirmed events. What was never written it sends again.
	resp, err := r.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or given up
	ex.receivedAt, ex.status, ex.header = time.Now(), resp.StatusCode, resp.Header
	release()
	timer.Stop()
	slow := time.AfterFunc(ex.readWithin, func() { cancel(errSlowBody) })
	defer slow.Stop()

	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return fmt.Errorf("the reply's Content-Encoding %s was not asked for", safetext.Quote(enc, 32))
	}
	free := *bodies.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	if ex.body, err = ex.readAll(ctx, free, resp.Body, resp.ContentLength); err != nil {
		return cause(ctx, err)
	}
	return nil
}

// cause is the reason why ctx ended, if it did: what the connection reports then is only the consequence.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// readAll reads body to its end, and errTooLarge when that is past maxBytes. size is the announced length, or
// -1. It reads into the memory of free, if that is enough. A reply that gets large waits for its share of
// what all of them may take.
func (ex *exchange) readAll(ctx context.Context, free []byte, body io.Reader, size int64) ([]byte, error) {
	if size > ex.maxBytes {
		return nil, errTooLarge
	}
	buf := slices.Grow(free[:0], int(min(max(size, 0), smallReply)+512))
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > ex.maxBytes:
			return nil, errTooLarge
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return buf, nil
		case err != nil:
			return nil, err
		case len(buf) < cap(buf):
			continue
		case ex.held == 0 && len(buf) >= smallReply:
			share := ex.maxBytes // what has no announced length may have any
			if size >= 0 {
				share = size
			}
			if err := ex.large.Acquire(ctx, share); err != nil {
				return nil, err
			}
			ex.held = share
			if size >= 0 {
				buf = slices.Grow(buf, int(size)-len(buf)+512)
				continue
			}
		}
		buf = append(buf, 0)[:len(buf)]
	}
}
