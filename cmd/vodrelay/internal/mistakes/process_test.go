//go:build unix

package mistakes

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
)

// process is vodrelay in a process of its own.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *programtest.Buffer
	done           chan struct{}
}

func start(t *testing.T, environ []string, dir string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(programtest.Path(t), args...), stdout: &programtest.Buffer{}, stderr: &programtest.Buffer{}, done: make(chan struct{})}
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
