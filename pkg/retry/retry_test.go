package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

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
	require.NoError(t, retry.After(nil, time.Second))
	require.NoError(t, retry.WithHint(nil, "x"))
}

// nothing joins no error at all.
type nothing struct{ error }

func (nothing) Unwrap() []error { return nil }

func TestMarks(t *testing.T) {
	marks := []struct {
		put func(error) error
		is  func(error) bool
	}{
		{retry.Permanent, retry.IsPermanent},
		{retry.NoEffect, retry.HadNoEffect},
		{retry.Doubtful, retry.IsDoubtful},
		{retry.KeyRefused, retry.IsKeyRefused},
	}
	for i, m := range marks {
		require.NoError(t, m.put(nil))
		require.EqualError(t, m.put(errDown), "down")
		require.ErrorIs(t, m.put(errDown), errDown)
		require.False(t, m.is(nil))
		require.False(t, m.is(errDown))
		require.False(t, m.is(errors.Join(m.put(errDown), errDown)), "all of what is joined must be marked")
		require.True(t, m.is(errors.Join(m.put(errDown), m.put(errDown))))
		require.False(t, m.is(nothing{errDown}), "there is nothing that could be marked")
		for k, other := range marks {
			require.Equal(t, i == k, m.is(fmt.Errorf("x: %w", other.put(errDown))), "a mark means one thing")
			require.True(t, m.is(other.put(m.put(errDown))), "and hides no other")
		}
	}
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
	run("no wait up to the deadline", policy, time.Minute, always(retry.After(errDown, time.Minute)), 1, 0, 0, errDown)
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

// Whatever else ends a wait: one that is none always sees that its context is done.
func TestNoWait(t *testing.T) {
	early := make(chan struct{})
	close(early)
	ended, end := context.WithCancel(t.Context())
	end()
	for range 100 {
		for _, d := range []time.Duration{0, -1} {
			require.NoError(t, retry.SleepOr(t.Context(), d, nil))
			require.ErrorIs(t, retry.SleepOr(ended, d, early), context.Canceled)
		}
	}
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
	require.NoError(t, retry.Policy{Initial: 1, Max: 1}.Validate(), "all waits are equal")
	err := retry.Policy{Initial: 0, Max: -1, MaxAttempts: -1}.Validate()
	for _, want := range []string{"initial: 0s:", "max: -1ns:", "max_attempts: -1:"} {
		require.ErrorContains(t, err, want)
	}
}

// reported is what a run writes to the log when it is over; nil for nothing.
func reported(r retry.Run) map[string]any {
	core, logs := observer.New(zapcore.DebugLevel)
	r.Report(zap.New(core), "again", zap.String("sink", "site"))
	for _, entry := range logs.All() {
		return entry.ContextMap()
	}
	return nil
}

func TestStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s retry.Streak
		require.Zero(t, s.End())
		require.Nil(t, reported(s.End()))
		began := time.Now()
		require.True(t, s.Fail(errDown))
		time.Sleep(time.Minute)
		require.False(t, s.Fail(errors.New("down")))
		require.True(t, s.Fail(errors.New("other")), "another kind")
		require.False(t, s.Fail(errors.New("other")))
		require.False(t, s.Fail(errDown), "it is known in this streak")
		now := s.Now()
		require.Equal(t, 5, now.Failures)
		require.Equal(t, began, now.Since)
		require.Equal(t, time.Now(), now.Last)
		require.Equal(t, errDown, now.Err)
		run := s.End()
		require.Equal(t, map[string]any{"sink": "site", "failures": int64(5), "lasted": time.Minute, "errors": "3 × down; 2 × other"}, reported(run))
		require.Zero(t, s.Now())
		time.Sleep(time.Minute)
		require.True(t, s.Fail(errors.New("other")), "another streak")
		require.Equal(t, map[string]any{"sink": "site", "failures": int64(1), "lasted": time.Duration(0)}, reported(s.End()))
	})
}

