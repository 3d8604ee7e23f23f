package nats

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

const (
	// A server that vanished is noticed within 30 s: by the second ping without an answer.
	pingInterval = 10 * time.Second
	pingsOut     = 2
	writeTimeout = 5 * time.Second
	keepAlive    = 30 * time.Second
)

var errClosed = errors.New("the sink is closed")

// link is the connection: made when somebody needs it, and made anew when it was lost. The client's own
// reconnecting is off, since it keeps the reasons of its failures to itself and what it read of some files.
type link struct {
	cfg     Config
	denied  func(subject string) // is told of subjects that the user may not use
	life    context.Context      // ends with close
	end     context.CancelFunc
	dialing sync.WaitGroup

	mu     sync.Mutex
	conn   *connection
	next   *attempt // under way
	closed bool
}

type connection struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// attempt is one try to connect, for all that wait for it.
type attempt struct {
	done chan struct{}
	conn *connection // these may be read once done is closed
	err  error
}

func newLink(cfg Config, denied func(subject string)) *link {
	l := &link{cfg: cfg, denied: denied}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

// get returns the connection, or the reason why there is none.
func (l *link) get(ctx context.Context) (*connection, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, errClosed
	}
	if l.conn != nil && l.conn.nc.IsConnected() {
		defer l.mu.Unlock()
		return l.conn, nil
	}
	a := l.next
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		l.next = a
		l.dialing.Add(1)
		go l.dial(a)
	}
	l.mu.Unlock()
	select {
	case <-a.done:
		return a.conn, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) dial(a *attempt) {
	defer l.dialing.Done()
	defer close(a.done)
	a.conn, a.err = l.connect()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = nil
	switch {
	case a.err != nil:
	case l.closed:
		a.conn.nc.Close()
		a.conn, a.err = nil, errClosed
	default:
		if l.conn != nil {
			l.conn.nc.Close()
		}
		l.conn = a.conn
	}
}

func (l *link) connect() (*connection, error) {
	d := &dialer{life: l.life, timeout: l.cfg.ConnectTimeout, addresses: l.cfg.addresses(), failed: make(map[string]error)}
	opts, err := l.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(strings.Join(l.cfg.Servers, ","), append(opts, nats.SetCustomDialer(d))...)
	if err != nil {
		if errors.Is(err, nats.ErrNoServers) && len(d.failed) > 0 {
			err = d.failed[slices.Min(slices.Collect(maps.Keys(d.failed)))] // always the same one: the client's order changes
		}
		return nil, err
	}
	var js jetstream.JetStream
	if l.cfg.Domain != "" {
		js, err = jetstream.NewWithDomain(nc, l.cfg.Domain)
	} else {
		js, err = jetstream.New(nc)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &connection{nc, js}, nil
}

// addresses are the servers as the configuration has them. No others are connected to.
func (c Config) addresses() neterr.Source {
	s := neterr.Source{Configured: make(map[string]string)}
	for _, server := range c.Servers {
		if u, err := url.Parse(server); err == nil { // was validated
			port := u.Port()
			if port == "" {
				port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
			}
			s.Configured[net.JoinHostPort(u.Hostname(), cmp.Or(port, "4222"))] = redact.Address(server)
		}
	}
	return s
}

// options reads the files.
func (l *link) options() ([]nats.Option, error) {
	c := l.cfg
	opts := []nats.Option{
		nats.Name(c.ClientName),
		nats.NoReconnect(),
		nats.IgnoreDiscoveredServers(), // each connection begins with the configuration
		nats.SkipHostLookup(),          // the dialer does it, and knows the name
		nats.Timeout(c.ConnectTimeout),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsOut),
		nats.CustomInboxPrefix(c.InboxPrefix),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			subject, ok := deniedSubject(err)
			if !ok {
				return
			}
			l.denied(subject)
			// The client subscribes to the answers once: without them the connection is of no use, and stays so when the
			// right is granted.
			if strings.HasPrefix(subject, c.InboxPrefix+".") {
				nc.Close()
			}
		}),
	}
	demanded := c.TLS != (tlsconf.Config{})
	for _, server := range c.Servers {
		demanded = demanded || strings.HasPrefix(server, "tls://") || strings.HasPrefix(server, "wss://")
	}
	if demanded {
		cfg, err := c.TLS.Load()
		if err != nil {
			return nil, &fileError{err}
		}
		opts = append(opts, nats.Secure(cfg))
	}
	login, err := c.login()
	if login != nil {
		opts = append(opts, login)
	}
	return opts, err
}

// fileError is a file of ours that spoils the login, told apart from what the other side does.
type fileError struct{ error }

func (f *fileError) Unwrap() error { return f.error }

// login is nil where there is none.
func (c Config) login() (nats.Option, error) {
	secret := func(key, path, text string) (string, error) {
		if path == "" {
			return text, nil
		}
		text, err := secretfile.New(key, path).Get()
		if err != nil {
			return "", &fileError{err}
		}
		return text, nil
	}
	switch {
	case c.CredentialsFile != "":
		// The client's own error for a file that is gone comes from amid the login.
		if _, err := secret("credentials_file", c.CredentialsFile, ""); err != nil {
			return nil, err
		}
		return nats.UserCredentials(c.CredentialsFile), nil
	case c.NKeyFile != "":
		if _, err := secret("nkey_file", c.NKeyFile, ""); err != nil {
			return nil, err
		}
		option, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil { // which may show the content
			return nil, &fileError{errors.New("nkey_file: " + c.NKeyFile + " holds no seed of an NKey, SU...")}
		}
		return option, nil
	case c.Username != "":
		password, err := secret("password_file", c.PasswordFile, c.Password)
		return nats.UserInfo(c.Username, password), err
	case c.Token != "" || c.TokenFile != "":
		token, err := secret("token_file", c.TokenFile, c.Token)
		return nats.Token(token), err
	}
	return nil, nil
}

// drop ends a connection that is of no more use.
func (l *link) drop(conn *connection) {
	l.mu.Lock()
	if l.conn == conn {
		l.conn = nil
	}
	l.mu.Unlock()
	conn.nc.Close()
}

// renew ends the connection, so that the next one begins without the states of this one.
func (l *link) renew() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		l.drop(conn)
	}
}

// close ends the connection, and the attempt to make one.
func (l *link) close() {
	l.end()
	l.mu.Lock()
	conn := l.conn
	l.conn, l.closed = nil, true
	l.mu.Unlock()
	if conn != nil {
		conn.nc.Close()
	}
	l.dialing.Wait()
}

// dialer ends its connections with life, and remembers why others failed.
type dialer struct {
	life      context.Context //nolint:containedctx // the client's interface has none
	timeout   time.Duration
	addresses neterr.Source
	failed    map[string]error // by address
}

// Dial is called by the client, from one goroutine.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: d.timeout, KeepAlive: keepAlive}).DialContext(d.life, network, address)
	if err != nil {
		err = d.addresses.Failed(address, err)
		d.failed[address] = err
		return nil, err
	}
	stop := context.AfterFunc(d.life, func() { _ = conn.Close() })
	return &dialed{conn, stop}, nil
}

type dialed struct {
	net.Conn
	stop func() bool
}

func (d *dialed) Close() error {
	d.stop()
	return d.Conn.Close()
}
