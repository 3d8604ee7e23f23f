package pipeline

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// contexts is a sink that notes the contexts it is given. It hangs while hang is set.
type contexts struct {
	mu   sync.Mutex
	all  []context.Context
	hang bool
}

func (c *contexts) Send(ctx context.Context, _ event.Event) error {
	c.mu.Lock()
	c.all = append(c.all, ctx)
	hang := c.hang
	c.mu.Unlock()
	if !hang {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (c *contexts) Check(context.Context) error { return nil }
func (c *contexts) Close(context.Context) error { return nil }

func (c *contexts) take() []context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

// The events of one reply share what each would otherwise make, and none has less than 99 of 100 parts of
// its time for it.
func TestPrepare(t *testing.T) {
	const timeout = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		sink, other := &contexts{}, &contexts{}
		p := parking(t, &parked{}, ParkFailures, nil, []Route{
			{Name: "site", Sink: sink, Timeout: timeout}, {Name: "other", Sink: other, Timeout: time.Second},
		})
		lease, cancel := context.WithTimeout(t.Context(), 26*time.Second)
		defer cancel()
		ctx, end := p.Prepare(lease)

		require.NoError(t, p.Handle(ctx, delivery(t, upload)))
		began := time.Now()
		time.Sleep(timeout / 100)
		require.NoError(t, p.Handle(ctx, delivery(t, bare)))
		shared := sink.take()
		require.Same(t, shared[0], shared[1])
		deadline, _ := shared[0].Deadline()
		require.Equal(t, began.Add(timeout), deadline)
		short := other.take()
		require.NotSame(t, short[0], short[1], "its hundredth is over")

		time.Sleep(time.Millisecond)
		require.NoError(t, p.Handle(ctx, delivery(t, bare)))
		later := sink.take()[0]
		require.NotSame(t, shared[0], later)
		deadline, _ = later.Deadline()
		require.Equal(t, time.Now().Add(timeout), deadline)

		time.Sleep(15 * time.Second) // 8 s are left to send in, and 3 s more to park
		require.NoError(t, p.Handle(ctx, delivery(t, upload)))
		last := sink.take()[0]
		deadline, _ = last.Deadline()
		require.Equal(t, began.Add(23*time.Second), deadline)

		narrow, cancelNarrow := context.WithTimeout(ctx, 5*time.Second)
		defer cancelNarrow()
		require.NoError(t, p.Handle(narrow, delivery(t, upload)))
		own, _ := sink.take()[0].Deadline()
		require.Equal(t, time.Now().Add(2*time.Second), own, "the caller's time, less that for parking")

		require.NoError(t, last.Err())
		end()
		for _, ctx := range []context.Context{shared[0], later, last, short[0], short[1]} {
			require.Error(t, ctx.Err())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		sink, store := &contexts{hang: true}, &parked{}
		p := parking(t, store, ParkFailures, nil, []Route{{Name: "site", Sink: sink, Timeout: timeout}})
		lease, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		ctx, end := p.Prepare(lease)
		defer end()
		began := time.Now()
		require.NoError(t, p.Handle(ctx, delivery(t, upload)), "parked in time")
		require.Equal(t, 5*time.Second, time.Since(began))
		require.Len(t, store.all(), 1)
	})
	synctest.Test(t, func(t *testing.T) {
		sink := &contexts{hang: true}
		p := build(t, nil, Route{Name: "site", Sink: sink, Timeout: timeout})
		lease, cancel := context.WithTimeout(t.Context(), 26*time.Second)
		defer cancel()
		ctx, end := p.Prepare(lease)
		defer end()
		began := time.Now()
		require.ErrorContains(t, p.Handle(ctx, delivery(t, upload)), "not accepted within 10s")
		require.Equal(t, timeout, time.Since(began))
	})
}
