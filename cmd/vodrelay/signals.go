package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/relay"
)

const (
	// stopTime is when a stop ends by force. Everything that it consists of has a limit of its own, which add up
	// to less; what is deaf to its context is the only thing that can need it.
	stopTime = relay.StopLimit - app.LogSyncTime
	// oneSignal is how long signals after the first count as that one: supervisors send two, one to the process
	// and one to its group, and so does timeout(1).
	oneSignal = time.Second
	// reopenTime is how long the end waits for a reload or a reopening of files that hangs.
	reopenTime = 250 * time.Millisecond
	// crashTime is for the runtime's own end after SIGQUIT or SIGABRT.
	crashTime = 5 * time.Second
	// exitCrash is the status of that end, as of a panic.
	exitCrash = 2
)

// ignoreBrokenPipe makes a write to a pipe without a reader an error like any other. Otherwise the runtime
// would end the process in the middle of its work.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }

var errStopped = errors.New("stopped by a signal")

// untilSignal returns a context that SIGINT or SIGTERM ends. A further one, oneSignal later or more, ends the
// process at once, and so does a stop that takes longer than it may; every event that was not confirmed comes
// back. SIGQUIT and SIGABRT, which systemd's watchdog sends, end it with the stacks of all goroutines. log must not
// block, and has its lines out before any such end. reopen is called on SIGHUP, one call at a time, and
// returns when its context is done. The returned function ends the watching.
func untilSignal(ctx context.Context, log *zap.Logger, reopen func(context.Context)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stops := make(chan os.Signal, 2)
	signal.Notify(stops, syscall.SIGINT, syscall.SIGTERM)
	endStops := watch(func(done <-chan struct{}) { watchStops(done, stops, log, cancel) })
	crashes := make(chan os.Signal, 1)
	signal.Notify(crashes, syscall.SIGQUIT, syscall.SIGABRT)
	endCrashes := watch(func(done <-chan struct{}) {
		select {
		case <-done:
		case sig := <-crashes:
			crash(log, sig)
		}
	})
	hangups := make(chan os.Signal, 1)
	reopening, over := context.WithCancel(ctx)
	signal.Notify(hangups, syscall.SIGHUP)
	endHangups := watch(func(done <-chan struct{}) { // on its own: a reopen that takes long must not hold up a stop
		for {
			select {
			case <-done:
				return
			case <-hangups:
				reopen(reopening)
			}
		}
	})
	return ctx, func() {
		signal.Stop(hangups)
		over()
		select { // while a signal still ends the process
		case <-endHangups():
		case <-time.After(reopenTime):
		}
		<-endStops()
		signal.Stop(crashes)
		<-endCrashes()
		if !errors.Is(context.Cause(ctx), errStopped) { // else the second of two signals must not end the last steps
			signal.Stop(stops)
		}
		cancel(nil)
	}
}

// watch runs f until the returned function is called; the channel that this one returns is closed when f has
// returned.
func watch(f func(done <-chan struct{})) (end func() (ended <-chan struct{})) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		f(done)
	}()
	return func() <-chan struct{} {
		close(done)
		return ended
	}
}

func watchStops(done <-chan struct{}, stops <-chan os.Signal, log *zap.Logger, stop context.CancelCauseFunc) {
	var began time.Time
	var deadline <-chan time.Time
	for {
		select {
		case <-done:
			return
		case <-deadline:
			log.Error("the stop took too long: ending by force; what was not confirmed comes back")
			end(log)
		case sig := <-stops:
			switch {
			case deadline == nil:
				message := "stopping: a further signal ends at once"
				if sig == os.Interrupt && term.IsTerminal(int(os.Stderr.Fd())) { // and not from kill or a supervisor
					message = "stopping: press Ctrl-C again to end at once"
				}
				log.Info(message, zap.Stringer("signal", sig))
				began, deadline = time.Now(), time.After(stopTime)
				stop(errStopped)
			case time.Since(began) < oneSignal:
				log.Info("a second signal so soon counts as the first one", zap.Stringer("signal", sig))
			default:
				log.Warn("second signal: ending at once; what was not confirmed comes back", zap.Stringer("signal", sig))
				end(log)
			}
		}
	}
}

// end ends the process by force, with what the log still holds.
func end(log *zap.Logger) {
	_ = log.Sync() // it takes no longer than it may
	os.Exit(exitFailed)
}

// crash leaves the end to the runtime, once the log is out.
func crash(log *zap.Logger, sig os.Signal) {
	log.Error("ending at once with the stacks of all goroutines; what was not confirmed comes back", zap.Stringer("signal", sig))
	_ = log.Sync() // it takes no longer than it may
	signal.Reset(sig)
	if self, err := os.FindProcess(os.Getpid()); err == nil && self.Signal(sig) == nil {
		<-time.After(crashTime)
	}
	os.Exit(exitCrash)
}
