package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

func newDrain(p *program) *cobra.Command {
	opts := relay.DefaultDrain()
	var limit time.Duration
	var quiet bool
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Relay until the queue is empty, then exit",
		Long: `Relay events until the queue is empty, then exit. An event that could not be
settled is tried once more when its lease is over, after 30 s.

What another consumer has pulled and not confirmed is invisible, and comes back
within 30 s. So the queue counts as empty when nothing has come for 31 s; what
vodrelay itself may have pulled without a reply is waited for in the same way.
Then VOD is asked how many events it counts. That number lags by up to three
minutes: if it is not 0, the drain goes on for so long. --quiet-for 0 ends after
two empty polls, and waits for no number that lags.

Exit codes: 0 nothing is left in the queue, and every event was accepted
            1 failed
            3 nothing is left in the queue, but events are in the store: see
              vodrelay parcels
            4 events are or may be left in the queue: some could not be settled,
              VOD counts more than came, or the drain was stopped, also by
              --for or --max
           78 the configuration or the key is wrong

Without sinks in the configuration, events are printed: vodrelay drain | jq`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case limit < 0:
				return &exitError{exitUsage, fmt.Errorf("--for: %s: must be a time such as 10m, or 0 for no limit", limit)}
			case opts.QuietFor < 0:
				return &exitError{exitUsage, fmt.Errorf("--quiet-for: %s: must be a time such as %s, or 0", opts.QuietFor, relay.DefaultQuiet)}
			case opts.Max < 0:
				return &exitError{exitUsage, fmt.Errorf("--max: %d: must be a number of events, or 0 for no limit", opts.Max)}
			}
			cfg, err := p.load(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, limit, errDrainTime)
				defer cancel()
			}
			return p.withApp(ctx, cfg, reopen, func(ctx context.Context, a *app.App, log *app.Log) error {
				return p.drain(ctx, a, log, opts, quiet)
			})
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().DurationVar(&limit, "for", 0, "stop after this time, such as 10m (default: no limit)")
	cmd.Flags().IntVar(&opts.Max, "max", 0, "stop when so many events have been pulled, and at most 15 more (default: no limit)")
	cmd.Flags().DurationVar(&opts.QuietFor, "quiet-for", opts.QuietFor, "how long nothing must have come before the queue counts as empty")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return cmd
}

// errDrainTime is the cause of a stop by --for.
var errDrainTime = errors.New("the time of --for is over")

func (p *program) drain(ctx context.Context, a *app.App, log *app.Log, opts relay.DrainOptions, quiet bool) error {
	stop := func() {}
	if !quiet {
		stop = p.showProgress(ctx, a, log)
	}
	sum, err := a.Drain(ctx, opts)
	stop()
	if err != nil {
		return fatal(err)
	}
	unrouted := a.PipelineStats().Unrouted
	log.Info("drain ended", zap.Bool("empty", sum.Empty), zap.Int64("confirmed", sum.Confirmed), zap.Int("left", sum.Left), zap.Uint64("counted", sum.Counted),
		zap.Uint64("wanted_by_no_sink", unrouted),
		zap.Duration("elapsed", sum.Elapsed.Round(time.Millisecond)), zap.Float64("events_per_second", rate(sum)))
	return unwanted(drained(sum, context.Cause(ctx)), unrouted)
}

// drained turns the result of a drain into the exit code. stopped is why it was stopped, nil if it was not.
func drained(sum relay.Summary, stopped error) error {
	left := func(format string, args ...any) error { return &exitError{exitLeft, fmt.Errorf(format, args...)} }
	switch {
	case sum.Stopped && errors.Is(stopped, errDrainTime):
		return left("stopped as --for says, before the queue was empty: what is left comes at the next run")
	case sum.Stopped && stopped != nil:
		return left("stopped before the queue was empty: what is left comes at the next run")
	case sum.Stopped:
		return left("stopped after %s as --max says, before the queue was empty: what is left comes at the next run", safetext.Count(sum.Confirmed, "event", "events"))
	case sum.Left > 0:
		return left("%s left in the queue: each failed twice; the reasons are above", safetext.Count(sum.Left, "event is", "events are"))
	case sum.Counted > 0:
		return left("the polls bring no more events, but VOD still counts %d, a number that lags by up to three minutes: drain again, and look for other consumers of the queue", sum.Counted)
	case sum.Waiting+sum.Dead > 0:
		return &exitError{exitParked, fmt.Errorf("the queue is empty, but %s to be sent again and %s: see vodrelay parcels list",
			safetext.Count(sum.Waiting, "parcel waits", "parcels wait"), safetext.Count(sum.Dead, "is dead", "are dead"))}
	}
	return nil
}

// unwanted adds to the error of a drain what no sink wanted. That alone is none.
func unwanted(err error, events uint64) error {
	var exit *exitError
	if events > 0 && errors.As(err, &exit) {
		return &exitError{exit.code, fmt.Errorf("%w; %s wanted by no sink, and confirmed", exit.err, safetext.Count(events, "event was", "events were"))}
	}
	return err
}

func rate(sum relay.Summary) float64 {
	seconds := sum.Elapsed.Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(int64(float64(sum.Confirmed) / seconds))
}

const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 10 * time.Second
)

// showProgress shows a bar on a terminal, and otherwise a line in the log now and then, until the returned
// function is called. The total is what VOD says of its queues, which is late by minutes: a guide only.
func (p *program) showProgress(ctx context.Context, a *app.App, log *app.Log) func() {
	ctx, cancel := context.WithCancel(ctx)
	var showing sync.WaitGroup
	showing.Go(func() {
		if f, ok := p.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			showBar(ctx, a, log)
			return
		}
		total := depth(ctx, a)
		every(ctx, lineEvery, func() {
			s := a.Stats()
			log.Info("draining", zap.Int64("confirmed", s.Confirmed), zap.Int64("in_hand", s.InHand), zap.Int64("about", max(total, s.Confirmed)))
		})
	})
	return func() {
		cancel()
		showing.Wait()
	}
}

// showBar writes by way of the log, so that a terminal that was halted (Ctrl-S) does not hold up the drain.
func showBar(ctx context.Context, a *app.App, log *app.Log) {
	total := depth(ctx, a)
	if total == 0 {
		total = -1 // unknown: a spinner
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(log),
		progressbar.OptionSetDescription("draining"),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("events"),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(barEvery),
		progressbar.OptionClearOnFinish(),
	)
	every(ctx, barEvery, func() {
		confirmed := a.Stats().Confirmed
		if total > 0 && confirmed > total {
			total = confirmed
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(confirmed) // a terminal that cannot be written to changes nothing
	})
	_ = bar.Finish()
}

// depth is about how many events wait in all queues; 0 when nobody says.
func depth(ctx context.Context, a *app.App) int64 {
	var total int64
	for _, id := range a.Applications() {
		n, err := a.Client().QueueDepth(ctx, id)
		if err != nil {
			return 0
		}
		total += int64(min(n, 1<<40))
	}
	return total
}

func every(ctx context.Context, d time.Duration, f func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}
