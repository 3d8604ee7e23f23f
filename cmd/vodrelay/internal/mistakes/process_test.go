//go:build unix

package mistakes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is the program as a user builds it, made once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vodrelay-mistakes")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vodrelay")
	out, err := exec.Command("go", "build", "-o", path, "../..").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// process is vodrelay in a process of its own.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *buffer
	done           chan struct{}
}

func start(t *testing.T, environ []string, dir string, args ...string) *process {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	p := &process{t: t, cmd: exec.Command(path, args...), stdout: &buffer{}, stderr: &buffer{}, done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = environ, dir, p.stdout, p.stderr
	require.NoError(t, p.cmd.Start())
	go func() { defer close(p.done); _ = p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("vodrelay %s:\n%s%s", strings.Join(args, " "), p.stdout, p.stderr)
		}
	})
	return p
}

// ended is how the process ended; nil: it runs.
func (p *process) ended() *os.ProcessState {
	select {
	case <-p.done:
		return p.cmd.ProcessState
	default:
		return nil
	}
}

// wait waits for the end and returns the exit code, -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(2 * patient):
		require.Fail(p.t, "it still runs", "%v", p.cmd.Args)
		return 0
	}
}

// buffer is what a process prints.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// plain is a log in which each line of JSON is "level message; key=value; ..." with error and hint last.
func plain(log string) string {
	var text strings.Builder
	for line := range strings.Lines(log) {
		var fields map[string]any
		numbers := json.NewDecoder(strings.NewReader(line))
		numbers.UseNumber()
		if numbers.Decode(&fields) != nil {
			text.WriteString(line)
			continue
		}
		fmt.Fprintf(&text, "%v %v", fields["level"], fields["msg"])
		last := []string{"error", "hint"}
		var keys []string
		for key := range fields {
			if !slices.Contains(append(last, "level", "msg", "time"), key) {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range append(keys, last...) {
			if value, ok := fields[key]; ok {
				fmt.Fprintf(&text, "; %s=%v", key, value)
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}
