package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/relay"
)

// stopMargin is what the process gets beyond the relay's own limit before it ends by force. A handler that
// is deaf to its context is the only thing that can need it.
const stopMargin = 2 * time.Second

// ignoreBrokenPipe makes a write to a pipe without a reader an error like any other. Otherwise the runtime
// would end the process in the middle of its work.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }

var errStopped = errors.New("stopped by a signal")

// untilSignal returns a context that SIGINT or SIGTERM ends. A second one ends the process at once, and so
// does a stop that takes longer than it may; every event that was not confirmed comes back. reopen is
// called on SIGHUP, one call at a time. The returned function ends the watching.
func untilSignal(ctx context.Context, log *zap.Logger, reopen func()) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stops := make(chan os.Signal, 2)
	signal.Notify(stops, syscall.SIGINT, syscall.SIGTERM)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { // on its own: a reopen that takes long must not hold up a stop
		for {
			select {
			case <-done:
				return
			case <-hangups:
				reopen()
			}
		}
	})
	watching.Go(func() {
		var deadline <-chan time.Time
		for {
			select {
			case <-done:
				return
			case <-deadline:
				log.Error("the stop took too long: ending by force; what was not confirmed comes back")
				end(log)
			case sig := <-stops:
				if deadline != nil {
					log.Warn("second signal: ending at once; what was not confirmed comes back", zap.Stringer("signal", sig))
					end(log)
				}
				log.Info("stopping: press again to end at once", zap.Stringer("signal", sig))
				deadline = time.After(relay.StopLimit + stopMargin)
				cancel(errStopped)
			}
		}
	})
	return ctx, func() {
		signal.Stop(stops)
		signal.Stop(hangups)
		close(done)
		watching.Wait()
		cancel(nil)
	}
}

// end ends the process by force, with what the log still holds.
func end(log *zap.Logger) {
	_ = log.Sync() // it takes no longer than it may
	os.Exit(exitFailed)
}
