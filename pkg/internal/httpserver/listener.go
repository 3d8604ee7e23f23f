// Package httpserver is what vodrelay's HTTP servers share against strangers: a listener with a bounded number
// of places that nobody can keep from others, and the rule by which a foreign web page is known.
package httpserver

import (
	"cmp"
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits is who gets a place at a Listener.
type Limits struct {
	// Most is how many connections have a place, at least 1. When all are taken, a new connection gets the place
	// of the one that has been without a request for longest, or where none was for a second, of the one whose
	// request has lasted for longest; see Keep.
	Most int
	// Admit says who may connect; anybody else's connection is closed at once and takes no place. nil: everybody.
	Admit func(netip.Addr) bool
	// Many says behind which addresses there are many clients, such as a proxy's: they may have all places. Any
	// other address but the loopback ones may have half of them; an IPv6 address counts with its whole /64.
	// nil: none.
	Many func(netip.Addr) bool
	// Closed is called with the connections that were closed for each reason since its last call: with the first
	// one, and then once a minute at most. from is the last one's address. nil: nothing is called.
	Closed func(reason Reason, count int64, from net.Addr)
}

// grace is what a client has to send its request in, while there are others whose requests last for longer than that.
const grace = time.Second

// Reason is why a connection was closed.
type Reason int

// The reasons.
const (
	Stranger Reason = iota // its address may not connect
	Crowded                // its address has as many connections as one may have, and all of them are at work
	Replaced               // it waited, and another one needed its place
	reasons
)

// String is the reason as a label.
func (r Reason) String() string { return [reasons]string{"stranger", "crowded", "replaced"}[r] }

// Stats are the connections now and since the start.
type Stats struct {
	Open   int64 // gauge
	Closed [reasons]int64
}

// state is what a connection is doing.
type state int

const (
	arrived state = iota // and has not sent the header of a request yet
	idle                 // it has had an answer, and has not sent another header yet
	asking               // its header has come: the body may still come, or the answer go
	kept                 // at work that the server wants to end
	states
)

// Listener gives places to connections. Attach the server that serves it.
type Listener struct {
	net.Listener
	limits Limits
	share  int // of one address

	mu      sync.Mutex
	free    *sync.Cond // a place is free, or a connection can be replaced
	closed  bool
	crowd   crowd // all
	clients map[netip.Prefix]*crowd
	stats   Stats
	reports [reasons]struct {
		at    time.Time
		count int64
	}
}

// crowd is connections by what they are doing, the longest at it first.
type crowd struct {
	in   [states]list.List
	size int
}

// Listen makes a Listener of l.
func Listen(l net.Listener, limits Limits) *Listener {
	deepen(l)
	limits.Most = max(limits.Most, 1)
	placed := &Listener{Listener: l, limits: limits, share: max(limits.Most/2, 1), clients: map[netip.Prefix]*crowd{}}
	placed.free = sync.NewCond(&placed.mu)
	return placed
}

// Attach has the server tell its listener what the connections are doing.
func Attach(server *http.Server) {
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, placedConn(c))
	}
	server.ConnState = func(c net.Conn, s http.ConnState) {
		placed := placedConn(c)
		switch {
		case placed == nil:
		case s == http.StateActive:
			placed.enter(asking)
		case s == http.StateIdle:
			placed.enter(idle)
		}
	}
}

type connKey struct{}

// Keep has the request whose context this is keep its connection until release, whoever else wants its place. It
// is for work that was asked for by somebody who may, and whose number has a bound: when every place is kept, new
// connections wait.
func Keep(ctx context.Context) (release func()) {
	c, _ := ctx.Value(connKey{}).(*conn)
	if c == nil {
		return func() {}
	}
	c.enter(kept)
	return func() { c.enter(asking) }
}

// placedConn is the connection that a Listener has returned, also below TLS.
func placedConn(c net.Conn) *conn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	placed, _ := c.(*conn)
	return placed
}

// Stats reads the counters.
func (l *Listener) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats := l.stats
	stats.Open = int64(l.crowd.size)
	return stats
}

// Accept returns the next connection that has got a place.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.take(raw); c != nil {
			return c, nil
		}
	}
}

