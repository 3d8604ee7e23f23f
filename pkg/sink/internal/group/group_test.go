package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOneCommitForAllThatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits []string
		w := New(func(pieces []byte) error {
			commits = append(commits, string(pieces))
			time.Sleep(time.Second)
			return nil
		})
		var group errgroup.Group
		start := time.Now()
		for i := range 100 {
			group.Go(func() error {
				time.Sleep(time.Duration(i) * time.Millisecond)
				return w.Write(t.Context(), fmt.Appendf(nil, "%d,", i))
			})
		}
		require.NoError(t, group.Wait())
		require.Equal(t, 2*time.Second, time.Since(start), "the first alone, 99 together")
		require.Len(t, commits, 2)
		require.Equal(t, "0,", commits[0])
		require.True(t, strings.HasPrefix(commits[1], "1,2,3,"))
		require.NoError(t, w.Close(t.Context()))
	})
}

func TestErrorIsOfItsGroupOnly(t *testing.T) {
	full := errors.New("full")
	w := New(func(pieces []byte) error {
		if bytes.Contains(pieces, []byte("bad")) {
			return full
		}
		return nil
	})
	require.NoError(t, w.Write(t.Context(), []byte("good")))
	require.ErrorIs(t, w.Write(t.Context(), []byte("bad")), full)
	require.NoError(t, w.Write(t.Context(), []byte("good")))
	require.NoError(t, w.Close(t.Context()))
}

func TestGivingUpWhileACommitHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var commits []string
		w := New(func(pieces []byte) error {
			commits = append(commits, string(pieces))
			<-release
			return nil
		})
		first := make(chan error, 1)
		go func() { first <- w.Write(t.Context(), []byte("a")) }()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, w.Write(ctx, []byte("b")), context.DeadlineExceeded)
		require.ErrorIs(t, w.Close(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, w.Write(t.Context(), []byte("c")), ErrClosed)

		close(release)
		require.NoError(t, <-first)
		require.NoError(t, w.Close(t.Context()))
		require.Equal(t, []string{"a"}, commits, "what nobody waits for any more is not written")
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := New(func([]byte) error { <-release; return nil })
		var group errgroup.Group
		for range 1 + queueLength {
			group.Go(func() error { return w.Write(t.Context(), []byte("x")) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, w.Write(ctx, []byte("no place")), context.DeadlineExceeded)
		close(release)
		require.NoError(t, group.Wait())
		require.NoError(t, w.Close(t.Context()))
	})
}

func TestGroupIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		longest := 0
		w := New(func(pieces []byte) error {
			longest = max(longest, len(pieces))
			<-release
			return nil
		})
		var group errgroup.Group
		for range 64 {
			group.Go(func() error { return w.Write(t.Context(), make([]byte, groupBytes/4)) })
		}
		synctest.Wait()
		close(release)
		require.NoError(t, group.Wait())
		require.Equal(t, groupBytes, longest)
		require.NoError(t, w.Close(t.Context()))
	})
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		w := New(func(pieces []byte) error { time.Sleep(time.Second); written += len(pieces); return nil })
		var group errgroup.Group
		for range 10 {
			group.Go(func() error { return w.Write(t.Context(), []byte("x")) })
		}
		synctest.Wait()
		require.NoError(t, w.Close(t.Context()))
		require.NoError(t, group.Wait())
		require.Equal(t, 10, written)
	})
}

// TestCloseRace has Writes and Close meet: each Write ends, and its result is the truth.
func TestCloseRace(t *testing.T) {
	for range 200 {
		var written bytes.Buffer
		w := New(func(pieces []byte) error { written.Write(pieces); return nil })
		results := make([]error, 4)
		var group errgroup.Group
		for i := range results {
			group.Go(func() error {
				results[i] = w.Write(context.Background(), []byte{'a' + byte(i)})
				return nil
			})
		}
		group.Go(func() error { return w.Close(context.Background()) })
		require.NoError(t, group.Wait())
		for i, err := range results {
			if err != nil {
				require.ErrorIs(t, err, ErrClosed)
			}
			require.Equal(t, err == nil, strings.Contains(written.String(), string(rune('a'+i))))
		}
	}
}
