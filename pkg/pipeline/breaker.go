package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// BreakerConfig is when a target counts as down. While it does, nothing is sent to it but one event at a
// time, to find out whether it is back. A target that accepts a part of what it gets is not down.
type BreakerConfig struct {
	Failures int           `mapstructure:"failures" default:"5" doc:"Failed attempts without an accepted one since the first of them began, after which the target counts as down; four times as many if all of them began within open, at most 10s; and at least three quarters of the attempts that began meanwhile must have failed. Events that the target refuses do not count. 0: never."`
	Open     time.Duration `mapstructure:"open" default:"10s" doc:"Time after which a single event is sent to find out whether the target is back, such as 10s. More than 0."`
}

// DefaultBreakerConfig notices that a target is down after 5 to 20 failed attempts and its return within 10 s.
func DefaultBreakerConfig() BreakerConfig { return BreakerConfig{Failures: 5, Open: 10 * time.Second} }

// Validate reports every value that makes no sense.
func (c BreakerConfig) Validate() error {
	var errs []error
	if c.Failures < 0 {
		errs = append(errs, fmt.Errorf("failures: %d: must be 0 (off) or more", c.Failures))
	}
	if c.Failures > 0 && c.Open <= 0 {
		errs = append(errs, fmt.Errorf("open: %s: must be more than 0, such as 10s", c.Open))
	}
	return errors.Join(errs...)
}

const (
	// fairTrial is the longest time that an attempt needs to have had for its failure to count when the
	// caller's time ran out: what was begun just before the end of a lease says nothing about the target.
	fairTrial = 5 * time.Second
	// probeTime is the guess at how long an attempt under way takes to tell whether the target is back.
	probeTime = time.Second
)

// breaker keeps events from a target that is down. Its errors of attempts that were not made wrap
// retry.ErrNotTried, with the wait until the next attempt as their retry.Delay.
type breaker struct {
	Sink
	*health
	log       *zap.Logger
	fair      time.Duration
	outages   retry.Streak // a target that is down and up all the time is reported now and then
	recovered func()
}

// newBreaker wraps s, whose health is h. timeout is the limit of one Send, 0 for none. recovered is called when
// the target is back after it was down.
func newBreaker(s Sink, h *health, timeout time.Duration, log *zap.Logger, recovered func()) *breaker {
	b := &breaker{Sink: s, health: h, log: log, fair: fairTrial, recovered: recovered}
	if timeout > 0 {
		b.fair = min(b.fair, timeout)
	}
	return b
}

// Send makes an attempt, unless the target is down.
func (b *breaker) Send(ctx context.Context, e event.Event) error {
	number, ok, news := b.begin()
	b.report(news)
	if !ok {
		return b.notTried()
	}
	started := time.Now()
	err := b.Sink.Send(ctx, e)
	b.report(b.end(number, b.verdict(ctx, err, started), err))
	return err
}

// verdict is what err says about the target. A refusal blames the event, and what was never sent nobody: the target
// may be up or down.
func (b *breaker) verdict(ctx context.Context, err error, started time.Time) verdict {
	switch {
	case err == nil:
		return accepted
	case retry.IsPermanent(err), errors.Is(err, retry.ErrEnding), errors.Is(err, retry.ErrNotTried),
		ctx.Err() != nil && (stopping(ctx) || time.Since(started) < b.fair):
		return noVerdict
	}
	return failed
}

func (b *breaker) report(news *change) {
	switch {
	case news == nil:
	case !news.up:
		if !b.outages.Fail(news.err) {
			return
		}
		b.log.Warn("sink is down: nothing is sent to it but one event at a time", append(failure(news.err),
			zap.Int("failed", news.failures), zap.Int("attempts", news.attempts), zap.Duration("probe_after", b.cfg.Open))...)
	default:
		if b.outages.End().Reported() {
			b.log.Info("sink is back", zap.Duration("lasted", news.lasted),
				zap.Int("accepted", news.accepted), zap.Int("failed_probes", news.probes))
		}
		b.recovered()
	}
}

func (b *breaker) notTried() error {
	last := b.lastError()
	text := "the target is down"
	if last != nil {
		text += ", its last error: " + last.Error()
	}
	err := retry.After(fmt.Errorf("%w: %s", retry.ErrNotTried, text), max(time.Until(b.retryAt()), time.Millisecond))
	if hint := retry.Hint(last); hint != "" {
		err = retry.WithHint(err, hint)
	}
	return err
}

// wait waits until an attempt may be made, and returns false if that would be too late.
func (b *breaker) wait(ctx context.Context) bool {
	at := b.retryAt()
	if deadline, ok := ctx.Deadline(); ok && !at.Before(deadline) {
		return false
	}
	return retry.Sleep(ctx, time.Until(at)) == nil
}

// patient waits for a target that is down and that nothing can be parked for, instead of failing at once. An attempt
// that was not made for another reason has no delay: it is the caller's to repeat.
type patient struct {
	Sink    // with the breaker in it
	breaker *breaker
}

func (p *patient) Send(ctx context.Context, e event.Event) error {
	for {
		err := p.Sink.Send(ctx, e)
		if !errors.Is(err, retry.ErrNotTried) || retry.Delay(err) == 0 || !p.breaker.wait(ctx) {
			return err
		}
	}
}
