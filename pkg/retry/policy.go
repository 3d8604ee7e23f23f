package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Policy is how often and how fast something is tried again. The wait doubles from Initial to Max, each
// drawn at random from half to one and a half times its nominal length, so that many callers that failed
// together do not come back together.
type Policy struct {
	Initial     time.Duration `mapstructure:"initial" default:"200ms" doc:"Wait before the second attempt, such as 200ms; doubles with every attempt. More than 0."`
	Max         time.Duration `mapstructure:"max" default:"10s" doc:"Longest wait between two attempts. At least initial."`
	MaxAttempts int           `mapstructure:"max_attempts" default:"0" doc:"Most attempts in one go; 0: as many as the time allows."`
}

// DefaultPolicy suits a target that answers within seconds.
func DefaultPolicy() Policy {
	return Policy{Initial: 200 * time.Millisecond, Max: 10 * time.Second}
}

// Validate reports every value that makes no sense.
func (p Policy) Validate() error {
	var errs []error
	if p.Initial <= 0 {
		errs = append(errs, fmt.Errorf("initial: %s: must be more than 0, such as 200ms", p.Initial))
	}
	if p.Max < p.Initial {
		errs = append(errs, fmt.Errorf("max: %s: must be at least initial (%s)", p.Max, p.Initial))
	}
	if p.MaxAttempts < 0 {
		errs = append(errs, fmt.Errorf("max_attempts: %d: must be 0 (no limit) or more", p.MaxAttempts))
	}
	return errors.Join(errs...)
}

// Do calls op until it succeeds, and returns op's last error when it does not: because that is permanent or
// wraps ErrNotTried or ErrEnding, the attempts are used up, ctx is done, or the next wait would outlast
// ctx's deadline, which is then not waited for. A wait is never shorter than the error's Delay. op is
// always called at least once.
func (p Policy) Do(ctx context.Context, op func(ctx context.Context) error) error {
	wait := p.Backoff()
	for attempt := 1; ; attempt++ {
		err := op(ctx)
		if err == nil || IsPermanent(err) || errors.Is(err, ErrNotTried) || errors.Is(err, ErrEnding) || ctx.Err() != nil || attempt == p.MaxAttempts {
			return err
		}
		pause := max(wait.Next(), Delay(err))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
			return err
		}
		if Sleep(ctx, pause) != nil {
			return err
		}
	}
}

// Backoff is the sequence of a policy's waits, for loops that Do does not fit. It is not safe for
// concurrent use.
type Backoff struct{ exp *backoff.ExponentialBackOff }

// Backoff starts the sequence at its first wait.
func (p Policy) Backoff() *Backoff {
	return &Backoff{backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(p.Initial),
		backoff.WithMaxInterval(p.Max),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(0),
	)}
}

// Next is the next wait, more than 0.
func (b *Backoff) Next() time.Duration { return max(b.exp.NextBackOff(), time.Nanosecond) }

// Reset starts the sequence again, as after a success.
func (b *Backoff) Reset() { b.exp.Reset() }

// Sleep waits for d, or until ctx is done and then returns its error. With 0 or less it does not wait.
func Sleep(ctx context.Context, d time.Duration) error { return SleepOr(ctx, d, nil) }

// SleepOr is Sleep that ends early, without an error, when the channel is closed.
func SleepOr(ctx context.Context, d time.Duration, early <-chan struct{}) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	case <-early:
		return nil
	}
}
