package vod

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// slow sends the headers after before, and half of the reply after that, the rest after between.
func slow(before, between time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client is gone
		if retry.Sleep(r.Context(), before) != nil {
			return
		}
		_, _ = io.WriteString(w, oneEvent[:40])
		_ = http.NewResponseController(w).Flush()
		if retry.Sleep(r.Context(), between) != nil {
			return
		}
		_, _ = io.WriteString(w, oneEvent[40:])
	}
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, slow(9*time.Second, 4*time.Second))
		start := time.Now()
		got, err := c.Queue(0).Pull(context.Background())
		require.NoError(t, err)
		require.Equal(t, 13*time.Second, time.Since(start))
		require.Len(t, got, 1)
		// The lease counts from the headers, not from the end of the body.
		require.Equal(t, start.Add(9*time.Second), got[0].ReceivedAt)
		require.Equal(t, start.Add(9*time.Second+event.LeaseTime), got[0].Deadline)
	})
}

func TestNoReplyInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, slow(time.Hour, 0))
		start := time.Now()
		_, err := c.Queue(0).Pull(context.Background())
		require.EqualError(t, err, "PullEvents: no reply within 10s")
		require.Equal(t, 10*time.Second, time.Since(start))
		require.NotErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded)

		start = time.Now()
		err = c.Queue(0).Confirm(context.Background(), []string{"a"})
		require.EqualError(t, err, "ConfirmEvents: no reply within 5s")
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestStalledBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, slow(time.Second, time.Hour))
		start := time.Now()
		_, err := c.Queue(0).Pull(context.Background())
		require.EqualError(t, err, "PullEvents: the reply began, but did not end within 5s")
		require.Equal(t, 6*time.Second, time.Since(start))
	})
}

func TestCancelBeforeTheReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, slow(5*time.Second, 0))
		start := time.Now()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(2*time.Second, cancel)
		_, err := c.Queue(0).Pull(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 2*time.Second, time.Since(start))

		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = c.Queue(0).Pull(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// Events whose reply has begun are leased to us: they are not thrown away because of a stop.
func TestCancelInTheReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, slow(time.Second, 4*time.Second))
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(2*time.Second, cancel)
		got, err := c.Queue(0).Pull(ctx)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Error(t, ctx.Err())
	})
	synctest.Test(t, func(t *testing.T) { // but for so long only, and then it was the caller's end
		c := client(t, slow(time.Second, time.Hour))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Queue(0).Pull(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 6*time.Second, time.Since(start))
	})
}

// The answer of a server counts even if the caller's end came while it was read.
func TestAnswerBeatsCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := apiError("InvalidParameterValue", "stale")
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body[:9])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(2 * time.Second)
			_, _ = io.WriteString(w, body[9:])
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Queue(0).Confirm(ctx, []string{"a", "b"}), event.ErrStaleHandle)
	})
}

func TestClockSkewIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(7*time.Minute).UTC().Format(http.TimeFormat))
			write(w, apiError("AuthFailure.SignatureExpire", "timestamp 1 server time 2"))
		})
		_, err := c.Queue(0).Pull(context.Background())
		require.EqualError(t, err, "PullEvents: AuthFailure.SignatureExpire")
		require.Contains(t, retry.Hint(err), "7m0s behind")
		require.Equal(t, 15*time.Second, retry.Delay(err))
		require.False(t, retry.IsPermanent(err))
	})
}

func TestIdleConnectionIsClosedBeforeTheServerDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := serve(t, answer(okReply))
		c := newClient(t, m, testConfig())
		for range 3 {
			require.NoError(t, c.Queue(0).Confirm(context.Background(), []string{"a"}))
			time.Sleep(20 * time.Second)
		}
		require.Equal(t, 1, m.dials())
		time.Sleep(31 * time.Second)
		require.NoError(t, c.Queue(0).Confirm(context.Background(), []string{"a"}))
		require.Equal(t, 2, m.dials())
	})
}

func TestCloseTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, answer(okReply)) // the clean-up closes it again
		require.NoError(t, c.Queue(0).Confirm(context.Background(), []string{"a"}))
		c.Close()
		unused := client(t, answer(okReply))
		unused.Close()
		require.True(t, errors.Is(unused.Queue(0).Confirm(context.Background(), []string{"a"}), errClosed))
	})
}
