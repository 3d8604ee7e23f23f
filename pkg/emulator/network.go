package emulator

import (
	"context"
	"net"
	"sync"
)

// Network is a network inside the process: a listener for a server and a
// dialer for its clients. It uses no sockets, so that both run inside a
// testing/synctest bubble.
type Network struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewNetwork returns an open network. Call it inside the bubble that uses it.
func NewNetwork() *Network {
	return &Network{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept waits for a client. After Close it returns net.ErrClosed.
func (n *Network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and DialContext. Open connections stay open.
func (n *Network) Close() error {
	n.once.Do(func() { close(n.done) })
	return nil
}

// Addr returns an address that names no host.
func (n *Network) Addr() net.Addr { return networkAddr{} }

// DialContext connects to the listener whatever the address says. It fits
// http.Transport.DialContext, and waits until the connection is accepted.
func (n *Network) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	var err error
	select {
	case n.conns <- server:
		return client, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-n.done:
		err = net.ErrClosed
	}
	_ = client.Close()
	_ = server.Close()
	return nil, &net.OpError{Op: "dial", Net: "emulator", Err: err}
}

type networkAddr struct{}

func (networkAddr) Network() string { return "emulator" }
func (networkAddr) String() string  { return "emulator" }
