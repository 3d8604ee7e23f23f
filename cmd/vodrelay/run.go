package main

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// closeTime bounds what a command closes at its end.
const closeTime = relay.CloseTime

func newRun(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Relay events until it is stopped",
		Long: `Relay events until SIGTERM or SIGINT. A stop takes no more events, finishes and
confirms those in hand, and ends within 25 s. A further signal ends at once; two
within a second, as some supervisors send, count as one.

SIGHUP reloads the configuration: processors, sinks, limits and the log's level
take effect without a stop. It is checked whole first; a bad one changes nothing.
It also opens the files of file sinks anew, for logrotate.

Without sinks in the configuration, events are printed, one JSON object a line.`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load(cmd)
			if err != nil {
				return err
			}
			systemd := make(chan *supervisor, 1)
			hangup := func(ctx context.Context, a *app.App, log *zap.Logger) {
				reopen(ctx, a, log)
				select { // at the start it waits: the configuration may be newer than the one that was read
				case s := <-systemd:
					systemd <- s
					_ = s.Reload(func() error { return p.reload(cmd, a, log) }) // it has told
				case <-ctx.Done():
				}
			}
			return p.withApp(cmd.Context(), cfg, hangup, func(ctx context.Context, a *app.App, log *app.Log) error {
				log.Info("starting", zap.String("version", versionText()), zap.String("endpoint", cfg.Vod.Endpoint), zap.Uint64s("sub_app_ids", cfg.Vod.SubAppIDs), zap.Int("sinks", len(cfg.Sinks)))
				if err := a.Listen(ctx); err != nil {
					return fatal(err)
				}
				s := newSupervisor(log.Logger, a.Alive, statusLine(a.Stats, a.Depth, a.StoreErr))
				systemd <- s
				telling, cancel := context.WithCancel(ctx)
				var told sync.WaitGroup
				told.Go(func() { s.Run(telling) })
				err := a.Run(ctx)
				cancel()
				told.Wait()
				return fatal(err)
			})
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// reload reads the configuration again and applies what can change without a restart.
func (p *program) reload(cmd *cobra.Command, a *app.App, log *zap.Logger) error {
	cfg, err := p.load(cmd)
	var needRestart []string
	if err == nil {
		needRestart, err = a.Reload(cfg)
	}
	switch {
	case err != nil:
		hint := cmp.Or(retry.Hint(err), "fix it, try it with vodrelay check, and reload again")
		log.Error("the configuration was not reloaded: the old one goes on", zap.Error(err), zap.String("hint", hint))
	case len(needRestart) > 0:
		log.Warn("some changes need a restart", zap.Strings("keys", needRestart), zap.String("hint", app.RestartHint(needRestart)))
	}
	return err
}

// withApp builds the program from cfg, runs f with it until a signal, and closes it. hangup is called on
// SIGHUP, for one that came earlier once the program is built, and returns when its context is done.
func (p *program) withApp(ctx context.Context, cfg *config.Config, hangup func(context.Context, *app.App, *zap.Logger), f func(context.Context, *app.App, *app.Log) error) (err error) {
	log, err := app.NewLogger(cfg.Log, p.stderr)
	if err != nil {
		return &exitError{exitConfig, err}
	}
	defer func() { _ = log.Sync() }() // nobody is left to be told
	// Libraries print there, as net/http and the cloud's SDK do, whoever reads it and whatever the level.
	restore, err := zap.RedirectStdLogAt(log.Logger, zap.DebugLevel)
	if err != nil {
		return err
	}
	defer restore()
	built := make(chan *app.App, 1)
	ctx, unwatch := untilSignal(ctx, log.Logger, func(ctx context.Context) {
		select {
		case a := <-built:
			built <- a
			hangup(ctx, a, log.Logger)
		case <-ctx.Done():
		}
	})
	defer unwatch() // last, so that a second signal also ends a close that hangs
	a, err := app.New(ctx, cfg, log.Logger, p.stdout, app.WithVersion(versionText()), app.WithLog(log))
	if err != nil {
		if errors.Is(err, store.ErrLocked) { // no fault of the configuration: a restart may succeed
			return err
		}
		return &exitError{exitConfig, err}
	}
	built <- a
	defer func() {
		if err := a.Close(context.WithoutCancel(ctx)); err != nil {
			log.Warn("not everything could be closed in order; no event is lost: what was not accepted is stored, or comes again", zap.Error(err))
		}
	}()
	return f(ctx, a, log)
}

// reopen makes a write its files anew.
func reopen(_ context.Context, a *app.App, log *zap.Logger) {
	if err := a.Reopen(); err != nil {
		log.Error("cannot reopen the files", zap.Error(err), zap.String("hint", retry.Hint(err)))
		return
	}
	log.Info("files reopened")
}

// fatal gives the error of a relay its exit code: what is permanent is the configuration's fault.
func fatal(err error) error {
	if err != nil && retry.IsPermanent(err) {
		return &exitError{exitConfig, err}
	}
	return err
}
