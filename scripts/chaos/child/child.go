// Package child runs the processes of a chaos run: it starts them, stops them where they are, and ends them.
package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Command is what to start.
type Command struct {
	Program string
	Args    []string
	Dir     string
	Env     []string // beside that of this process
	Account *syscall.Credential
	Log     string       // a file that gets what it writes
	Lines   func(string) // if not nil, gets each line that it writes
}

// Child is a process. It ends with this one.
type Child struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	copied sync.WaitGroup
}

// Start starts a process.
func Start(c Command) (*Child, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	p := &Child{cmd: exec.Command(c.Program, c.Args...), ended: make(chan struct{})} //nolint:noctx // its owner ends it
	p.cmd.Dir, p.cmd.Env = c.Dir, append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = in, in
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: c.Account}
	err = p.cmd.Start()
	_ = in.Close()
	if err != nil {
		return nil, errors.Join(err, out.Close(), log.Close())
	}
	p.copied.Go(func() {
		copyLines(log, out, c.Lines)
		_, _ = out.Close(), log.Close()
	})
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// copyLines copies until the end, and calls each for every whole line.
func copyLines(to, from *os.File, each func(string)) {
	var rest []byte
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		_, _ = to.Write(buffer[:n]) // a log that cannot be written does not stop the run
		if each != nil {
			rest = append(rest, buffer[:n]...)
			for {
				line, more, found := bytes.Cut(rest, []byte("\n"))
				if !found {
					break
				}
				each(string(line))
				rest = more
			}
		}
		if err != nil {
			return
		}
	}
}

// Pid is its number.
func (p *Child) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when it has ended.
func (p *Child) Ended() <-chan struct{} { return p.ended }

// Kill ends it and its children at once, as a power cut does, and returns when it has ended.
func (p *Child) Kill() {
	all := p.all()
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
	}
	<-p.ended
	for _, pid := range all { // what they held is free only when they are gone
		for alive(pid) {
			time.Sleep(time.Millisecond)
		}
	}
}

// alive reports whether a process holds anything: a zombie does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(text, []byte(") ")) // behind the name, which is in parentheses
	return len(state) > 0 && state[0] != 'Z' && state[0] != 'X'
}

// Stop asks it to end, and kills it where it has not done so within limit.
func (p *Child) Stop(signal syscall.Signal, limit time.Duration) error {
	p.Thaw()
	_ = p.cmd.Process.Signal(signal) // it may have ended by itself
	select {
	case <-p.ended:
		return nil
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s", filepath.Base(p.cmd.Path), limit)
	}
}

// Freeze stops it and its children where they are, as a machine that hangs does.
func (p *Child) Freeze() { p.each(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (p *Child) Thaw() { p.each(syscall.SIGCONT) }

func (p *Child) each(signal syscall.Signal) {
	for _, pid := range p.all() { // the one that makes others first
		_ = syscall.Kill(pid, signal)
	}
	if signal == syscall.SIGSTOP { // one that was born in the meantime
		for _, pid := range p.all() {
			_ = syscall.Kill(pid, signal)
		}
	}
}

// all are the numbers of the process and those it started, itself first; none when it has ended.
func (p *Child) all() []int {
	select {
	case <-p.ended:
		return nil
	default:
	}
	all := []int{p.Pid()}
	for n := 0; n < len(all); n++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[n]))
		for _, list := range lists {
			text, _ := os.ReadFile(list) // it may have ended by itself
			for _, field := range bytes.Fields(text) {
				if pid, err := strconv.Atoi(string(field)); err == nil {
					all = append(all, pid)
				}
			}
		}
	}
	return all
}
