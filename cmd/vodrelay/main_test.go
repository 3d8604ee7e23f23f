package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	testApp = 1500000001
	patient = 30 * time.Second // what a step of a test may take on a busy machine
)

func TestMain(m *testing.M) { programtest.Main(m) }

// startEmulator serves a VOD event API on this machine and returns the environment to relay from it.
func startEmulator(t *testing.T, opts emulator.Options) (*emulator.Server, []string) {
	t.Helper()
	server, url := programtest.Emulator(t, opts)
	return server, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"TENCENTCLOUD_SECRET_ID=" + emulator.DefaultSecretID,
		"TENCENTCLOUD_SECRET_KEY=" + emulator.DefaultSecretKey,
		"VODRELAY_VOD_ENDPOINT=" + url,
		"VODRELAY_VOD_SUB_APP_IDS=1500000001",
		"VODRELAY_ADMIN_LISTEN=127.0.0.1:0", // several run at a time
	}
}

// ids are the event IDs of contents.
func ids(t *testing.T, contents []json.RawMessage) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, c := range contents {
		e, _, err := event.Decode(c, testApp)
		require.NoError(t, err)
		all[e.ID] = true
	}
	return all
}

// idsOfLines are the event IDs in a file of one JSON object a line.
func idsOfLines(t *testing.T, data []byte) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for line := range bytes.Lines(data) {
		e, _, err := event.Decode(line, testApp)
		require.NoError(t, err, "%s", line)
		all[e.ID] = true
	}
	return all
}

// command runs the program to its end, in a process of its own, and returns what it printed.
func command(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, environ, args...)
	code = p.wait()
	return code, p.stdout.String(), p.stderr.String()
}

// process is the program in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *programtest.Buffer
	stderr *programtest.Buffer
}

func start(t *testing.T, environ []string, args ...string) *process {
	t.Helper()
	return startWith(t, environ, func(*exec.Cmd) {}, args...)
}

// startAt is start with a standard input.
func startAt(t *testing.T, stdin io.Reader, environ []string, args ...string) *process {
	t.Helper()
	return startWith(t, environ, func(cmd *exec.Cmd) { cmd.Stdin = stdin }, args...)
}

// startWith is start of a process that change has changed before.
func startWith(t *testing.T, environ []string, change func(*exec.Cmd), args ...string) *process {
	t.Helper()
	path := programtest.Path(t)
	cmd := exec.Command(path, args...)
	change(cmd)
	return startCommand(t, environ, cmd)
}

func startCommand(t *testing.T, environ []string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, stdout: &programtest.Buffer{}, stderr: &programtest.Buffer{}}
	p.cmd.Env = environ
	if p.cmd.Dir == "" {
		p.cmd.Dir = t.TempDir()
	}
	if p.cmd.Stdout == nil {
		p.cmd.Stdout = p.stdout
	}
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = p.stderr
	}
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("standard error of %v:\n%s", cmd.Args[1:], p.stderr)
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// wait waits for the end and returns the exit code, -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	return p.waitFor(patient)
}

// waitFor is wait for a process that takes its time.
func (p *process) waitFor(limit time.Duration) int {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			require.NoError(p.t, err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-ended
		p.t.Fatalf("still running after %s", limit)
		return 0
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patient, 10*time.Millisecond, what)
}
