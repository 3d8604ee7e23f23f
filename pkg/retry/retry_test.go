package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

var errDown = errors.New("down")

func TestClasses(t *testing.T) {
	permanent := retry.Permanent(errDown)
	for _, c := range []struct {
		name      string
		err       error
		permanent bool
		delay     time.Duration
		hint      string
	}{
		{"nil", nil, false, 0, ""},
		{"plain", errDown, false, 0, ""},
		{"permanent", permanent, true, 0, ""},
		{"wrapped permanent", fmt.Errorf("site: %w", permanent), true, 0, ""},
		{"after", retry.After(errDown, time.Minute), false, time.Minute, ""},
		{"hint around the others", retry.WithHint(retry.After(permanent, time.Second), "look"), true, time.Second, "look"},
		{"outermost hint", retry.WithHint(fmt.Errorf("a: %w", retry.WithHint(errDown, "in")), "out"), false, 0, "out"},
		{"joined, all permanent", errors.Join(permanent, fmt.Errorf("x: %w", permanent)), true, 0, ""},
		{"joined, one not", errors.Join(permanent, errDown), false, 0, ""},
		{"wrapped join", fmt.Errorf("both: %w", errors.Join(permanent, errDown)), false, 0, ""},
		{"permanent join", retry.Permanent(errors.Join(errDown, errDown)), true, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.permanent, retry.IsPermanent(c.err))
			require.Equal(t, c.delay, retry.Delay(c.err))
			require.Equal(t, c.hint, retry.Hint(c.err))
			if c.err != nil {
				require.ErrorIs(t, c.err, errDown)
			}
		})
	}
	require.True(t, retry.HadNoEffect(fmt.Errorf("x: %w", retry.NoEffect(permanent))))
	require.True(t, retry.IsPermanent(retry.NoEffect(permanent)))
	require.False(t, retry.HadNoEffect(permanent))
	require.False(t, retry.HadNoEffect(errors.Join(retry.NoEffect(errDown), errDown)), "one of them may have had one")
	require.NoError(t, retry.NoEffect(nil))
	require.True(t, retry.IsKeyRefused(retry.NoEffect(retry.KeyRefused(errDown))))
	require.False(t, retry.IsKeyRefused(permanent))
	require.NoError(t, retry.KeyRefused(nil))
	require.NoError(t, retry.Permanent(nil))
	require.NoError(t, retry.After(nil, time.Second))
	require.NoError(t, retry.WithHint(nil, "x"))
}

func TestDo(t *testing.T) {
	policy := retry.Policy{Initial: time.Second, Max: 10 * time.Second}
	run := func(name string, p retry.Policy, ctxTime time.Duration, answers func(call int) error, calls int, atLeast, atMost time.Duration, want error) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if ctxTime > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, ctxTime)
					defer cancel()
				}
				began, made := time.Now(), 0
				err := p.Do(ctx, func(context.Context) error { made++; return answers(made) })
				require.ErrorIs(t, err, want)
				if calls > 0 {
					require.Equal(t, calls, made)
				}
				require.GreaterOrEqual(t, time.Since(began), atLeast)
				require.LessOrEqual(t, time.Since(began), atMost)
			})
		})
	}
	until := func(n int, err error) func(int) error {
		return func(call int) error {
			if call < n {
				return err
			}
			return nil
		}
	}
	always := func(err error) func(int) error { return func(int) error { return err } }
	run("success", policy, 0, until(1, nil), 1, 0, 0, nil)
	run("third time", policy, 0, until(3, errDown), 3, 1500*time.Millisecond, 4500*time.Millisecond, nil)
	run("permanent", policy, 0, always(retry.Permanent(errDown)), 1, 0, 0, errDown)
	limited := policy
	limited.MaxAttempts = 2
	run("attempts used up", limited, 0, always(errDown), 2, 500*time.Millisecond, 1500*time.Millisecond, errDown)
	run("named time", policy, 0, until(2, retry.After(errDown, time.Minute)), 2, time.Minute, time.Minute, nil)
	run("no wait beyond the deadline", policy, 30*time.Second, always(retry.After(errDown, time.Minute)), 1, 0, 0, errDown)
	steady := retry.Policy{Initial: time.Second, Max: time.Second}
	run("the time is used", steady, 10*time.Second, always(errDown), 0, 8*time.Second, 10*time.Second, errDown)
}

func TestDoEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		began := time.Now()
		err := retry.Policy{Initial: time.Minute, Max: time.Minute}.Do(ctx, func(context.Context) error { return errDown })
		require.ErrorIs(t, err, errDown)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestBackoffGrowsToItsMaximum(t *testing.T) {
	b := retry.Policy{Initial: time.Second, Max: 8 * time.Second}.Backoff()
	nominal := []int{1, 2, 4, 8, 8, 8}
	for range 2 {
		for _, n := range nominal {
			w := b.Next()
			require.GreaterOrEqual(t, w, time.Duration(n)*time.Second/2)
			require.LessOrEqual(t, w, time.Duration(n)*time.Second*3/2)
		}
		b.Reset()
	}
}

func TestPolicyValidate(t *testing.T) {
	require.NoError(t, retry.DefaultPolicy().Validate())
	err := retry.Policy{Initial: 0, Max: -1, MaxAttempts: -1}.Validate()
	for _, want := range []string{"initial: 0s:", "max: -1ns:", "max_attempts: -1:"} {
		require.ErrorContains(t, err, want)
	}
}

func TestStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s retry.Streak
		count, _ := s.End()
		require.Zero(t, count)
		require.True(t, s.Fail(errDown))
		time.Sleep(time.Minute)
		require.False(t, s.Fail(errors.New("down")))
		require.True(t, s.Fail(errors.New("other")))
		require.False(t, s.Fail(errors.New("other")))
		require.Equal(t, 4, s.Failures())
		count, lasted := s.End()
		require.Equal(t, 4, count)
		require.Equal(t, time.Minute, lasted)
		require.Zero(t, s.Failures())
		require.True(t, s.Fail(errors.New("other")))
	})
}
