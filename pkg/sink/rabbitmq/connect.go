package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

const frameSize = 128 << 10 // RabbitMQ's own default of frame_max

// fileError is a file of ours that spoils a login, told apart from what the other side does.
type fileError struct{ error }

func (f *fileError) Unwrap() error { return f.error }

// missingError is a part of the topology that is not there.
type missingError struct {
	what string // such as exchange "vod"
	err  error
}

func (m *missingError) Error() string { return m.what + " does not exist" }
func (m *missingError) Unwrap() error { return m.err }

// socket remembers what ended it, of which the client only keeps the text.
type socket struct {
	net.Conn          // TLS, if there is any
	raw      net.Conn // below it

	mu  sync.Mutex
	err error
}

// Close ends it at once, even while a Write hangs.
func (s *socket) Close() error { return s.raw.Close() }

func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.note(err)
	return n, err
}

func (s *socket) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	s.note(err)
	return n, err
}

func (s *socket) note(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// end is what ended the socket, nil if nothing has.
func (s *socket) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// dial connects to the first address that answers, logs in and checks the topology. It makes a connection
// that publishes only once it is started.
func (s *Sink) dial(ctx context.Context) (*connection, error) {
	var err error
	for _, address := range s.cfg.Addresses {
		var c *connection
		if address, err = s.cfg.hostPort(address); err != nil {
			return nil, err
		}
		if c, err = s.dialOne(ctx, address); err == nil {
			return c, nil
		}
		err = &neterr.DialError{Address: address, Err: err}
		var missing *missingError
		if ctx.Err() != nil || errors.As(err, &missing) { // another node of the cluster has the same
			break
		}
	}
	return nil, err
}

func (s *Sink) dialOne(parent context.Context, address string) (_ *connection, err error) {
	ctx, cancel := context.WithTimeout(parent, s.cfg.ConnectTimeout)
	defer cancel()
	raw, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, inTime(ctx, err)
	}
	defer func() {
		if err == nil {
			return
		}
		_ = raw.Close()
		err = inTime(ctx, err)
	}()
	// The client knows no contexts.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	wire := &socket{Conn: raw, raw: raw}
	if s.tls != nil {
		cfg := s.tls.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(raw, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		wire.Conn = secure
	}
	login, err := s.login()
	if err != nil {
		return nil, err
	}
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("vodrelay")
	client, err := amqp.Open(wire, amqp.Config{
		SASL:       []amqp.Authentication{login},
		Vhost:      s.cfg.VHost,
		Heartbeat:  s.cfg.Heartbeat,
		FrameSize:  frameSize,
		Locale:     "en_US",
		Properties: properties,
	})
	if err != nil {
		return nil, closedBy(wire, err)
	}
	if err := s.checkTopology(client); err != nil {
		return nil, closedBy(wire, err)
	}
	c, err := newConnection(client, wire)
	if err != nil {
		return nil, closedBy(wire, err)
	}
	return c, nil
}

// inTime is err, or that the time for it is over, which shows in many ways.
func inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &connectError{errors.Join(ctx.Err(), err)}
	}
	return err
}

// connectError is a connection that took too long.
type connectError struct{ error }

func (c *connectError) Unwrap() error { return c.error }

// lostError is a connection that ended, for what the socket says. The client's own error has only its text.
type lostError struct{ end, err error }

func (l *lostError) Error() string { return l.end.Error() + " (" + l.err.Error() + ")" }
func (l *lostError) Unwrap() error { return l.end }

// closedBy is err, or the lostError that it stands for. After a refused login RabbitMQ just closes the
// connection; only then the client's own error says more.
func closedBy(wire *socket, err error) error {
	var answer *amqp.Error
	if end := wire.end(); end != nil && errors.As(err, &answer) && !answer.Server && answer != amqp.ErrCredentials {
		return &lostError{end, err}
	}
	return err
}

func (s *Sink) login() (amqp.Authentication, error) {
	if s.cfg.Mechanism == external {
		return &amqp.ExternalAuth{}, nil
	}
	password := s.cfg.Password
	if s.password != nil {
		var err error
		if password, err = s.password.Get(); err != nil {
			return nil, &fileError{err}
		}
	}
	return &amqp.PlainAuth{Username: s.cfg.Username, Password: password}, nil
}

// checkTopology looks for the exchange if it is the same for all events, and with the default exchange for
// the queue. It declares nothing: what is there is a matter of those who read.
func (s *Sink) checkTopology(client *amqp.Connection) error {
	channel, err := client.Channel()
	if err != nil {
		return err
	}
	what := ""
	switch {
	case s.cfg.Exchange != "":
		what = fmt.Sprintf("exchange %q", s.cfg.Exchange)
		err = channel.ExchangeDeclarePassive(s.cfg.Exchange, amqp.ExchangeDirect, true, false, false, false, nil)
	case s.exchange == nil && s.routingKey == nil:
		what = fmt.Sprintf("queue %q", s.cfg.RoutingKey)
		_, err = channel.QueueDeclarePassive(s.cfg.RoutingKey, true, false, false, false, nil)
	}
	var answer *amqp.Error
	if errors.As(err, &answer) {
		switch answer.Code {
		case amqp.NotFound:
			return &missingError{what, err}
		case amqp.ResourceLocked: // an exclusive queue, which is there
			return nil
		}
	}
	if err != nil {
		return err
	}
	return channel.Close()
}
