package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// around is a world in its process, as the harness sees it.
type around struct {
	addresses
	cmd  *exec.Cmd
	stop io.Closer // its stdin
}

// newWorld starts a world with n events in its queue.
func (h *harness) newWorld(ctx context.Context, opts worldOptions, n int) (*around, error) {
	text, err := json.Marshal(opts)
	if err != nil {
		return nil, err
	}
	w := &around{cmd: exec.CommandContext(ctx, h.self, roleWorld, string(text))}
	w.cmd.Stderr = os.Stderr
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	w.stop = stdin
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(stdout).Decode(&w.addresses); err != nil {
		w.close()
		return nil, fmt.Errorf("the emulator's process did not start: %w", err)
	}
	if n > 0 {
		err = w.publish(ctx, n)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *around) close() {
	_ = w.stop.Close()
	_ = w.cmd.Wait()
}

func (w *around) control(ctx context.Context, into any, path string, values url.Values) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Control+path+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, body)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(body, into)
	}
	return err
}

func (w *around) publish(ctx context.Context, n int) error {
	return w.control(ctx, nil, "/publish", url.Values{"n": {strconv.Itoa(n)}})
}

func (w *around) receive(ctx context.Context, way string) error {
	return w.control(ctx, nil, "/receive", url.Values{"way": {way}})
}

func (w *around) report(ctx context.Context) (r worldReport, err error) {
	err = w.control(ctx, &r, "/report", nil)
	return r, err
}

// until asks for reports until enough says so, or for as long as limit.
func (w *around) until(ctx context.Context, limit time.Duration, enough func(worldReport) bool) (worldReport, error) {
	ctx, cancel := context.WithTimeout(ctx, limit+time.Minute)
	defer cancel()
	end := time.Now().Add(limit)
	for {
		r, err := w.report(ctx)
		if err != nil || enough(r) || time.Now().After(end) {
			return r, err
		}
		sleep(ctx, 50*time.Millisecond)
	}
}

// process is one that is measured.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	stderr  tail
	lines   lineCounter
	copied  sync.WaitGroup
}

// start runs a program against w. What it prints is counted.
func (w *around) start(environ []string, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), lines: lineCounter{distinct: make(map[string]struct{})}}
	p.cmd.Env = append(append(os.Environ(),
		"TENCENTCLOUD_SECRET_ID="+emulator.DefaultSecretID, "TENCENTCLOUD_SECRET_KEY="+emulator.DefaultSecretKey,
		"VODRELAY_VOD_ENDPOINT="+w.API, fmt.Sprintf("VODRELAY_VOD_SUB_APP_IDS=%d", application),
		"VODRELAY_ADMIN_LISTEN=127.0.0.1:0",
	), environ...)
	p.cmd.Stderr = &p.stderr
	// Not a Writer in cmd: Wait would wait for its end before it reaps, and so for more than the process.
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = in
	p.started = time.Now()
	err = p.cmd.Start()
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	p.copied.Go(func() {
		defer out.Close()
		p.lines.read(out)
	})
	return p, nil
}

// usage is what a process has used in its life.
type usage struct {
	CPU time.Duration // user and system
	RSS int64         // bytes, the most
}

// kill ends the process at once, so that nothing but its work is on its account.
func (p *process) kill() (usage, error) {
	status, _ := readStatus(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return usage{}, err
	}
	_ = p.cmd.Wait()
	p.copied.Wait()
	state := p.cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); ok && !status.Signaled() {
		return usage{}, fmt.Errorf("%s ended by itself (%s):\n%s", filepath.Base(p.cmd.Path), state, p.stderr.String())
	}
	// Not the most memory of rusage: that starts with what the process was forked from.
	return usage{CPU: state.UserTime() + state.SystemTime(), RSS: status["VmHWM"] << 10}, nil
}

// terminate ends the process in order.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := p.cmd.Wait()
	p.copied.Wait()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(p.cmd.Path), err, p.stderr.String())
	}
	return nil
}

// moment is what /proc says of a process that runs.
type moment struct {
	CPU      time.Duration
	Switches int64 // of context, voluntary or not
	RSS      int64
	Private  int64 // of RSS, what is not mapped from a file
}

// look reads /proc. Its times are those of the scheduler, in nanoseconds; threads that have ended are left
// out, which Go's hardly ever do.
func (p *process) look() (m moment, err error) {
	root := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	tasks, err := os.ReadDir(root + "/task")
	if err != nil {
		return m, err
	}
	for _, t := range tasks {
		text, err := os.ReadFile(filepath.Join(root, "task", t.Name(), "schedstat"))
		if err != nil {
			return m, err
		}
		ran, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return m, err
		}
		m.CPU += time.Duration(n)
		status, err := readStatus(filepath.Join(root, "task", t.Name(), "status"))
		if err != nil {
			return m, err
		}
		m.Switches += status["voluntary_ctxt_switches"] + status["nonvoluntary_ctxt_switches"]
	}
	status, err := readStatus(root + "/status")
	m.RSS, m.Private = status["VmRSS"]<<10, status["RssAnon"]<<10
	return m, err
}

// readStatus reads the numbers of a status file.
func readStatus(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	values := make(map[string]int64)
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				values[name] = n
			}
		}
	}
	return values, err
}

// lineCounter counts the lines of a stream and their events.
type lineCounter struct {
	mu       sync.Mutex
	n        int64
	distinct map[string]struct{}
}

func (c *lineCounter) read(r io.Reader) {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return
		}
		c.mu.Lock()
		c.n++
		c.distinct[fileID(line)] = struct{}{}
		c.mu.Unlock()
	}
}

// wait waits until n different events were printed.
func (c *lineCounter) wait(ctx context.Context, limit time.Duration, n int64) error {
	for end := time.Now().Add(limit); ; sleep(ctx, 20*time.Millisecond) {
		if _, distinct := c.counts(); distinct >= n {
			return nil
		} else if time.Now().After(end) || ctx.Err() != nil {
			return whole("on stdout", n, distinct)
		}
	}
}

func (c *lineCounter) counts() (lines, distinct int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n, int64(len(c.distinct))
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() > 1<<16 {
		t.buf.Reset()
	}
	return t.buf.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
