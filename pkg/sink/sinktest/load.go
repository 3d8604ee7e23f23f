package sinktest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// LoadOptions say what a Load is like.
type LoadOptions struct {
	Events, Senders int
	Attempt         time.Duration // for one Send
	Pause           time.Duration // of a sender after each event, so that the load lasts longer than the trouble
	Limit           time.Duration // for all of it
}

// Load is many events that are sent while trouble comes to their target, each again until it is accepted.
type Load struct {
	ctx            context.Context //nolint:containedctx // of the senders
	group          errgroup.Group
	done, failures atomic.Int64
}

// StartLoad sends Upload(0), Upload(1) and so on to s. An error of a Send must never be permanent.
func StartLoad(t *testing.T, s Sink, o LoadOptions) *Load {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), o.Limit)
	t.Cleanup(cancel)
	l := &Load{ctx: ctx}
	again := retry.Policy{Initial: 20 * time.Millisecond, Max: 200 * time.Millisecond}
	var next atomic.Int64
	for range o.Senders {
		l.group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < o.Events; i = int(next.Add(1)) - 1 {
				err := again.Do(ctx, func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, o.Attempt)
					defer cancel()
					err := s.Send(ctx, Upload(i))
					if err != nil {
						l.failures.Add(1)
					}
					if retry.IsPermanent(err) {
						return fmt.Errorf("must not be permanent: %w", err)
					}
					return err
				})
				if err != nil {
					return fmt.Errorf("event %d: %w", i, err)
				}
				l.done.Add(1)
				time.Sleep(o.Pause)
			}
			return nil
		})
	}
	return l
}

// After makes trouble when so many events are accepted.
func (l *Load) After(events int, trouble func()) {
	for l.done.Load() < int64(events) && l.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	trouble()
}

// Wait waits until all events are accepted, and returns how many attempts failed.
func (l *Load) Wait(t *testing.T) (failures int64) {
	t.Helper()
	require.NoError(t, l.group.Wait())
	return l.failures.Load()
}
