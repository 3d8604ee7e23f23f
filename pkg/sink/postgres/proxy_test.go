package postgres

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between the sink and a server's unix socket, on a TCP port.
type proxy struct {
	socket  string
	address string
	tls     *tls.Config                   // nil: TLS is refused, as PostgreSQL does on a unix socket
	stalled atomic.Pointer[chan struct{}] // replies are kept until it is closed
	strands atomic.Int32                  // replies over what was connected before the latest are lost

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	all      sync.WaitGroup
}

func newProxy(t *testing.T, socket string, tls ...*tls.Config) *proxy {
	p := &proxy{socket: socket, address: "127.0.0.1:0", conns: make(map[net.Conn]bool)}
	if len(tls) > 0 {
		p.tls = tls[0]
	}
	p.start(t)
	t.Cleanup(p.stop)
	return p
}

func (p *proxy) start(t *testing.T) {
	listener, err := net.Listen("tcp", p.address)
	require.NoError(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address, p.listener = listener.Addr().String(), listener
	p.all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.serve(client) })
		}
	})
}

// stop refuses connections and ends those that there are.
func (p *proxy) stop() {
	p.mu.Lock()
	_ = p.listener.Close()
	p.mu.Unlock()
	p.cut()
	p.all.Wait()
}

// cut ends the connections wherever they are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// stall keeps the server's replies back.
func (p *proxy) stall() (resume func()) {
	resumed := make(chan struct{})
	p.stalled.Store(&resumed)
	return func() { p.stalled.Store(nil); close(resumed) }
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	if p.tls != nil {
		request := make([]byte, 8) // SSLRequest
		if _, err := io.ReadFull(client, request); err != nil {
			return
		}
		if _, err := client.Write([]byte("S")); err != nil {
			return
		}
		client = tls.Server(client, p.tls)
	}
	server, err := net.Dial("unix", p.socket)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, server)
	}()
	p.all.Go(func() {
		defer server.Close()
		defer client.Close()
		_, _ = io.Copy(server, client)
	})
	buf, strands := make([]byte, 32<<10), p.strands.Load()
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if p.strands.Load() > strands {
			continue
		}
		if resumed := p.stalled.Load(); resumed != nil {
			<-*resumed
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// url is the address of the database at direct, through the proxy.
func (p *proxy) url(direct string) string {
	database, _, _ := strings.Cut(strings.TrimPrefix(direct, "postgres://postgres@/"), "?")
	return "postgres://postgres:s3cr3t-pw@" + p.address + "/" + database + "?sslmode=disable"
}