// What comes and goes, and errors that take turns, make a message a minute at most.
func TestStreakIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s retry.Streak
		news, ends := 0, 0
		for i := range 3600 { // an hour
			if s.Fail(fmt.Errorf("%d events, dial tcp 10.0.0.%d:%d: refused after %s", i, i%200, 1024+i, time.Duration(i)*time.Millisecond)) {
				news++
			}
			if i%3 == 0 && reported(s.End()) != nil {
				ends++
			}
			time.Sleep(time.Second)
		}
		require.InDelta(t, 60, news, 2)
		require.InDelta(t, 60, ends, 2)

		s = retry.Streak{}
		news = 0
		for i := range 3600 { // of one streak, whose errors are all different
			if s.Fail(errors.New(strings.Repeat("x", i%50))) {
				news++
			}
			time.Sleep(time.Second)
		}
		require.Equal(t, 8, news)
		require.Contains(t, reported(s.End())["errors"], "others")
	})
}

// A streak that goes on for days still tells of another cause.
func TestStreakForgetsKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s retry.Streak
		for i := range 30 {
			require.True(t, s.Fail(errors.New(strings.Repeat("x", i))), i)
			time.Sleep(10 * time.Second)
		}
		run := reported(s.End())
		require.Equal(t, int64(30), run["failures"])
		require.Contains(t, run["errors"], "22 others")
	})
}

// A minute is a minute: what was reported then is reported again, and what came last then gives up its place.
func TestStreakRemembersForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s retry.Streak
		for second := range 121 { // it comes and goes every second
			require.Equal(t, second%60 == 0, s.Fail(errDown), second)
			s.End()
			time.Sleep(time.Second)
		}

		s = retry.Streak{}
		for i := range 8 {
			require.True(t, s.Fail(errors.New(strings.Repeat("x", i))))
		}
		time.Sleep(time.Minute - time.Nanosecond)
		require.False(t, s.Fail(errors.New("ninth")), "there is no place yet")
		time.Sleep(time.Nanosecond)
		require.True(t, s.Fail(errors.New("ninth")))
	})
}

// The report of a streak names what failed in it, not in the one before.
func TestStreakReportsItsOwnKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s retry.Streak
		s.Fail(errDown)
		s.End()
		time.Sleep(time.Second)
		s.Fail(errors.New("slow"))
		s.Fail(errors.New("full"))
		require.Equal(t, "1 × slow; 1 × full", reported(s.End())["errors"])
	})
}

// The fault of single events is over when none has come for a while.
func TestStreakEndsAfterQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s retry.Streak
		for i := range 10 {
			require.Equal(t, i == 0, s.Fail(errDown))
			time.Sleep(10 * time.Second)
			require.Zero(t, s.EndAfter(retry.Quiet))
		}
		time.Sleep(50 * time.Second)
		require.Equal(t, 10, s.EndAfter(retry.Quiet).Failures)
	})
}

func TestKind(t *testing.T) {
	for _, same := range [][2]string{
		{"dial tcp 10.0.0.1:5432: connection refused", "dial tcp 10.0.0.27:80: connection refused"},
		{"not accepted within 1.5s", "not accepted within 250ms"},
		{"request 52d05cd2-74e8-30c9-a502-5e72175b57de failed", "request a2d05cd2-74e8-30c9-a502-5e72175b57d1 failed"},
		{"10000 parcels with 123 bytes", "9 parcels with 4567 bytes"},
		{"at 2026-11-27T15:52:01.5Z: gone", "at 2025-01-02T00:00:00Z: gone"},
	} {
		require.Equal(t, retry.Kind(same[0]), retry.Kind(same[1]))
	}
	for _, other := range [][2]string{
		{"503 Service Unavailable", "502 Bad Gateway"}, {"connection refused", "connection reset"}, {"", "1"},
		{"exited with status 1", "exited with status 127"}, {"refused (SQLSTATE 42P01)", "refused (SQLSTATE 42501)"}, {"code=3", "code=4"},
	} {
		require.NotEqual(t, retry.Kind(other[0]), retry.Kind(other[1]))
	}
}
