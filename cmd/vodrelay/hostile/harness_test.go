//go:build linux

// Package hostile tests the whole program, in processes of its own, against events, targets and servers that are as
// bad as they can be: the good events are delivered, and neither memory nor time has no bound.
package hostile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

const (
	testApp = 1500000001
	patient = 60 * time.Second // what a step may take on a busy machine
)

func TestMain(m *testing.M) { programtest.Main(m) }

// world is a queue, and where a relay of it keeps its things.
type world struct {
	t       *testing.T
	cloud   *emulator.Server
	dir     string
	environ []string
}

func newWorld(t *testing.T, opts emulator.Options) *world {
	t.Helper()
	server, url := programtest.Emulator(t, opts)
	w := &world{t: t, cloud: server, dir: t.TempDir()}
	w.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir,
		"TENCENTCLOUD_SECRET_ID=" + emulator.DefaultSecretID,
		"TENCENTCLOUD_SECRET_KEY=" + emulator.DefaultSecretKey,
		"VODRELAY_VOD_ENDPOINT=" + url,
		fmt.Sprint("VODRELAY_VOD_SUB_APP_IDS=", testApp),
	}
	return w
}

// file is a path of this world.
func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// run starts the daemon with a configuration.
func (w *world) run(config string, args ...string) *process {
	w.t.Helper()
	path := w.file("vodrelay.yaml")
	require.NoError(w.t, os.WriteFile(path, []byte("admin: {listen: 127.0.0.1:0}\n"+config), 0o600))
	return w.start(append([]string{"run", "-c", path}, args...)...)
}

// start starts a command.
func (w *world) start(args ...string) *process {
	w.t.Helper()
	p := &process{t: w.t, cmd: exec.Command(programtest.Path(w.t), args...)}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = w.environ, w.dir, &p.stdout, &p.stderr
	require.NoError(w.t, p.cmd.Start())
	w.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if w.t.Failed() {
			text := p.stderr.String()
			w.t.Logf("standard error of %v:\n%s", args, text[max(0, len(text)-20_000):])
		}
	})
	return p
}

// process is the program in a process of its own.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr programtest.Buffer
}

// stop ends a daemon as systemd does.
func (p *process) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(p.t, p.wait())
}

func (p *process) wait() int {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			require.NoError(p.t, err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patient):
		_ = p.cmd.Process.Kill()
		<-ended
		require.FailNow(p.t, "it does not end")
		return 0
	}
}

// peak is the most memory that the process has had resident, in MiB.
func (p *process) peak() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kB, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(p.t, err)
	return kB >> 10
}

func (p *process) eventually(what string, ok func() bool) {
	p.t.Helper()
	require.Eventually(p.t, ok, patient, 10*time.Millisecond, what)
}
