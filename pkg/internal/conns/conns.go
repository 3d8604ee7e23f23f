// Package conns gives connections an age. A name that moves to another address is looked up when a connection is made, so
// one that is always busy would keep to the old address for as long as that answers.
package conns

import (
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// MaxAge is how old a connection gets: its request in flight is the last one.
	MaxAge = 5 * time.Minute
	// Jitter is how much less it may be, so that the connections of many do not end at the same moment.
	Jitter = time.Minute
)

// HTTP is an http.RoundTripper whose connections are replaced, all at once, when the oldest may reach MaxAge, and by Renew.
// Requests in flight end on their old connections, which are closed after them. It is safe for concurrent use.
type HTTP struct {
	now    atomic.Pointer[generation]
	closed atomic.Bool
}

// generation is the transport of the connections that began in one span of time.
type generation struct {
	*http.Transport
	until time.Time // new requests use the next one
}

// NewHTTP takes its settings from t, which nothing else may use from then on.
func NewHTTP(t *http.Transport) *HTTP {
	h := &HTTP{}
	h.now.Store(next(t))
	return h
}

func next(t *http.Transport) *generation {
	return &generation{t, time.Now().Add(MaxAge - rand.N(Jitter))} //nolint:gosec // nothing to guess
}

// RoundTrip sends req over a connection that is not too old.
func (h *HTTP) RoundTrip(req *http.Request) (*http.Response, error) {
	g := h.now.Load()
	if !time.Now().Before(g.until) {
		h.replace(g)
		g = h.now.Load()
	}
	res, err := g.RoundTrip(req)
	if err != nil {
		h.tidy(g)
		return nil, err
	}
	res.Body = &body{res.Body, func() { h.tidy(g) }}
	return res, nil
}

// Renew has the next requests go over new connections: those that are kept may lead to where the name was before.
func (h *HTTP) Renew() { h.replace(h.now.Load()) }

func (h *HTTP) replace(old *generation) {
	if h.now.CompareAndSwap(old, next(old.Clone())) {
		old.CloseIdleConnections()
	}
}

// CloseIdleConnections closes the connections that are not in use, and the others when they are not any more. Call it at
// the end.
func (h *HTTP) CloseIdleConnections() {
	h.closed.Store(true)
	h.now.Load().CloseIdleConnections()
}

// tidy comes after each exchange: a connection of g that is idle now is not used again if g is over.
func (h *HTTP) tidy(g *generation) {
	if h.closed.Load() || g != h.now.Load() {
		g.CloseIdleConnections()
	}
}

// body is a response's, which is in the way of its connection's end.
type body struct {
	io.ReadCloser
	closed func()
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.closed()
	return err
}
