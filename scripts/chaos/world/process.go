package world

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a child process whose standard error goes into a file.
type process struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has ended
	code   int           // its exit code, -1 for a signal; to be read after ended
	copied sync.WaitGroup
}

// start runs a program; lines gets each line of its standard error, which is also appended to the file log.
func start(log string, environ []string, lines func([]byte), program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environ, in, in
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // a Ctrl-C is for the harness alone
	err = p.cmd.Start()
	_ = in.Close()
	if err != nil {
		return nil, errors.Join(err, out.Close(), file.Close())
	}
	p.copied.Go(func() {
		defer file.Close()
		defer out.Close()
		copyLines(file, out, lines)
	})
	go func() {
		_ = p.cmd.Wait()
		p.copied.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.ended)
	}()
	return p, nil
}

// copyLines copies until the end, and calls lines for each whole line.
func copyLines(to, from *os.File, lines func([]byte)) {
	var rest []byte
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		_, _ = to.Write(buffer[:n]) // a log that cannot be written does not stop the run
		rest = append(rest, buffer[:n]...)
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			if lines != nil {
				lines(rest[:i])
			}
			rest = rest[i+1:]
		}
		if err != nil {
			return
		}
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // one that has ended needs none

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends it at once, and returns when it has ended.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// wait waits for its end.
func (p *process) wait(limit time.Duration) (code int, err error) {
	select {
	case <-p.ended:
		return p.code, nil
	case <-time.After(limit):
		return 0, fmt.Errorf("it has not ended within %s", limit)
	}
}
