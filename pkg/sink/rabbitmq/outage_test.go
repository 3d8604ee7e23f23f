//go:build unix

package rabbitmq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

// TestOutage sends a load while connections are cut, confirms are lost or late, and the node crashes and
// comes back.
func TestOutage(t *testing.T) {
	const events = 3000
	s := need(t)
	queue := s.queue(t, s.reader(t), nil)
	// The broker answers a declaration up to two seconds before it is on the disk, unlike a message.
	s.ctl(t, "eval", "ok = mnesia:sync_log().")
	w := wire.New(t, s.address())
	sink := open(t, w.Address(), queue)
	load := sinktest.StartLoad(t, sink, sinktest.LoadOptions{
		Events: events, Senders: 32, Attempt: 500 * time.Millisecond, Pause: 2 * time.Millisecond, Limit: 5 * time.Minute,
	})
	at := func(share int, trouble func()) { load.After(events*share/100, trouble) }
	at(10, w.Cut)
	at(25, func() { // confirms are lost
		w.Stall()
		time.Sleep(200 * time.Millisecond)
		w.Down()
		w.Up()
	})
	at(40, func() {
		s.kill()
		need(t)
	})
	at(70, func() { // confirms are late
		resume := w.Stall()
		time.Sleep(800 * time.Millisecond)
		resume()
	})
	at(85, w.Cut)
	failures := load.Wait(t)
	require.Positive(t, failures, "the trouble was none")

	copies := make(map[string]int)
	for _, d := range s.reader(t).all(t, queue) {
		copies[d.MessageId+string(d.Body)]++
	}
	for i := range events {
		e := sinktest.Upload(i)
		require.Positive(t, copies[e.DedupID()+string(sinktest.Body(t, e))], "event %d is lost", i)
	}
	require.Len(t, copies, events, "the queue holds what was never sent")
	duplicates := 0
	for _, n := range copies {
		duplicates += n - 1
	}
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures, duplicates)
}
