package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// statusEvery is how often systemctl status gets a new line.
const statusEvery = 5 * time.Second

// supervisor tells systemd how the relay is: that it has started, is reloading, is stopping, still moves,
// and what it does. Not started by systemd as a service of a notifying type, it tells nobody.
// Protocol: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html.
type supervisor struct {
	log      *zap.Logger
	alive    func() error
	status   func() string
	send     func(state string) (bool, error) // false: nobody is there
	watchdog time.Duration                    // without a sign of life for so long, systemd ends the process; 0: never

	mu             sync.Mutex
	running        bool  // READY=1 was sent and STOPPING=1 was not
	reloadErr      error // of the last reload
	unsent, frozen retry.Streak
}

// newSupervisor reads what systemd put into the process's own environment. alive is asked when a watchdog
// waits for a sign of life, which is withheld while it returns an error; it must not wait for anything
// outside the process. status is one line for a person.
func newSupervisor(log *zap.Logger, alive func() error, status func() string) *supervisor {
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog gets no sign of life", zap.Error(err))
	}
	return &supervisor{
		log: log, alive: alive, status: status, watchdog: watchdog,
		send: func(state string) (bool, error) { return daemon.SdNotify(false, state) },
	}
}

// Run says that the relay has started, then how it is, and when ctx is done that it stops. It blocks until
// ctx is done.
func (s *supervisor) Run(ctx context.Context) {
	if there, _ := s.send("STATUS=starting"); !there {
		<-ctx.Done()
		return
	}
	s.begin()
	defer s.end()
	var signs <-chan time.Time
	if s.watchdog > 0 {
		ticker := time.NewTicker(s.watchdog / 2)
		defer ticker.Stop()
		signs = ticker.C
	}
	lines := time.NewTicker(statusEvery)
	defer lines.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signs:
			s.signOfLife()
		case <-lines.C:
			s.tell("STATUS=" + s.line())
		}
	}
}

// Reload runs f, and tells systemd when it begins and ends. The status line tells of an error until the
// next reload; what f could not change stays as it was.
func (s *supervisor) Reload(f func() error) error {
	s.mu.Lock()
	running := s.running
	s.mu.Unlock()
	if running {
		s.tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	}
	err := f()
	s.mu.Lock()
	s.reloadErr, running = err, s.running
	s.mu.Unlock()
	if running {
		s.tell(daemon.SdNotifyReady, "STATUS="+s.line())
	}
	return err
}

func (s *supervisor) begin() {
	s.mu.Lock()
	s.running = true
	s.mu.Unlock()
	s.tell(daemon.SdNotifyReady, "STATUS="+s.line())
}

func (s *supervisor) end() {
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	s.tell(daemon.SdNotifyStopping, "STATUS=stopping: finishing the events in hand")
}

func (s *supervisor) signOfLife() {
	if err := s.alive(); err != nil {
		if s.frozen.Fail(err) {
			s.log.Error("the relay does not move: systemd restarts it unless that ends", zap.Error(err), zap.Duration("watchdog", s.watchdog))
		}
		return
	}
	s.frozen.End().Report(s.log, "the relay moves again")
	s.tell(daemon.SdNotifyWatchdog)
}

// line is the status in one line: a second one would be read as another message.
func (s *supervisor) line() string {
	line := s.status()
	s.mu.Lock()
	if s.reloadErr != nil {
		line += "; the reload failed, what it did not change is as before: " + s.reloadErr.Error()
	}
	s.mu.Unlock()
	return strings.ReplaceAll(line, "\n", "; ")
}

func (s *supervisor) tell(messages ...string) {
	if _, err := s.send(strings.Join(messages, "\n")); err != nil {
		if s.unsent.Fail(err) {
			s.log.Warn("cannot tell systemd how the relay is", zap.Error(err))
		}
		return
	}
	s.unsent.End()
}

// statusLine returns a status for a supervisor: the rate since the line before, how many events are in hand,
// when depth knows, about how many wait in VOD's queues, and why the store is not open.
func statusLine(stats func() relay.Stats, depth func() (events uint64, known bool), storeErr func() error) func() string {
	last, confirmed := time.Now(), stats().Confirmed
	var mu sync.Mutex
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		now, s := time.Now(), stats()
		rate := 0.0
		if seconds := now.Sub(last).Seconds(); seconds > 0 {
			rate = float64(s.Confirmed-confirmed) / seconds
		}
		last, confirmed = now, s.Confirmed
		line := fmt.Sprintf("%.1f events/s, %d confirmed, %d in hand", rate, s.Confirmed, s.InHand)
		if events, known := depth(); known {
			line += fmt.Sprintf(", about %d in the queue", events)
		}
		if err := storeErr(); err != nil {
			line += "; " + err.Error()
		}
		return line
	}
}
