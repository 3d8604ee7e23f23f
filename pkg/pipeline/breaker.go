package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// BreakerConfig is when a target counts as down. While it does, nothing is sent to it but one event at a
// time, to find out whether it is back.
type BreakerConfig struct {
	Failures int           `mapstructure:"failures" default:"5" doc:"Failed attempts in a row after which nothing more is sent for a while; events that the target refuses for good do not count. 0: never."`
	Open     time.Duration `mapstructure:"open" default:"10s" doc:"Time after which a single event is sent to find out whether the target is back, such as 10s. More than 0."`
}

// DefaultBreakerConfig notices a target that is down within five attempts and its return within 10 s.
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
	log       *zap.Logger
	cfg       BreakerConfig
	fair      time.Duration
	cb        *gobreaker.CircuitBreaker[struct{}]
	recovered func()

	mu      sync.Mutex // never held while cb is called; cb holds its own lock while it calls changed
	state   gobreaker.State
	since   time.Time                // of state
	down    time.Time                // since when it has not been closed, zero when it is
	probing bool                     // half-open, with an attempt under way
	last    error                    // the latest failure that counted
	told    map[gobreaker.State]bool // states of this outage that were logged
	tell    []func()                 // log messages and notifications to be made without a lock
}

// newBreaker wraps s. timeout is the limit of one Send, 0 for none. recovered, which may be nil, is called
// when the target is back after it was down.
func newBreaker(s Sink, cfg BreakerConfig, timeout time.Duration, log *zap.Logger, recovered func()) *breaker {
	b := &breaker{
		Sink: s, log: log, cfg: cfg, fair: fairTrial, recovered: recovered,
		since: time.Now(), told: make(map[gobreaker.State]bool),
	}
	if timeout > 0 {
		b.fair = min(b.fair, timeout)
	}
	b.cb = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:       cfg.Open,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return uint64(c.ConsecutiveFailures) >= uint64(cfg.Failures) },
		IsSuccessful:  func(err error) bool { return err == nil || retry.IsPermanent(err) }, // a target that refuses an event is there
		IsExcluded:    func(err error) bool { var c *noVerdictError; return errors.As(err, &c) },
		OnStateChange: func(_ string, from, to gobreaker.State) { b.changed(from, to) },
	})
	return b
}

// noVerdictError is the error of an attempt that says nothing about the target.
type noVerdictError struct{ error }

func (n *noVerdictError) Unwrap() error { return n.error }

// Send makes an attempt, unless the target is down.
func (b *breaker) Send(ctx context.Context, e event.Event) error {
	_, err := b.cb.Execute(func() (struct{}, error) {
		probe := b.begin()
		b.announce()
		started := time.Now()
		err := b.Sink.Send(ctx, e)
		if errors.Is(err, retry.ErrEnding) || err != nil && ctx.Err() != nil && (stopping(ctx) || time.Since(started) < b.fair) {
			err = &noVerdictError{err}
		}
		b.end(probe, err)
		return struct{}{}, err
	})
	b.announce()
	var none *noVerdictError
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return b.notTried()
	case errors.As(err, &none):
		return none.error
	}
	return err
}

func (b *breaker) begin() (probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = b.state == gobreaker.StateHalfOpen
	return b.probing
}

// end comes before gobreaker learns of the result, so that the error is there when the state changes.
func (b *breaker) end(probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && !retry.IsPermanent(err) {
		var none *noVerdictError
		if !errors.As(err, &none) {
			b.last = err
		}
	}
	if probe {
		b.probing = false
	}
}

// changed is called by gobreaker, under its lock.
func (b *breaker) changed(from, to gobreaker.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.since = to, time.Now()
	if from == gobreaker.StateClosed {
		b.down = b.since
	}
	first := !b.told[to]
	b.told[to] = true
	lasted := b.since.Sub(b.down)
	switch to {
	case gobreaker.StateOpen:
		if last := b.last; first {
			b.tell = append(b.tell, func() {
				b.log.Warn("sink is down: nothing is sent to it but one event at a time", append(failure(last),
					zap.String("breaker", to.String()), zap.Duration("probe_after", b.cfg.Open))...)
			})
		}
	case gobreaker.StateHalfOpen:
		if first {
			b.tell = append(b.tell, func() {
				b.log.Info("sending one event to find out whether the sink is back", zap.String("breaker", to.String()))
			})
		}
	case gobreaker.StateClosed:
		b.down, b.last = time.Time{}, nil
		clear(b.told)
		b.tell = append(b.tell, func() {
			b.log.Info("sink is back", zap.String("breaker", to.String()), zap.Duration("lasted", lasted))
			if b.recovered != nil {
				b.recovered()
			}
		})
	}
}

// announce tells what has happened, outside of all locks.
func (b *breaker) announce() {
	b.mu.Lock()
	tell := b.tell
	b.tell = nil
	b.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

func (b *breaker) notTried() error {
	until := time.Until(b.retryAt())
	b.mu.Lock()
	last := b.last
	b.mu.Unlock()
	text := "the target is down"
	if last != nil {
		text += ", its last error: " + last.Error()
	}
	err := retry.After(fmt.Errorf("%w: %s", retry.ErrNotTried, text), max(until, time.Millisecond))
	if hint := retry.Hint(last); hint != "" {
		err = retry.WithHint(err, hint)
	}
	return err
}

// retryAt is when the next attempt may be made; zero: now.
func (b *breaker) retryAt() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	var at time.Time
	switch {
	case b.state == gobreaker.StateOpen:
		at = b.since.Add(b.cfg.Open + time.Millisecond) // gobreaker lets it pass after the time, not at it
	case b.probing:
		at = b.since.Add(probeTime)
		if now := time.Now(); !at.After(now) {
			at = now.Add(probeTime)
		}
	}
	if !at.After(time.Now()) {
		return time.Time{}
	}
	return at
}

func (b *breaker) stats() BreakerStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return BreakerStats{State: b.state.String(), Since: b.since}
}

// wait waits until an attempt may be made, and returns false if that would be too late.
func (b *breaker) wait(ctx context.Context) bool {
	at := b.retryAt()
	if deadline, ok := ctx.Deadline(); ok && !at.Before(deadline) {
		return false
	}
	return retry.Sleep(ctx, time.Until(at)) == nil
}

// patient waits for a target that is down and that nothing can be parked for, instead of failing at once.
type patient struct {
	Sink    // with the breaker in it
	breaker *breaker
}

func (p *patient) Send(ctx context.Context, e event.Event) error {
	for {
		err := p.Sink.Send(ctx, e)
		if !errors.Is(err, retry.ErrNotTried) || !p.breaker.wait(ctx) {
			return err
		}
	}
}
