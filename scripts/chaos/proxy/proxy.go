// Package proxy stands between two processes and spoils the TCP connections between them: delay, loss, resets, lost
// replies, half-open connections, partitions in one direction, little bandwidth. What it did, and when, is in its log.
//
// Its choices come from a seed: the n-th chunk of bytes of the n-th connection has the same fate in each run, as far
// as the processes send the same bytes in the same chunks.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const dialLimit = 5 * time.Second

// Proxy forwards connections to one target. All its methods may be called at any time, from any goroutine.
type Proxy struct {
	target string
	seed   uint64
	addr   *net.TCPAddr
	guard  int // a socket that keeps the port while the proxy refuses connections
	log    log
	life   context.Context //nolint:containedctx // it is that of the goroutines, not of a call
	end    context.CancelFunc
	owned  sync.WaitGroup

	mu       sync.Mutex
	now      *state
	listener net.Listener // nil while it refuses connections
	links    map[*link]struct{}
	count    int // connections so far
	closed   bool
}

// state is a fault in force; over is closed when another takes its place.
type state struct {
	Fault
	over chan struct{}
}

// New listens on a free port of this machine and forwards to target.
func New(target string, seed uint64) (*Proxy, error) {
	guard, addr, err := reserve()
	if err != nil {
		return nil, fmt.Errorf("a port for the proxy: %w", err)
	}
	p := &Proxy{target: target, seed: seed, guard: guard, addr: addr, now: &state{over: make(chan struct{})}, links: make(map[*link]struct{})}
	p.life, p.end = context.WithCancel(context.Background())
	if err := p.listen(); err != nil {
		p.end()
		return nil, errors.Join(err, unix.Close(guard))
	}
	return p, nil
}

// reserve binds a port without listening: who connects to it is refused, and nobody else gets it.
func reserve() (fd int, addr *net.TCPAddr, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		return 0, nil, errors.Join(err, unix.Close(fd))
	}
	return fd, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}, nil
}

// listen begins to accept. The caller holds mu, or is alone.
func (p *Proxy) listen() error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(err, failed)
	}}
	listener, err := config.Listen(p.life, "tcp4", p.addr.String())
	if err != nil {
		return err
	}
	p.listener = listener
	p.owned.Go(func() { p.accept(listener) })
	return nil
}

// Addr is where the proxy listens, as host:port.
func (p *Proxy) Addr() string { return p.addr.String() }

// Set has f take the place of the fault in force, for the connections there are and for those that come.
func (p *Proxy) Set(f Fault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	close(p.now.over)
	p.now = &state{Fault: f, over: make(chan struct{})}
	hit := make([]int, 0, len(p.links))
	for l := range p.links {
		hit = append(hit, l.number)
		if f.HalfOpen {
			l.dead.Store(true)
		}
	}
	p.log.change(f, hit)
	if f.Refuse == (p.listener == nil) {
		return nil
	}
	if f.Refuse {
		err := p.listener.Close()
		p.listener = nil
		return err
	}
	return p.listen()
}

// Clear ends the fault in force.
func (p *Proxy) Clear() error { return p.Set(Fault{}) }

// Reset ends all connections with an RST to both sides.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	hit := make([]int, 0, len(p.links))
	for l := range p.links {
		hit = append(hit, l.number)
		l.reset()
	}
	p.log.moment("reset all", hit...)
}

// Connections is how many connections there are.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Log is what the proxy did and saw so far. Until is zero where it goes on.
func (p *Proxy) Log() []Record { return p.log.all() }

// Close ends all connections and returns when nothing of the proxy runs any more.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	err := unix.Close(p.guard)
	if p.listener != nil {
		err = errors.Join(err, p.listener.Close())
	}
	for l := range p.links {
		l.reset()
	}
	p.end()
	p.mu.Unlock()
	p.owned.Wait()
	p.log.change(Fault{}, nil)
	return err
}

func (p *Proxy) state() *state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err == nil {
			p.take(conn.(*net.TCPConn))
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select { // out of descriptors, for one
		case <-time.After(10 * time.Millisecond):
		case <-p.life.Done():
			return
		}
	}
}

// take makes a link of an accepted connection.
func (p *Proxy) take(client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		hardClose(client)
		return
	}
	p.count++
	l := &link{proxy: p, number: p.count, client: client, ended: make(chan struct{})}
	l.dead.Store(p.now.HalfOpen)
	p.links[l] = struct{}{}
	p.log.hit(l.number)
	p.owned.Go(func() {
		l.run()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	})
}
