package nats

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestOutage sends a load while the connection is cut, acknowledgements are lost, the server stalls, and it
// is stopped and started again.
func TestOutage(t *testing.T) {
	const events, senders = 2000, 32
	b := startServer(t)
	b.addStream(t)
	s := open(t, b)
	var next, failures, done atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	again := retry.Policy{Initial: 20 * time.Millisecond, Max: 200 * time.Millisecond}
	var group errgroup.Group
	for range senders {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < events; i = next.Add(1) - 1 {
				if err := again.Do(ctx, func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
					defer cancel()
					err := s.Send(ctx, sinktest.Upload(int(i)))
					if err != nil {
						failures.Add(1)
					}
					return err
				}); err != nil {
					return fmt.Errorf("event %d: %w", i, err)
				}
				done.Add(1)
				time.Sleep(2 * time.Millisecond) // the load lasts longer than the trouble
			}
			return nil
		})
	}
	at := func(share int64, trouble func()) {
		for done.Load() < events*share/100 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		trouble()
	}
	at(10, b.wire.Cut)
	at(20, func() {
		resume := b.wire.Stall()
		time.Sleep(100 * time.Millisecond)
		b.wire.Cut()
		resume()
	})
	at(40, func() {
		b.stop(t)
		time.Sleep(2 * time.Second)
		b.start(t)
	})
	at(60, func() { // takes what it is sent, but answers late
		resume := b.wire.Stall()
		time.Sleep(1500 * time.Millisecond)
		resume()
	})
	at(80, func() { b.stop(t); b.start(t) })
	require.NoError(t, group.Wait())
	require.Positive(t, failures.Load(), "the trouble was none")

	want := make(map[string][]byte)
	for i := range events {
		e := sinktest.Upload(i)
		want[e.ID] = sinktest.Body(t, e)
	}
	copies := make(map[string]int)
	for _, m := range b.messages(t) {
		id := m.Headers().Get("Nats-Msg-Id")
		require.True(t, bytes.Equal(want[id], m.Data()), "%.300s", m.Data())
		copies[id]++
	}
	require.Len(t, copies, events)
	duplicates := 0
	for _, n := range copies {
		duplicates += n - 1
	}
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures.Load(), duplicates)
	require.Zero(t, duplicates, "the server deduplicates by Nats-Msg-Id")
}

// TestRefused has no wire between: the port itself is closed.
func TestRefused(t *testing.T) {
	b := startServer(t)
	b.addStream(t)
	s := open(t, b, func(cfg *Config) { cfg.Servers = []string{b.running.ClientURL()} })
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	b.stop(t)
	require.Eventually(t, func() bool { return !s.link.conn.nc.IsConnected() }, 5*time.Second, time.Millisecond)
	for _, err := range []error{send(t, s, sinktest.Upload(1)), s.Check(t.Context())} {
		require.EqualError(t, err, s.servers+": connection refused")
		require.False(t, retry.IsPermanent(err))
		require.Contains(t, retry.Hint(err), "nothing listens there")
	}
	b.start(t)
	require.NoError(t, send(t, s, sinktest.Upload(1)))
}

// TestCloseWhileDialing ends an attempt to connect to what accepts and says nothing.
func TestCloseWhileDialing(t *testing.T) {
	b := startServer(t)
	resume := b.wire.Stall()
	defer resume()
	s := open(t, b, func(cfg *Config) { cfg.ConnectTimeout = time.Minute })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, s.Check(ctx))
	start := time.Now()
	require.NoError(t, s.Close(t.Context()))
	require.Less(t, time.Since(start), 5*time.Second)
}
