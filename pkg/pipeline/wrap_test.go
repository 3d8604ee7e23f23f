package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

var errDown = errors.New("target down")

func TestRecover(t *testing.T) {
	s := Recover(SinkFunc(func(context.Context, event.Event) error {
		var m map[string]int
		m["x"] = 1 //nolint:staticcheck // the panic is what is tested
		return nil
	}))
	err := s.Send(t.Context(), event.Event{})
	require.EqualError(t, err, "panic: assignment to entry in nil map")
	var p *PanicError
	require.ErrorAs(t, err, &p)
	require.Contains(t, string(p.Stack), "wrap_test.go")
	require.False(t, retry.IsPermanent(err))

	s = Recover(SinkFunc(func(context.Context, event.Event) error { panic(errDown) }))
	require.EqualError(t, s.Send(t.Context(), event.Event{}), "panic: target down")

	shows := fmt.Errorf("%w: https://user:planted@example.com/planted", errDown)
	s = Recover(SinkFunc(func(context.Context, event.Event) error { return shows }))
	err = s.Send(t.Context(), event.Event{})
	require.EqualError(t, err, "target down: https://***@example.com/***", "no secret of its configuration")
	require.ErrorIs(t, err, errDown)
	require.EqualError(t, Recover(&target{closing: shows}).Close(t.Context()), "target down: https://***@example.com/***")

	require.EqualError(t, Recover(panicsOnClose{}).Close(t.Context()), "panic: closing")
	require.NoError(t, Recover(SinkFunc(nil)).Close(t.Context()))
}

type panicsOnClose struct{ SinkFunc }

func (panicsOnClose) Close(context.Context) error { panic("closing") }

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := SinkFunc(func(ctx context.Context, _ event.Event) error {
			<-ctx.Done()
			return ctx.Err()
		})
		start := time.Now()
		err := Timeout(hang, 10*time.Second).Send(t.Context(), event.Event{})
		require.EqualError(t, err, "not accepted within 10s: context deadline exceeded")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.EqualError(t, Timeout(hang, 10*time.Second).Send(ctx, event.Event{}), "context deadline exceeded", "the caller's limit is not this one")

		late := SinkFunc(func(context.Context, event.Event) error { time.Sleep(time.Minute); return nil })
		require.NoError(t, Timeout(late, time.Second).Send(t.Context(), event.Event{}), "accepted is accepted")
		require.EqualError(t, Timeout(fails(), time.Second).Send(t.Context(), event.Event{}), "target down")
		require.NoError(t, Timeout(late, 0).Send(t.Context(), event.Event{}))
	})
}

func fails() Sink { return SinkFunc(func(context.Context, event.Event) error { return errDown }) }

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		s := Limit(SinkFunc(func(context.Context, event.Event) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}), 3)
		start := time.Now()
		var all sync.WaitGroup
		for range 9 {
			all.Go(func() { require.NoError(t, s.Send(t.Context(), event.Event{})) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.EqualError(t, s.Send(ctx, event.Event{}), "still waiting for one of 3 concurrent sends: context deadline exceeded")
		all.Wait()
		require.Equal(t, 3, most)
		require.Equal(t, 3*time.Second, time.Since(start))

		panics := Recover(Limit(SinkFunc(func(context.Context, event.Event) error { panic("x") }), 1))
		for range 3 { // a panic gives its place back
			require.EqualError(t, panics.Send(t.Context(), event.Event{}), "panic: x")
		}
	})
}

func TestRetry(t *testing.T) {
	policy := retry.Policy{Initial: time.Second, Max: 4 * time.Second}
	tests := []struct {
		name     string
		policy   retry.Policy
		failures int
		err      error
		attempts int
		ok       bool
	}{
		{"at once", policy, 0, nil, 1, true},
		{"recovers", policy, 3, errDown, 4, true},
		{"permanent", policy, 99, retry.Permanent(errDown), 1, false},
		{"attempts used up", retry.Policy{Initial: time.Second, Max: time.Second, MaxAttempts: 2}, 99, errDown, 2, false},
		{"zero is one attempt", retry.Policy{}, 99, errDown, 1, false},
		{"asks for longer than the lease", policy, 99, retry.After(errDown, time.Minute), 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), event.LeaseTime)
				defer cancel()
				sends := 0
				var observed []int
				s := Retry(SinkFunc(func(context.Context, event.Event) error {
					if sends++; sends <= tt.failures {
						return tt.err
					}
					return nil
				}), tt.policy, func(e event.Event, attempt int, err error) {
					require.Equal(t, "1", e.ID)
					require.Equal(t, sends <= tt.failures, err != nil)
					observed = append(observed, attempt)
				})
				err := s.Send(ctx, event.Event{ID: "1"})
				require.Equal(t, tt.ok, err == nil)
				if !tt.ok {
					require.ErrorIs(t, err, errDown)
				}
				require.Equal(t, tt.attempts, sends)
				require.Len(t, observed, tt.attempts)
				require.Equal(t, tt.attempts, observed[len(observed)-1])
				require.NoError(t, ctx.Err(), "the lease must not be used up by waiting in vain")
			})
		})
	}
}

func TestRetryEndsWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), event.LeaseTime)
		defer cancel()
		sends := 0
		s := Retry(SinkFunc(func(context.Context, event.Event) error { sends++; return errDown }), retry.DefaultPolicy(), nil)
		require.ErrorIs(t, s.Send(ctx, event.Event{}), errDown)
		require.Greater(t, sends, 4)
		require.LessOrEqual(t, time.Since(start), event.LeaseTime)
	})
}

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(3, time.Hour)
		key := func(id string) memoryKey { return memoryKey{1, id} }
		require.Nil(t, m.recall(key("a")))
		m.add(key("a"), sinkSet{"x"})
		m.add(key("a"), sinkSet{"z"})
		require.Equal(t, sinkSet{"x", "z"}, m.recall(key("a")))
		require.Nil(t, m.recall(memoryKey{2, "a"}), "another application's event")

		for range 3 {
			time.Sleep(59 * time.Minute)
			require.NotNil(t, m.recall(key("a")), "touching it keeps it")
		}
		time.Sleep(30 * time.Minute)
		m.add(key("b"), sinkSet{"x"})
		time.Sleep(30 * time.Minute)
		require.Nil(t, m.recall(key("a")))
		require.NotNil(t, m.recall(key("b")))

		m.add(key("c"), sinkSet{"x"})
		m.add(key("d"), sinkSet{"x"})
		m.recall(key("b"))
		m.add(key("e"), sinkSet{"x"})
		require.Equal(t, 3, m.len())
		require.Nil(t, m.recall(key("c")), "the oldest is forgotten")
		require.NotNil(t, m.recall(key("b")))
		m.forget(key("b"))
		require.Nil(t, m.recall(key("b")))
	})
}
