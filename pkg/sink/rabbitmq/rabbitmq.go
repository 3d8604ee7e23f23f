// Package rabbitmq is the sink that publishes each event as a persistent message to RabbitMQ, or what speaks
// AMQP 0-9-1 like it, such as TDMQ for RabbitMQ. An event counts as accepted when the broker has confirmed it:
// each queue that it was brought to has it, durable queues on their disks.
//
// A message that no queue takes is an error (mandatory), and a transient one: it would be lost otherwise, and
// who has forgotten to bind a queue can do so while the event waits.
//
// In TDMQ for RabbitMQ vhost, users and their permissions are made in the console, and names of exchanges and
// queues have at most 64 letters, digits, dots, dashes and underscores. Source:
// https://www.tencentcloud.com/document/product/1112/43063.
//
// The property message_id is the event's DedupID, in every format, so that a consumer can tell an event that was
// sent again: an event whose confirm was lost is published again.
package rabbitmq

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/renew"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// Sink publishes over one connection, which is made when first needed and made anew when it is lost.
type Sink struct {
	cfg     Config
	brokers string // as errors name them
	expressions
	tls      *tls.Config      // nil: none
	password *secretfile.File // nil: the password is in cfg
	log      *zap.Logger
	watch    renew.Watch

	dialing context.Context // of the attempts to connect
	stop    context.CancelFunc

	mu      sync.Mutex
	current *connection
	attempt *attempt
	closed  bool
	work    sync.WaitGroup
}

// attempt is one to connect, which all Sends wait for together.
type attempt struct {
	done chan struct{}
	c    *connection
	err  error
}

// New makes the sink. It reads the files but does not connect.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sink{cfg: cfg, brokers: redact.Addresses(cfg.Addresses), log: log}
	var err error
	if s.expressions, err = cfg.expressions(); err != nil {
		return nil, err
	}
	if cfg.UseTLS {
		if s.tls, err = cfg.TLS.Load(); err != nil {
			return nil, err
		}
		if cfg.TLS.InsecureSkipVerify {
			log.Warn(tlsconf.InsecureWarning)
		}
	}
	if cfg.PasswordFile != "" {
		s.password = secretfile.New("password_file", cfg.PasswordFile)
	}
	s.dialing, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Send returns nil when the broker has confirmed the message.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	if err := ctx.Err(); err != nil {
		return s.judge(err, nil)
	}
	it, err := s.message(ctx, e)
	if err != nil {
		return err
	}
	c, err := s.connect(ctx)
	if err != nil {
		return s.judge(err, nil)
	}
	err = c.send(ctx, it)
	blocked := c.blocked.Load()
	err = s.judge(err, blocked)
	// A broker that takes nothing for now has what it was sent all the same, and would get it once more.
	if blocked == nil && s.watch.Lasts(err) {
		_ = c.wire.Close()
	}
	return err
}

// connect gives the connection, and makes one where there is none that works.
func (s *Sink) connect(ctx context.Context) (*connection, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	if s.current != nil {
		select {
		case <-s.current.dying:
			s.current = nil
		default:
			defer s.mu.Unlock()
			return s.current, nil
		}
	}
	a := s.attempt
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		s.attempt = a
		s.work.Go(func() { s.try(a) })
	}
	s.mu.Unlock()
	select {
	case <-a.done:
		return a.c, a.err
	case <-ctx.Done():
		return nil, &connectError{ctx.Err()}
	}
}

func (s *Sink) try(a *attempt) {
	a.c, a.err = s.dial(s.dialing)
	s.mu.Lock()
	s.attempt = nil
	closed := s.closed
	if a.err == nil {
		a.c.start()
		if !closed {
			s.current = a.c
		}
	}
	s.mu.Unlock()
	close(a.done)
	if closed && a.err == nil {
		a.c.close(s.dialing)
	}
}

// Check connects with a connection of its own, logs in, and looks for the exchange, or the queue with the
// default exchange, if that is the same for all events. Whether the user may write there, and whether an
// exchange has a queue bound to it, only a message would show.
func (s *Sink) Check(ctx context.Context) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	c, err := s.dial(ctx)
	if err != nil {
		return s.judge(err, nil)
	}
	c.start()
	c.close(ctx)
	return nil
}

// Untested is what Check cannot know.
func (s *Sink) Untested() string {
	return "whether the user may publish, and whether a queue takes what the exchange gets"
}

// Close waits for the confirms of messages whose Sends have given up, and ends the connection. When ctx is
// done first it gives them up, which is an error.
func (s *Sink) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	current := s.current
	s.current = nil
	s.mu.Unlock()
	s.stop()
	left := 0
	if current != nil {
		left = current.close(ctx)
	}
	s.work.Wait()
	if left > 0 {
		return fmt.Errorf("%s: %s not confirmed before the end: %w", s.brokers, safetext.Count(left, "message was", "messages were"), ctx.Err())
	}
	return nil
}
