// Package stdout is the sink that prints: one JSON object a line to standard output, or to any other
// writer, so that `vodrelay drain | jq` is a whole program.
package stdout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
)

// Config is what the sink's own keys say.
type Config struct {
	Format event.Format `mapstructure:"format" enum:"callback,cloudevents" default:"callback" doc:"Form of each line: callback (the body of VOD's normal callback) or cloudevents (a CloudEvents 1.0 object in JSON)."`
}

// DefaultConfig prints callback bodies.
func DefaultConfig() Config { return Config{Format: event.FormatCallback} }

// Validate reports every value that makes no sense.
func (c Config) Validate() error {
	switch c.Format {
	case "", event.FormatCallback, event.FormatCloudEvents:
		return nil
	case event.FormatCloudEventsBinary:
		return fmt.Errorf("format: %q: a line has no headers for the attributes, use %s", c.Format, event.FormatCloudEvents)
	}
	return fmt.Errorf("format: %q: use %s or %s", c.Format, event.FormatCallback, event.FormatCloudEvents)
}

// Sink prints events. An event is accepted when Write has returned, which for a pipe means that the reader
// can get it, not that it has; and for a redirected file that it is in memory: the sink named file does
// better there.
//
// A terminal may show the lines, so what cannot be seen in a text is escaped in them (safetext.Text), which means the
// same to a parser.
//
// Lines are never mixed or cut: each Write carries whole lines, several if several events wait. A Write
// that ends in the middle of one leaves nothing to do but to stop: from then on nothing is accepted, so
// nothing more is confirmed, and Broken tells the program. A program that prints to os.Stdout must have
// SIGPIPE ignored (signal.Ignore), or the runtime ends it when the reader goes.
type Sink struct {
	format event.Format
	out    io.Writer
	log    *zap.Logger
	writer *group.Writer

	breaking sync.Once
	broken   chan struct{}
	cause    error // may be read once broken is closed
}

// New makes a sink that prints to out, which stays the caller's to close.
func New(cfg Config, out io.Writer, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sink{format: cfg.Format, out: out, log: log, broken: make(chan struct{})}
	s.writer = group.New(s.write)
	return s, nil
}

// Send returns nil when the event is printed.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	if err := s.err(); err != nil {
		return err
	}
	message, err := s.format.Encode(e)
	if err != nil {
		return retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	err = s.writer.Write(ctx, append(safetext.Text(message.Body), '\n'))
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return retry.WithHint(fmt.Errorf("standard output does not take the event in time: %w", err),
			"the program that reads it is slow or has stopped reading")
	}
	return err
}

// Broken is closed when the output has ended for good. Every Send then fails at once, with an error that
// is not permanent: the event is still to be printed, by a later run.
func (s *Sink) Broken() <-chan struct{} { return s.broken }

// Check reports an output that is closed.
func (s *Sink) Check(context.Context) error {
	if f, ok := s.out.(*os.File); ok {
		if _, err := f.Stat(); err != nil {
			return ended(err)
		}
	}
	return s.err()
}

// Untested is what Check cannot know: nothing, since what cannot be printed stops the relay.
func (s *Sink) Untested() string { return "" }

// Close prints what waits. When the reader does not take it before ctx is done, that is an error; the
// events in it are not accepted.
func (s *Sink) Close(ctx context.Context) error {
	err := s.writer.Close(ctx)
	if err == nil {
		return nil
	}
	if out, ok := s.out.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = out.SetWriteDeadline(time.Now()) // ends the Write that hangs, where the output can do that
	}
	return fmt.Errorf("standard output does not take the last events: %w", err)
}

// write is one commit of the group.
func (s *Sink) write(lines []byte) error {
	if err := s.err(); err != nil {
		return err
	}
	n, err := s.out.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	if err == nil {
		return nil
	}
	if n <= 0 && !isEnd(err) {
		return retry.WithHint(fmt.Errorf("standard output: %w", err), "free space where it is redirected to")
	}
	s.breaking.Do(func() {
		s.cause = ended(err)
		close(s.broken)
		s.log.Error("standard output has ended, no further event is accepted", zap.Error(err))
	})
	return s.cause
}

func (s *Sink) err() error {
	select {
	case <-s.broken:
		return s.cause
	default:
		return nil
	}
}

func ended(err error) error {
	return retry.WithHint(fmt.Errorf("standard output has %w: %w", retry.ErrEnding, err),
		"start vodrelay again with a program that reads to the end, or with output to a file that has room")
}

// isEnd reports an error after which no Write can succeed.
func isEnd(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, fs.ErrClosed) || errors.Is(err, syscall.EBADF)
}
