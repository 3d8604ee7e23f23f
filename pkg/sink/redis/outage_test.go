//go:build unix

package redis

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

// TestOutage sends a load while connections are cut, answers are lost or late, and the server crashes and
// comes back.
func TestOutage(t *testing.T) {
	for _, window := range []time.Duration{0, time.Hour} {
		t.Run("window "+window.String(), func(t *testing.T) {
			s := startServer(t)
			w := wire.New(t, s.address())
			sink := open(t, w.Address(), func(c *Config) { c.DedupWindow = window })
			duplicates := load(t, sink, s.client(), []func(){
				w.Cut,
				func() { // answers are lost
					w.Stall()
					time.Sleep(200 * time.Millisecond)
					w.Down()
					w.Up()
				},
				func() {
					s.kill()
					time.Sleep(time.Second)
					s.run()
				},
				func() { // answers are late
					resume := w.Stall()
					time.Sleep(800 * time.Millisecond)
					resume()
				},
				func() { s.kill(); s.run() },
			})
			if window > 0 {
				require.Zero(t, duplicates)
			} else {
				require.Positive(t, duplicates, "the trouble was none")
			}
		})
	}
}

// load sends many events while one trouble after the other comes, checks that reader finds each with every
// byte, and returns how many it finds more than once.
func load(t *testing.T, sink *Sink, reader redis.Cmdable, troubles []func()) (duplicates int) {
	const events = 3000
	load := sinktest.StartLoad(t, sink, sinktest.LoadOptions{
		Events: events, Senders: 32, Attempt: 500 * time.Millisecond, Pause: 2 * time.Millisecond, Limit: 90 * time.Second,
	})
	for i, trouble := range troubles {
		load.After(events*(i+1)/(len(troubles)+2), trouble)
	}
	failures := load.Wait(t)
	copies := make(map[string]int)
	for _, entry := range entries(t, reader, stream) {
		copies[entry[FieldID].(string)+entry[FieldData].(string)]++
	}
	for i := range events {
		e := sinktest.Upload(i)
		require.Positive(t, copies[e.DedupID()+string(sinktest.Body(t, e))], "event %d is lost", i)
	}
	require.Len(t, copies, events, "the stream holds what was never sent")
	for _, n := range copies {
		duplicates += n - 1
	}
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures, duplicates)
	return duplicates
}

// TestReplicas has WAIT succeed, and fail when the replica is gone.
func TestReplicas(t *testing.T) {
	master := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.port))
	require.Eventually(t, func() bool {
		info, err := master.client().Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "state=online")
	}, 20*time.Second, 50*time.Millisecond)
	sink := open(t, master.address(), func(c *Config) {
		c.Replicas, c.ReplyTimeout, c.DedupWindow = 1, 300*time.Millisecond, time.Hour
	})
	require.NoError(t, sink.Check(t.Context()))
	require.Eventually(t, func() bool { return send(t, sink, sinktest.Upload(1)) == nil }, 10*time.Second, 50*time.Millisecond)
	require.EqualValues(t, 1, replica.client().XLen(t.Context(), stream).Val())

	// A replica that is there but takes nothing: neither the first attempt counts nor the second, which finds
	// the event's mark.
	replica.pause()
	for range 2 {
		err := send(t, sink, sinktest.Upload(2))
		require.ErrorContains(t, err, "0 of 1 replicas hold the event")
		require.False(t, retry.IsPermanent(err))
		require.NotEmpty(t, retry.Hint(err))
	}
	replica.resume()
	require.Eventually(t, func() bool { return send(t, sink, sinktest.Upload(2)) == nil }, 10*time.Second, 50*time.Millisecond)
	require.EqualValues(t, 2, replica.client().XLen(t.Context(), stream).Val())

	replica.kill()
	require.Eventually(t, func() bool { return sink.Check(t.Context()) != nil }, 10*time.Second, 50*time.Millisecond)
	require.ErrorContains(t, sink.Check(t.Context()), "0 replicas are connected, and replicas asks for 1")
}

// pause stops the process where it is.
func (s *server) pause()  { require.NoError(s.t, s.process.Process.Signal(syscall.SIGSTOP)) }
func (s *server) resume() { require.NoError(s.t, s.process.Process.Signal(syscall.SIGCONT)) }
