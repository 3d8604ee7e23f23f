// Package exec is the sink that runs a command for each event: the JSON on its standard input, the most
// used fields in VOD_* variables, its verdict in its exit code.
//
//	0             the event is accepted
//	65            the event itself is at fault and becomes a dead letter (EX_DATAERR of sysexits.h)
//	any other     try again later, as after a signal, and when the command cannot be started: a script that fails says
//	              nothing about the event, whatever it fails with
//
// The command starts with a clean environment: PATH, HOME, USER, LANG, LC_ALL, TZ, TMPDIR, what is
// configured, and the fields of the event. On Linux the relay's own environment and memory are closed to it, but it can
// read the files that the relay's user can read. Its standard output is thrown away. Of its standard error the first and
// the last line go into the error, and the last 4 KiB into the log at level debug. A process that it leaves behind lives
// on; its output should go elsewhere, or the end of the event waits for it for kill_grace. A command that changes its
// user, as sudo does, cannot be ended at its time limit by a vodrelay that is not root.
package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Exit codes of sysexits.h.
const (
	exitDataErr  = 65
	exitTempFail = 75
)

// Sink runs one process for each Send. How many at a time is the caller's choice.
type Sink struct {
	cfg    Config
	env    []string
	log    *zap.Logger
	closed atomic.Bool
}

// New makes the sink. It does not look for the command, which may be installed later; Check does.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Sink{cfg: cfg, env: baseEnv(cfg.Env, os.LookupEnv), log: log}, nil
}

// Send runs the command and returns nil when it has exited with 0. When ctx is done first, the command and
// all processes of its group get SIGTERM, and SIGKILL after KillGrace; Send returns after that. A command
// that had to be ended has not accepted the event, whatever it exits with.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	if s.closed.Load() {
		return errors.New("the sink is closed")
	}
	message, err := s.cfg.Format.Encode(e)
	if err != nil {
		return retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var ended atomic.Bool
	var stderr tail
	cmd := exec.CommandContext(ctx, s.cfg.Command[0], s.cfg.Command[1:]...)
	cmd.Dir = s.cfg.Dir
	cmd.Env = append(s.env[:len(s.env):len(s.env)], eventEnv(e)...)
	cmd.Stdin = bytes.NewReader(message.Body) // a command that does not read it all is judged by its exit code
	cmd.Stderr = &stderr
	cmd.WaitDelay = s.cfg.KillGrace
	setGroup(cmd)
	cmd.Cancel = func() error {
		err := terminate(cmd.Process)
		ended.Store(err == nil) // else it had exited by itself just before
		return err
	}
	if err := cmd.Start(); err != nil {
		return s.notStarted(err)
	}
	_ = cmd.Wait() // says less than the state: a process left behind that holds standard error is an error here
	if ended.Load() {
		kill(cmd.Process) // whoever of the group took no notice of SIGTERM
	}
	s.log.Debug("command ended", zap.String("command", s.cfg.Command[0]), zap.String("event_id", e.ID), zap.String("event_type", e.Type),
		zap.Stringer("state", cmd.ProcessState), zap.String("stderr", stderr.text()))
	return s.verdict(ctx, ended.Load(), cmd.ProcessState, &stderr)
}

// verdict turns the end of the command into that of the event.
func (s *Sink) verdict(ctx context.Context, ended bool, state *os.ProcessState, stderr *tail) error {
	name := s.cfg.Command[0]
	if ended {
		return retry.WithHint(fmt.Errorf("command %q was ended before it was done: %w", name, ctx.Err()),
			"make the command faster or the sink's timeout longer; for work that takes minutes, let the command only note the event")
	}
	if state.Success() {
		return nil
	}
	code := state.ExitCode()
	if code < 0 {
		return retry.WithHint(fmt.Errorf("command %q died: %s%s", name, state, stderr.cause()),
			"see the kernel's log for a lack of memory (OOM), and the command's own log")
	}
	failure := fmt.Errorf("command %q exited with status %d%s", name, code, stderr.cause())
	switch code {
	case exitDataErr:
		return retry.Permanent(retry.WithHint(failure, "the command refused the event (status 65); see its log"))
	case exitTempFail:
		return retry.WithHint(failure, "the command asks for another attempt (status 75)")
	case 126, 127: // what a shell answers for a command inside it that cannot be run
		return retry.WithHint(failure, "the command runs a program that is missing or not executable; check its PATH")
	}
	return retry.WithHint(failure, "see the command's log and correct it; let it exit with 65 for an event that it can never accept")
}

// notStarted is the error of a command that could not even be run.
func (s *Sink) notStarted(err error) error {
	// Where the directory is missing, the kernel says so of the command.
	if err := s.checkDir(); err != nil {
		return err
	}
	err = innermost(err)
	hint := "see the limits of vodrelay's user and the memory of the machine"
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		hint = "install it, or write its full path; for a script, check the program in its first line too, and that no line ends as on Windows"
	case errors.Is(err, fs.ErrPermission) && s.isDirectory():
		err, hint = syscall.EISDIR, "name the program in it"
	case errors.Is(err, fs.ErrPermission):
		hint = "make it executable (chmod +x) for the user that runs vodrelay, on a volume without noexec"
	case errors.Is(err, syscall.ENOEXEC):
		hint = "it is neither a program for this machine nor a script with #! in its first line"
	case errors.Is(err, exec.ErrDot):
		hint = "write ./ before its name, or its full path"
	case errors.Is(err, syscall.E2BIG):
		hint = "shorten the arguments and env"
	}
	return retry.WithHint(fmt.Errorf("command %q cannot be started: %w", s.cfg.Command[0], err), hint)
}

// innermost is err without the path and the operation, so that the text is the same however the command
// was sought.
func innermost(err error) error {
	var sought *exec.Error
	if errors.As(err, &sought) {
		err = sought.Err
	}
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return err
}

func (s *Sink) checkDir() error {
	if s.cfg.Dir == "" {
		return nil
	}
	info, err := os.Stat(s.cfg.Dir)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return retry.WithHint(fmt.Errorf("directory %q of the command: %w", s.cfg.Dir, innermost(err)), "create it, or correct dir")
	}
	return nil
}

// Check looks for the command and its directory, and runs nothing.
func (s *Sink) Check(context.Context) error {
	if err := s.checkDir(); err != nil {
		return err
	}
	if _, err := exec.LookPath(s.program()); err != nil {
		return s.notStarted(err)
	}
	return nil
}

// program is the command as this process would name it.
func (s *Sink) program() string {
	name := s.cfg.Command[0]
	if filepath.Base(name) != name && !filepath.IsAbs(name) {
		name = filepath.Join(s.cfg.Dir, name) // as execve does after chdir
		if !filepath.IsAbs(name) {
			name = "." + string(filepath.Separator) + name
		}
	}
	return name
}

// isDirectory reports a command that is one, of which the kernel says that it may not be run.
func (s *Sink) isDirectory() bool {
	info, err := os.Stat(s.program())
	return err == nil && info.IsDir()
}

// Untested is what Check cannot know.
func (s *Sink) Untested() string { return "whether the command succeeds with an event" }

// Close makes further Sends fail. There is nothing to write out: each Send waits for its own command.
func (s *Sink) Close(context.Context) error {
	s.closed.Store(true)
	return nil
}
