// Package file is the sink that appends events to a file, one JSON object a line, and reports an event as
// accepted when it is on the disk. One fsync serves all events that waited for the one before.
//
// The file is one that nobody else put there: a regular file under a single name, of vodrelay's user or of the owner of
// the directory. A link in its place is not followed, and the permissions of a file that is found become those of mode.
//
// With logrotate use `delaycompress`, since events that are being written when SIGHUP arrives still go to
// the old file.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
)

// Sink appends events to one file. The file is opened, and made if need be, when the first event comes, so
// that a volume that is not there yet is an outage like any other.
//
// Other processes may append to the same file. Vodrelays take turns by means of a lock, so that one which
// cuts off a torn line of its own cuts off nothing of another's.
type Sink struct {
	format   event.Format
	appender *appender
	writer   *group.Writer
}

// New makes the sink. It does not touch the file: Check does, without making it.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return newSink(cfg, log, openFile), nil
}

func newSink(cfg Config, log *zap.Logger, open opener) *Sink {
	a := &appender{path: cfg.Path, mode: fs.FileMode(cfg.Mode), sync: cfg.Sync, open: open, log: log}
	return &Sink{format: cfg.Format, appender: a, writer: group.New(func(lines []byte) error {
		return withHint(a.append(lines))
	})}
}

// Send returns nil when the event is in the file and, with Sync, on the disk. Every failure of the file is
// worth another attempt; none leaves a piece of a line behind that a later line could be glued to.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	message, err := s.format.Encode(e)
	if err != nil {
		return retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	err = s.writer.Write(ctx, append(message.Body, '\n'))
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return retry.WithHint(fmt.Errorf("%s is not written in time: %w", s.appender.path, err),
			"its volume is slow or hangs; see what else writes to it, and the kernel's log")
	}
	return err
}

// Reopen goes over to the file that has the path now, as after a rename by logrotate, and makes it if there
// is none. Events whose Send had returned before are in the old file, on the disk; events whose Send is
// called afterwards go to the new one. After an error the next Send tries again.
func (s *Sink) Reopen() error { return withHint(s.appender.reopen()) }

// Close writes what waits and closes the file. When ctx is done first, the events that are still being
// written are not accepted.
func (s *Sink) Close(ctx context.Context) error {
	if err := s.writer.Close(ctx); err != nil {
		return fmt.Errorf("%s does not take the last events: %w", s.appender.path, err)
	}
	return withHint(s.appender.close())
}

// withHint says what a person can do about an error of the file system.
func withHint(err error) error {
	if err == nil || retry.Hint(err) != "" {
		return err
	}
	hint := "see the kernel's log (dmesg) for trouble with the volume"
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "free space on the volume or raise the quota; no event is lost meanwhile"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		hint = "create the directory, or mount its volume, or correct path"
	case errors.Is(err, fs.ErrPermission):
		hint = "let the user that runs vodrelay read and write the file and enter its directory"
	case errors.Is(err, syscall.EROFS):
		hint = "mount the volume for writing, or for systemd add it to ReadWritePaths"
	case errors.Is(err, syscall.EISDIR):
		hint = "path is a directory: add the name of a file"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		hint = "raise the limit of open files (ulimit -n, or LimitNOFILE in systemd)"
	}
	return retry.WithHint(err, hint)
}
