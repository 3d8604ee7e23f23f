package admin

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestDepth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		var failing atomic.Bool
		core, logs := observer.New(zap.InfoLevel)
		d := &depths{log: zap.New(core), apps: []uint64{1, 2}, read: func(ctx context.Context, app uint64) (uint64, error) {
			_, limited := ctx.Deadline()
			require.True(t, limited)
			reads.Add(1)
			if app == 2 && failing.Load() {
				return 0, errors.New("throttled")
			}
			return app * 100, nil
		}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); d.run(ctx) }()
		synctest.Wait()
		total, known := d.total()
		require.True(t, known)
		require.EqualValues(t, 300, total)
		require.EqualValues(t, 2, reads.Load())
		time.Sleep(10*depthEvery - time.Second)
		require.EqualValues(t, 20, reads.Load(), "one for each application in 30 s")

		failing.Store(true)
		time.Sleep(depthAge - depthEvery)
		_, known = d.total()
		require.True(t, known, "a while the old number is good enough")
		time.Sleep(2 * depthEvery)
		_, known = d.total()
		require.False(t, known, "then it is not")
		one, known := d.of(1)
		require.True(t, known, "the other is not concerned")
		require.EqualValues(t, 100, one.events)
		before, asked := reads.Load(), int64(time.Hour/depthEvery)
		time.Sleep(time.Hour)
		require.Less(t, reads.Load()-before-asked, asked/2, "failing is asked less often")
		require.Equal(t, 1, logs.FilterLevelExact(zap.WarnLevel).Len(), "told once")

		failing.Store(false)
		time.Sleep(10 * time.Minute)
		_, known = d.total()
		require.True(t, known)
		require.Equal(t, 1, logs.FilterMessageSnippet("known again").Len())
		stop()
		<-ended
	})
}

func TestDepthHonoursAServersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		d := &depths{log: zap.NewNop(), apps: []uint64{1}, read: func(context.Context, uint64) (uint64, error) {
			reads++
			return 0, retry.After(errors.New("throttled"), time.Hour)
		}}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour-time.Second)
		defer stop()
		d.run(ctx)
		require.Equal(t, 1, reads)
	})
}

func TestDepthOfAHangingCloud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &depths{log: zap.NewNop(), apps: []uint64{1}, read: func(ctx context.Context, _ uint64) (uint64, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}}
		require.ErrorIs(t, d.once(t.Context(), 1), context.DeadlineExceeded)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		started := time.Now()
		d.run(ctx)
		require.Equal(t, time.Second, time.Since(started), "a stop does not wait for it")
	})
}

func TestNoDepth(t *testing.T) {
	d := &depths{log: zap.NewNop(), apps: []uint64{1}}
	d.run(t.Context())
	_, known := d.total()
	require.False(t, known)
	_, known = (&depths{}).total()
	require.False(t, known)
}
