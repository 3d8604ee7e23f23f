package nats

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestOutage sends a load while the connection is cut, acknowledgements are lost, the server stalls, and it
// is stopped and started again.
func TestOutage(t *testing.T) {
	const events = 2000
	b := startServer(t)
	b.addStream(t)
	s := open(t, b)
	load := sinktest.StartLoad(t, s, sinktest.LoadOptions{
		Events: events, Senders: 32, Attempt: 500 * time.Millisecond, Pause: 2 * time.Millisecond, Limit: 90 * time.Second,
	})
	at := func(share int, trouble func()) { load.After(events*share/100, trouble) }
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
	failures := load.Wait(t)
	require.Positive(t, failures, "the trouble was none")

	want := make(map[string][]byte)
	for i := range events {
		e := sinktest.Upload(i)
		want[e.DedupID()] = sinktest.Body(t, e)
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
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures, duplicates)
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

// TestNamesTheServerThatFailed has two servers that are away: the error is the same each time.
func TestNamesTheServerThatFailed(t *testing.T) {
	s := open(t, startServer(t), func(cfg *Config) { cfg.Servers = []string{"nats://127.0.0.1:1", "nats://localhost:2"} })
	for range 5 { // the client tries them in any order
		require.EqualError(t, s.Check(t.Context()), "nats://127.0.0.1:1: connection refused")
	}
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
