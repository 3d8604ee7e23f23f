package retry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Schedule is how something that is stored is tried again, over hours and days. The limit of the wait
// doubles from Initial to Max with every failure, and the wait itself is drawn at random from all that is
// below it, so that what failed together is spread out evenly.
type Schedule struct {
	Initial     time.Duration `mapstructure:"initial" default:"10s" doc:"Longest wait after the first failure, such as 10s; doubles with every further one. The wait is drawn at random from all below. More than 0."`
	Max         time.Duration `mapstructure:"max" default:"10m" doc:"Longest wait between two attempts, such as 10m. At least initial."`
	MaxAttempts int           `mapstructure:"max_attempts" default:"0" doc:"Failed attempts after which an event becomes a dead letter; 0: never."`
	MaxAge      time.Duration `mapstructure:"max_age" default:"0s" doc:"Age from which an event becomes a dead letter at its next failure, such as 72h; 0s: never."`
}

// DefaultSchedule never gives up.
func DefaultSchedule() Schedule { return Schedule{Initial: 10 * time.Second, Max: 10 * time.Minute} }

// Validate reports every value that makes no sense.
func (s Schedule) Validate() error {
	var errs []error
	if s.Initial <= 0 {
		errs = append(errs, fmt.Errorf("initial: %s: must be more than 0, such as 10s", s.Initial))
	}
	if s.Max < s.Initial {
		errs = append(errs, fmt.Errorf("max: %s: must be at least initial (%s)", s.Max, s.Initial))
	}
	if s.MaxAttempts < 0 {
		errs = append(errs, fmt.Errorf("max_attempts: %d: must be 0 (no limit) or more", s.MaxAttempts))
	}
	if s.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("max_age: %s: must be 0s (no limit) or more", s.MaxAge))
	}
	return errors.Join(errs...)
}

// Wait is how long to wait after the failures so far, of which err is the last; at least err's Delay.
func (s Schedule) Wait(failures int, err error) time.Duration {
	limit := s.Initial
	for range failures - 1 {
		limit += min(limit, s.Max-limit) // twice the limit may be more than a Duration holds
	}
	wait := rand.N(max(limit, 1)) //nolint:gosec // nobody gains from knowing it
	return max(wait, Delay(err))
}

// Exhausted reports why there is no further attempt: "" if there is one.
func (s Schedule) Exhausted(failures int, age time.Duration) string {
	switch {
	case s.MaxAttempts > 0 && failures >= s.MaxAttempts:
		return fmt.Sprintf("given up at attempt %d", failures)
	case s.MaxAge > 0 && age >= s.MaxAge:
		return fmt.Sprintf("given up after %s", s.MaxAge)
	}
	return ""
}
