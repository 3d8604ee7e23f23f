package postgres

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
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// TestOutage sends a load while the server's processes are killed, connections are cut, replies are held back and lost,
// and the server is stopped, crashes, and comes back.
func TestOutage(t *testing.T) {
	const events, senders = 3000, 32
	server := pgtest.Start(t)
	database := server.Database()
	p := newProxy(t, socket(t, database))
	s := open(t, p.url(database), func(c *Config) { c.StatementTimeout = 2 * time.Second })
	var next, failures, done atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	again := retry.Policy{Initial: 20 * time.Millisecond, Max: 200 * time.Millisecond}
	var group errgroup.Group
	for range senders {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < events; i = next.Add(1) - 1 {
				if err := again.Do(ctx, func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					err := s.Send(ctx, sinktest.Upload(int(i)))
					if err != nil {
						failures.Add(1)
					}
					if retry.IsPermanent(err) {
						return fmt.Errorf("must not be permanent: %w", err)
					}
					return err
				}); err != nil {
					return fmt.Errorf("event %d: %w", i, err)
				}
				done.Add(1)
				time.Sleep(5 * time.Millisecond) // the load lasts longer than the trouble
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
	terminate := func() {
		exec(t, database, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vodrelay'`)
	}
	at(10, terminate)
	at(15, terminate)
	at(20, p.cut)
	at(30, func() { // what was committed is not acknowledged
		resume := p.stall()
		time.Sleep(200 * time.Millisecond)
		p.cut()
		resume()
	})
	at(40, func() {
		server.Stop()
		time.Sleep(time.Second)
		server.Run()
	})
	at(60, func() {
		server.Kill()
		time.Sleep(time.Second)
		server.Run()
	})
	at(70, func() { // takes what it is sent, but answers late
		resume := p.stall()
		time.Sleep(1500 * time.Millisecond)
		resume()
	})
	at(80, func() { p.stop(); p.start(t) })
	require.NoError(t, group.Wait())
	require.Positive(t, failures.Load(), "the trouble was none")

	want := make(map[string]bool)
	for i := range events {
		want[string(sinktest.Body(t, sinktest.Upload(i)))] = true
	}
	got := query[[]byte](t, database, bodies)
	for _, body := range got {
		require.True(t, want[string(body)], "%.300s", body)
		delete(want, string(body))
	}
	require.Empty(t, want)
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures.Load(), len(got)-events)
	require.Len(t, got, events)
}