// Close ends Accept. Connections stay open.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	l.free.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// take gives raw a place, or closes it and returns nil.
func (l *Listener) take(raw net.Conn) *conn {
	addr, known := Addr(raw.RemoteAddr().String())
	if l.limits.Admit != nil && (!known || !l.limits.Admit(addr)) {
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset leaves nothing behind in the kernel
		}
		l.turnAway(raw, Stranger)
		return nil
	}
	c := &conn{Conn: raw, at: l}
	if known && !addr.IsLoopback() && (l.limits.Many == nil || !l.limits.Many(addr)) {
		c.client = network(addr)
	}
	l.mu.Lock()
	var replaced *conn
	for !l.closed {
		// One address gives up its own places first.
		own := l.clients[c.client]
		full := own != nil && own.size >= l.share
		from := &l.crowd
		if full {
			from = own
		} else if l.crowd.size < l.limits.Most {
			break
		}
		if replaced = from.longest(); replaced != nil {
			l.remove(replaced)
			break
		}
		if full {
			l.mu.Unlock()
			l.turnAway(raw, Crowded)
			return nil
		}
		l.free.Wait()
	}
	if l.closed {
		l.mu.Unlock()
		_ = raw.Close()
		return nil
	}
	if c.client.IsValid() && l.clients[c.client] == nil {
		l.clients[c.client] = &crowd{}
	}
	l.add(c, arrived)
	l.mu.Unlock()
	if replaced != nil {
		l.turnAway(replaced.Conn, Replaced)
	}
	return c
}

// turnAway closes what has no place any more.
func (l *Listener) turnAway(raw net.Conn, reason Reason) {
	l.mu.Lock()
	l.stats.Closed[reason]++
	report := &l.reports[reason]
	report.count++
	count, due := report.count, time.Since(report.at) >= time.Minute
	if due {
		report.at, report.count = time.Now(), 0
	}
	l.mu.Unlock()
	_ = raw.Close() // who notices it finds it counted
	if due && l.limits.Closed != nil {
		l.limits.Closed(reason, count, raw.RemoteAddr())
	}
}

// add, remove and the rest below are called under mu.
func (l *Listener) add(c *conn, s state) {
	c.state, c.since, c.placed = s, time.Now(), true
	c.inAll = l.crowd.in[s].PushBack(c)
	l.crowd.size++
	if own := l.clients[c.client]; own != nil {
		c.inOwn = own.in[s].PushBack(c)
		own.size++
	}
}

func (l *Listener) remove(c *conn) {
	c.placed = false
	l.crowd.in[c.state].Remove(c.inAll)
	l.crowd.size--
	if own := l.clients[c.client]; own != nil {
		own.in[c.state].Remove(c.inOwn)
		if own.size--; own.size == 0 {
			delete(l.clients, c.client)
		}
	}
}

// longest is the connection whose place another one may have, nil if there is none: the one that has been without
// a request for longest, if that is a while, else the one whose request has lasted for longest, likewise. Among
// those that all came a moment ago it is one that has had its answer.
func (c *crowd) longest() *conn {
	silent := older(c.first(arrived), c.first(idle))
	asks := c.first(asking)
	for _, candidate := range []*conn{silent, asks} {
		if candidate != nil && time.Since(candidate.since) >= grace {
			return candidate
		}
	}
	return cmp.Or(c.first(idle), older(c.first(arrived), asks))
}

func older(a, b *conn) *conn {
	if a == nil || b != nil && b.since.Before(a.since) {
		return b
	}
	return a
}

func (c *crowd) first(s state) *conn {
	first := c.in[s].Front()
	if first == nil {
		return nil
	}
	placed, _ := first.Value.(*conn)
	return placed
}

// conn is a connection with a place, until it is closed or replaced.
type conn struct {
	net.Conn
	at           *Listener
	client       netip.Prefix // invalid where there is no bound
	state        state
	since        time.Time // in state
	placed       bool
	inAll, inOwn *list.Element
}

func (c *conn) enter(s state) {
	l := c.at
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.placed || c.state == s {
		return
	}
	own := l.clients[c.client] // kept while there are others, or this one
	l.remove(c)
	if own != nil {
		l.clients[c.client] = own
	}
	l.add(c, s)
	l.free.Broadcast()
}

// Close gives the place back.
func (c *conn) Close() error {
	l := c.at
	l.mu.Lock()
	if c.placed {
		l.remove(c)
		l.free.Broadcast()
	}
	l.mu.Unlock()
	return c.Conn.Close()
}

// network is what counts as one address: of IPv6 the /64, since whoever has one address of it has all.
func network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil { // only for a number of bits that the address does not have
		return netip.Prefix{}
	}
	return prefix
}
