package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestScheduleWait(t *testing.T) {
	s := retry.Schedule{Initial: time.Second, Max: time.Minute}
	for failures, seconds := range map[int]int{1: 1, 2: 2, 3: 4, 4: 8, 5: 16, 6: 32, 7: 60, 8: 60, 100_000: 60} {
		limit := time.Duration(seconds) * time.Second
		low, high := false, false
		for range 200 {
			wait := s.Wait(failures, nil)
			require.GreaterOrEqual(t, wait, time.Duration(0))
			require.Less(t, wait, limit)
			low, high = low || wait < limit/4, high || wait > limit*3/4
		}
		require.True(t, low && high, "the jitter is full")
	}
	require.Equal(t, time.Hour, s.Wait(1, retry.After(errors.New("busy"), time.Hour)))
	require.Zero(t, retry.Schedule{}.Wait(1, nil), "the zero value does not panic")
}

// The wait never gets short again, not even with the longest Max that there is.
func TestScheduleWaitOfTheLongestMax(t *testing.T) {
	s := retry.Schedule{Initial: time.Hour, Max: math.MaxInt64}
	require.NoError(t, s.Validate())
	for failures := 40; failures < 100; failures++ {
		var longest time.Duration
		for range 200 {
			longest = max(longest, s.Wait(failures, nil))
		}
		require.Greater(t, longest, s.Max/2, failures)
	}
}

func TestScheduleExhausted(t *testing.T) {
	never := retry.DefaultSchedule()
	require.Empty(t, never.Exhausted(1_000_000, 1000*time.Hour))
	s := retry.Schedule{MaxAttempts: 3, MaxAge: time.Hour}
	require.Empty(t, s.Exhausted(2, 59*time.Minute))
	require.Equal(t, "given up at attempt 3", s.Exhausted(3, 0))
	require.Equal(t, "given up after 1h0m0s", s.Exhausted(1, time.Hour))
}

func TestScheduleValidate(t *testing.T) {
	require.NoError(t, retry.DefaultSchedule().Validate())
	require.NoError(t, retry.Schedule{Initial: 1, Max: 1}.Validate(), "all waits are equal")
	require.ErrorContains(t, retry.Schedule{Max: time.Minute}.Validate(), "initial: 0s: must be more than 0")
	require.EqualError(t, retry.Schedule{Initial: -1, Max: -2, MaxAttempts: -1, MaxAge: -1}.Validate(),
		"initial: -1ns: must be more than 0, such as 10s\n"+
			"max: -2ns: must be at least initial (-1ns)\n"+
			"max_attempts: -1: must be 0 (no limit) or more\n"+
			"max_age: -1ns: must be 0s (no limit) or more")
}

func TestDoEndsWithAnAttemptThatWasNotMade(t *testing.T) {
	calls := 0
	err := retry.DefaultPolicy().Do(t.Context(), func(context.Context) error {
		calls++
		return fmt.Errorf("%w: target down", retry.ErrNotTried)
	})
	require.ErrorIs(t, err, retry.ErrNotTried)
	require.Equal(t, 1, calls)
}
