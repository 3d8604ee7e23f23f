// Package wire is a TCP proxy that tests put in front of a real server, to cut connections, refuse them, and
// hold answers back without touching the server.
package wire

import (
	"net"
	"sync"
	"testing"
)

// Wire forwards to one server until the test ends.
type Wire struct {
	t       testing.TB
	address string
	work    sync.WaitGroup

	mu       sync.Mutex
	target   string
	listener net.Listener // nil while down
	conns    map[net.Conn]struct{}
	hold     chan struct{} // answers wait for it; nil: they do not
	strands  int
}

// New listens on a free port of 127.0.0.1. target is host:port, or the path of a unix socket.
func New(t testing.TB, target string) *Wire {
	t.Helper()
	w := &Wire{t: t, target: target, address: "127.0.0.1:0", conns: make(map[net.Conn]struct{})}
	w.Up()
	t.Cleanup(func() {
		w.Down()
		w.work.Wait()
	})
	return w
}

// Address is where the wire listens, host:port.
func (w *Wire) Address() string { return w.address }

// Up listens again after Down, on the same port.
func (w *Wire) Up() {
	w.t.Helper()
	listener, err := net.Listen("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener, w.address = listener, listener.Addr().String()
	w.work.Go(func() { w.accept(listener) })
}

// Down ends every connection and refuses new ones until Up.
func (w *Wire) Down() {
	w.mu.Lock()
	if w.listener != nil {
		_ = w.listener.Close()
		w.listener = nil
	}
	if w.hold != nil {
		close(w.hold)
		w.hold = nil
	}
	w.mu.Unlock()
	w.Cut()
}

// Lead has new connections go to another server, as when a name or an address has moved. Those that there are stay.
func (w *Wire) Lead(target string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target = target
}

// Cut ends every connection, whatever is under way on it. New ones work.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.conns {
		_ = conn.Close()
	}
}

// Stall holds back what the server answers until resume is called. What it is sent still reaches it. A Cut
// before resume loses the answers for good.
func (w *Wire) Stall() (resume func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hold := make(chan struct{})
	w.hold = hold
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.hold == hold {
			close(hold)
			w.hold = nil
		}
	}
}

// Strand leaves the connections that there are without any answer, and without an end, as a firewall does that has
// forgotten them. What they are sent still reaches the server. New ones work.
func (w *Wire) Strand() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strands++
}

func (w *Wire) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		network, target := "tcp", w.target
		w.mu.Unlock()
		if target[0] == '/' {
			network = "unix"
		}
		server, err := net.Dial(network, target)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.mu.Lock()
		if w.listener != listener { // Down came in between
			_, _ = client.Close(), server.Close()
			w.mu.Unlock()
			return
		}
		w.conns[client], w.conns[server] = struct{}{}, struct{}{}
		strands := w.strands
		w.mu.Unlock()
		w.work.Go(func() { w.forward(server, client, nil) })
		w.work.Go(func() {
			w.forward(client, server, func() (lost bool) {
				w.mu.Lock()
				hold, lost := w.hold, w.strands > strands
				w.mu.Unlock()
				if hold != nil {
					<-hold
				}
				return lost
			})
		})
	}
}

// forward copies until either side ends. wait, unless nil, is called before each piece, and says whether it is lost.
func (w *Wire) forward(to, from net.Conn, wait func() (lost bool)) {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, conn := range []net.Conn{to, from} {
			_ = conn.Close()
			delete(w.conns, conn)
		}
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if wait != nil && wait() {
			n = 0
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
