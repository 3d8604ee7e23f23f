package kafka

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestOutage sends a load while the broker's connections are cut, its replies are lost, it stalls, and it is
// stopped and started again.
func TestOutage(t *testing.T) {
	const events = 2000
	c := startCluster(t)
	s := open(t, c)
	load := sinktest.StartLoad(t, s, sinktest.LoadOptions{
		Events: events, Senders: 32, Attempt: 500 * time.Millisecond, Pause: 2 * time.Millisecond, Limit: 90 * time.Second,
	})
	at := func(share int, trouble func()) { load.After(events*share/100, trouble) }
	at(10, c.cut)
	at(20, func() { c.loseReplies(3) })
	at(40, func() {
		c.stop(t)
		time.Sleep(2 * time.Second)
		c.start(t)
	})
	at(60, func() { // takes what it is sent, but answers late
		resume := c.stall()
		time.Sleep(1500 * time.Millisecond)
		resume()
	})
	at(80, func() { c.stop(t); c.start(t) })
	failures := load.Wait(t)
	require.Positive(t, failures, "the trouble was none")

	want := make(map[string][]byte)
	for i := range events {
		e := sinktest.Upload(i)
		want[e.DedupID()] = sinktest.Body(t, e)
	}
	copies := make(map[string]int)
	for _, r := range c.records(t, topic) {
		id := header(r, HeaderEventID)
		require.True(t, bytes.Equal(want[id], r.Value), "%.300s", r.Value)
		copies[id]++
	}
	require.Len(t, copies, events)
	duplicates := 0
	for _, n := range copies {
		duplicates += n - 1
	}
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures, duplicates)
	require.Zero(t, duplicates, "what the client still has in hand must not be written twice")
}

// TestLeftBehind is one Send that gives up while its record is on its way.
func TestLeftBehind(t *testing.T) {
	c := startCluster(t)
	s := open(t, c)
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	briefly := func(e event.Event) error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return s.Send(ctx, e)
	}
	count := func(e event.Event) (n int) {
		for _, r := range c.records(t, topic) {
			if header(r, HeaderEventID) == e.DedupID() {
				n++
			}
		}
		return n
	}

	// The next attempt finds it on its way.
	resume := c.stall()
	require.Error(t, briefly(sinktest.Upload(1)))
	require.Error(t, briefly(sinktest.Upload(1)))
	resume()
	require.NoError(t, send(t, s, sinktest.Upload(1)))
	require.Equal(t, 1, count(sinktest.Upload(1)))

	// The next attempt comes after it was written.
	resume = c.stall()
	require.Error(t, briefly(sinktest.Upload(2)))
	resume()
	require.Eventually(t, func() bool { return count(sinktest.Upload(2)) == 1 && s.idle() }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, send(t, s, sinktest.Upload(2)))
	require.Equal(t, 1, count(sinktest.Upload(2)))
	// Once: the one after that is news.
	require.NoError(t, send(t, s, sinktest.Upload(2)))
	require.Equal(t, 2, count(sinktest.Upload(2)))

	// Close waits for it.
	resume = c.stall()
	require.Error(t, briefly(sinktest.Upload(3)))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	time.AfterFunc(50*time.Millisecond, resume)
	require.NoError(t, s.Close(ctx))
	require.Equal(t, 1, count(sinktest.Upload(3)))
}

func TestCloseGivesUp(t *testing.T) {
	c := startCluster(t)
	s := open(t, c)
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	c.stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Error(t, s.Send(ctx, sinktest.Upload(1)))
	err := s.Close(ctx)
	require.ErrorContains(t, err, "1 record was not acknowledged before the end")
}

// idle reports whether no record is on its way.
func (s *Sink) idle() bool {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	return len(s.flights.inAir) == 0
}
