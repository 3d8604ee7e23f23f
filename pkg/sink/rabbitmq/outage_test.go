//go:build unix

package rabbitmq

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

// TestOutage sends a load while connections are cut, confirms are lost or late, and the node crashes and
// comes back.
func TestOutage(t *testing.T) {
	const events, senders = 3000, 32
	s := need(t)
	queue := s.queue(t, s.reader(t), nil)
	// The broker answers a declaration up to two seconds before it is on the disk, unlike a message.
	s.ctl(t, "eval", "ok = mnesia:sync_log().")
	w := wire.New(t, s.address())
	sink := open(t, w.Address(), queue)
	var next, failures, done atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	again := retry.Policy{Initial: 20 * time.Millisecond, Max: 200 * time.Millisecond}
	var group errgroup.Group
	for range senders {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < events; i = next.Add(1) - 1 {
				err := again.Do(ctx, func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
					defer cancel()
					err := sink.Send(ctx, sinktest.Upload(int(i)))
					if err != nil {
						failures.Add(1)
					}
					return err
				})
				if err != nil {
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
	require.NoError(t, group.Wait())
	require.Positive(t, failures.Load(), "the trouble was none")

	copies := make(map[string]int)
	for _, d := range s.reader(t).all(t, queue) {
		copies[d.MessageId+string(d.Body)]++
	}
	for i := range events {
		e := sinktest.Upload(i)
		require.Positive(t, copies[e.ID+string(sinktest.Body(t, e))], "event %d is lost", i)
	}
	require.Len(t, copies, events, "the queue holds what was never sent")
	duplicates := 0
	for _, n := range copies {
		duplicates += n - 1
	}
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures.Load(), duplicates)
}
