package servers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/vodrelay/vodrelay/scripts/chaos/child"
)

// server is a process that keeps its data and its address over a crash.
type server struct {
	command child.Command
	ready   func(context.Context) error
	stop    syscall.Signal // for an end in order

	mu      sync.Mutex
	process *child.Child
}

// Start starts the server, again after Kill with what it had, and returns when it answers.
func (s *server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return errors.New("the server runs already")
	}
	process, err := child.Start(s.command)
	if err != nil {
		return err
	}
	if err := await(ctx, process, s.ready); err != nil {
		process.Kill()
		return fmt.Errorf("%w: see %s", err, s.command.Log)
	}
	s.process = process
	return nil
}

// Kill ends all its processes with SIGKILL, as a crash of the machine does.
func (s *server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.Kill()
		s.process = nil
	}
}

// Stop ends it in order.
func (s *server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	err := s.process.Stop(s.stop, stopLimit)
	s.process = nil
	return err
}

// Freeze stops all its processes where they are, as a machine that hangs does.
func (s *server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.Freeze()
	}
}

// Thaw ends Freeze.
func (s *server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.Thaw()
	}
}
