// Package nats is the sink that publishes each event to a stream of NATS JetStream. A message counts when
// the stream has acknowledged it, which it does when its storage and its replicas hold it.
//
// The header Nats-Msg-Id of each message is event.Event.DedupID, so that the server stores an event which is
// sent again only once, as long as that happens within the stream's duplicate window.
package nats

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/ceheader"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/eventname"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/renew"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// Headers of the CloudEvents binding. Source:
// https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md.
const (
	contentType = "Content-Type"
	cePrefix    = "ce-"
)

// Sink publishes over one connection.
type Sink struct {
	cfg     Config
	servers string // as errors name them
	subject *expression.Expression
	names   eventname.Rule // of subject
	log     *zap.Logger
	link    *link
	waits   waits
	watch   renew.Watch
	closed  atomic.Bool

	ensured  atomic.Bool   // the stream exists
	ensuring chan struct{} // holds a token while one goroutine finds out
}

// New makes the sink. It reads the files but does not connect.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sink{cfg: cfg, servers: redact.Addresses(cfg.Servers), log: log, ensuring: make(chan struct{}, 1)}
	var err error
	if s.subject, err = cfg.subject(); err != nil {
		return nil, err
	}
	s.names = cfg.names()
	s.link = newLink(cfg, func(subject string) { s.waits.deny(subject, cfg.InboxPrefix) })
	if cfg.TLS.InsecureSkipVerify {
		log.Warn(tlsconf.InsecureWarning)
	}
	return s, nil
}

// Send returns nil when the stream has acknowledged the message, or has it already.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	if s.closed.Load() {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return s.judge(err, "")
	}
	message, err := s.message(ctx, e)
	if err != nil {
		return err
	}
	err = s.judge(s.publish(ctx, message), message.Subject)
	if s.watch.Lasts(err) {
		s.link.renew()
	}
	return err
}

func (s *Sink) publish(ctx context.Context, message *nats.Msg) error {
	conn, err := s.link.get(ctx)
	if err != nil {
		return err
	}
	if err := s.ensure(ctx, conn); err != nil {
		return err
	}
	err = s.request(ctx, message.Subject, func(ctx context.Context) error {
		// Once: whether to try again is for the caller to say.
		opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
		if s.cfg.Stream != "" {
			opts = append(opts, jetstream.WithExpectStream(s.cfg.Stream))
		}
		_, err := conn.js.PublishMsg(ctx, message, opts...)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		s.ensured.Store(false)
		return s.explainSilence(ctx, conn, message.Subject)
	case isBroken(err):
		s.link.drop(conn)
	}
	return err
}

// request calls do, whose context ends when the server tells that the user may not use subject.
func (s *Sink) request(ctx context.Context, subject string, do func(ctx context.Context) error) error {
	waiting, end := s.waits.begin(ctx, subject)
	defer end()
	err := do(waiting)
	var denied *deniedError
	if err != nil && ctx.Err() == nil && errors.As(context.Cause(waiting), &denied) {
		return denied
	}
	return err
}

// explainSilence finds out why nobody answered: there is no stream for the subject, or it has no leader.
func (s *Sink) explainSilence(ctx context.Context, conn *connection, subject string) error {
	var name string
	err := s.request(ctx, "", func(ctx context.Context) (err error) {
		name, err = conn.js.StreamNameBySubject(ctx, subject)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) && name == "" {
		return &noStreamError{subject}
	}
	return jetstream.ErrNoStreamResponse
}

// message is e as it is published.
func (s *Sink) message(ctx context.Context, e event.Event) (*nats.Msg, error) {
	encoded, err := s.cfg.Format.Encode(e)
	if err != nil {
		return nil, retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	m := &nats.Msg{Subject: s.cfg.Subject, Data: encoded.Body, Header: nats.Header{}}
	if s.subject != nil {
		if m.Subject, err = s.names.Of(ctx, s.subject, e); err != nil {
			return nil, err
		}
	}
	for name, value := range s.cfg.Headers {
		m.Header.Set(name, value)
	}
	m.Header.Set(contentType, encoded.ContentType)
	for _, attribute := range encoded.Attributes {
		m.Header.Set(cePrefix+attribute.Name, ceheader.Escape(attribute.Value))
	}
	m.Header.Set(jetstream.MsgIDHeader, e.DedupID())
	return m, nil
}

// Untested is what Check cannot know.
func (s *Sink) Untested() string {
	if s.cfg.Subject == "" {
		return "whether a stream takes the subjects that events name, and whether the user may publish to them"
	}
	return "whether the user may publish to the subject, and whether the stream has room"
}

// Close ends the connection, and makes further Sends fail. There is nothing to flush: what was not
// acknowledged was not accepted.
func (s *Sink) Close(context.Context) error {
	s.closed.Store(true)
	s.link.close()
	return nil
}
