package group

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// batchBytes is the limit of the batches here.
const batchBytes = 4 << 20

// batches is a batcher whose first batch waits for release, with the sizes of the batches that it wrote.
func batches(t *testing.T, most int) (w *Batcher[*Item], release func(), sizes *[]int) {
	gate := make(chan struct{})
	sizes = new([]int)
	w = NewBatcher(Limits{Workers: 1, Items: most, Bytes: batchBytes}, func(rows []*Item) {
		<-gate
		*sizes = append(*sizes, len(rows))
		for _, r := range rows {
			r.Finish(nil)
		}
	}, nil)
	t.Cleanup(func() { require.NoError(t, w.Close(context.Background())) })
	return w, func() { close(gate) }, sizes
}

func TestBatches(t *testing.T) {
	for _, c := range []struct {
		name             string
		most, rows, size int
		want             []int
	}{
		{"what waits goes together", 500, 11, 10, []int{1, 10}},
		{"by rows", 4, 11, 10, []int{1, 4, 4, 2}},
		{"by bytes", 500, 6, batchBytes / 2, []int{1, 2, 2, 1}},
		{"huge", 500, 3, 2 * batchBytes, []int{1, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, release, sizes := batches(t, c.most)
				var group errgroup.Group
				for range c.rows {
					group.Go(func() error { return w.Submit(t.Context(), NewItem(c.size)) })
					synctest.Wait()
				}
				release()
				require.NoError(t, group.Wait())
				require.Equal(t, c.want, *sizes)
			})
		})
	}
}

func TestBatchQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, release, sizes := batches(t, 10_000)
		var group errgroup.Group
		group.Go(func() error { return w.Submit(t.Context(), NewItem(1)) })
		synctest.Wait()
		for range queueLength {
			group.Go(func() error { return w.Submit(t.Context(), NewItem(1)) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, w.Submit(ctx, NewItem(1)), context.DeadlineExceeded)
		release()
		require.NoError(t, group.Wait())
		require.Equal(t, []int{1, queueLength}, *sizes)
	})
}

// TestGivenUp has a Submit leave before its batch, and another during it.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, release, sizes := batches(t, 500)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var group errgroup.Group
		for range 3 {
			group.Go(func() error { return w.Submit(ctx, NewItem(1)) })
			synctest.Wait()
		}
		require.ErrorIs(t, group.Wait(), context.DeadlineExceeded)
		require.ErrorIs(t, w.Submit(ctx, NewItem(1)), context.DeadlineExceeded)
		group = errgroup.Group{}
		group.Go(func() error { return w.Submit(t.Context(), NewItem(1)) })
		synctest.Wait()
		release()
		require.NoError(t, group.Wait())
		require.Equal(t, []int{1, 1}, *sizes, "what nobody waits for any more is not written")
	})
}

func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, release, sizes := batches(t, 3)
		var group errgroup.Group
		for range 8 {
			group.Go(func() error { return w.Submit(t.Context(), NewItem(1)) })
			synctest.Wait()
		}
		synctest.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, w.Close(ended), context.Canceled)
		require.ErrorIs(t, w.Close(ended), context.Canceled)
		require.ErrorIs(t, w.Submit(t.Context(), NewItem(1)), ErrClosed)
		release()
		<-w.Done()
		require.NoError(t, group.Wait())
		require.Equal(t, []int{1, 3, 3, 1}, *sizes)
	})
}
