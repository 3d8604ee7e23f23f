package nats

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// ensure creates the stream if that is configured and it does not exist, once until it is missed.
func (s *Sink) ensure(ctx context.Context, conn *connection) error {
	if !s.cfg.CreateStream.Enabled || s.ensured.Load() {
		return nil
	}
	select {
	case s.ensuring <- struct{}{}:
		defer func() { <-s.ensuring }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.ensured.Load() {
		return nil
	}
	err := s.request(ctx, "", func(ctx context.Context) error {
		_, err := conn.js.Stream(ctx, s.cfg.Stream)
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		if _, err = conn.js.CreateStream(ctx, s.newStream()); err == nil {
			s.log.Info("created the stream", zap.String("stream", s.cfg.Stream))
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // by another replica of ours, just now
			return nil
		}
		return err
	})
	if err != nil {
		return &createError{err}
	}
	s.ensured.Store(true)
	return nil
}

func (s *Sink) newStream() jetstream.StreamConfig {
	c := s.cfg.CreateStream
	stream := jetstream.StreamConfig{
		Name:        s.cfg.Stream,
		Description: "Events of Tencent Cloud VOD, written by vodrelay",
		Subjects:    c.Subjects,
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		Replicas:    c.Replicas,
		MaxAge:      c.MaxAge,
		MaxBytes:    -1,
		MaxMsgs:     -1,
		Duplicates:  c.DuplicateWindow,
	}
	if len(stream.Subjects) == 0 {
		stream.Subjects = []string{s.cfg.Subject}
	}
	if c.MaxBytes > 0 {
		stream.MaxBytes = c.MaxBytes
	}
	return stream
}

// Check connects, logs in, and looks up the stream, by its name and, if it is the same for all events, by
// the subject. It creates no stream.
func (s *Sink) Check(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	conn, err := s.link.get(ctx)
	if err != nil {
		return s.judge(err, s.cfg.Subject)
	}
	if s.cfg.Stream != "" {
		err = s.request(ctx, "", func(ctx context.Context) error {
			_, err := conn.js.Stream(ctx, s.cfg.Stream)
			return err
		})
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound) && s.cfg.CreateStream.Enabled:
			s.log.Info("the stream does not exist yet: it will be created before the first event", zap.String("stream", s.cfg.Stream))
			return nil
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return s.fail(fmt.Sprintf("stream %q does not exist", s.cfg.Stream), err,
				"create the stream, correct stream, or set create_stream.enabled")
		case err != nil:
			return s.judge(err, s.cfg.Subject)
		}
	}
	return s.checkSubject(ctx, conn)
}

func (s *Sink) checkSubject(ctx context.Context, conn *connection) error {
	if s.cfg.Subject == "" { // each event has its own
		err := s.request(ctx, "", func(ctx context.Context) error {
			_, err := conn.js.AccountInfo(ctx)
			return err
		})
		return s.judge(err, "")
	}
	var name string
	err := s.request(ctx, "", func(ctx context.Context) (err error) {
		name, err = conn.js.StreamNameBySubject(ctx, s.cfg.Subject)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = &noStreamError{s.cfg.Subject}
	case err == nil && s.cfg.Stream != "" && name != s.cfg.Stream:
		return s.fail(fmt.Sprintf("subject %q: is taken by the stream %q, not by %q", s.cfg.Subject, name, s.cfg.Stream), nil,
			"correct subject or stream")
	}
	return s.judge(err, s.cfg.Subject)
}
