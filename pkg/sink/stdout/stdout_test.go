package stdout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writer is an output made of a function.
type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func open(t *testing.T, out io.Writer) *Sink {
	t.Helper()
	s, err := New(DefaultConfig(), out, zaptest.NewLogger(t))
	require.NoError(t, err)
	return s
}

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		var mu sync.Mutex
		var printed bytes.Buffer
		var broken error
		stalled := make(chan struct{})
		close(stalled)
		s := open(t, writer(func(p []byte) (int, error) {
			mu.Lock()
			wait := stalled
			mu.Unlock()
			<-wait
			mu.Lock()
			defer mu.Unlock()
			if broken != nil {
				return 0, broken
			}
			return printed.Write(p)
		}))
		set := func(err error) func(*testing.T) {
			return func(*testing.T) { mu.Lock(); defer mu.Unlock(); broken = err }
		}
		return sinktest.Harness{
			Sink:  s,
			Shown: true,
			Received: func(*testing.T) [][]byte {
				mu.Lock()
				defer mu.Unlock()
				return bytes.Split(bytes.TrimSpace(bytes.Clone(printed.Bytes())), []byte("\n"))[:bytes.Count(printed.Bytes(), []byte("\n"))]
			},
			Break: set(&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}),
			Mend:  set(nil),
			// What is wrong behind a writer shows when it is written to.
			BlindCheck: true,
			Stall: func(*testing.T) func() {
				mu.Lock()
				defer mu.Unlock()
				wait := make(chan struct{})
				stalled = wait
				return func() { close(wait) }
			},
		}
	})
}

func TestCloudEvents(t *testing.T) {
	var printed bytes.Buffer
	s, err := New(Config{Format: event.FormatCloudEvents}, &printed, zap.NewNop())
	require.NoError(t, err)
	e := sinktest.Upload(1)
	require.NoError(t, s.Send(t.Context(), e))
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, 1, bytes.Count(printed.Bytes(), []byte("\n")))
	var got struct {
		ID   string
		Data json.RawMessage
	}
	require.NoError(t, json.Unmarshal(printed.Bytes(), &got))
	require.Equal(t, e.ID, got.ID)
	require.Equal(t, string(sinktest.Body(t, e)), string(got.Data))
}

func TestValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.NoError(t, Config{}.Validate())
	require.EqualError(t, Config{Format: event.FormatCloudEventsBinary}.Validate(),
		`format: "cloudevents-binary": a line has no headers for the attributes, use cloudevents`)
	require.EqualError(t, Config{Format: "xml"}.Validate(), `format: "xml": use callback or cloudevents`)
	_, err := New(Config{Format: "xml"}, io.Discard, zap.NewNop())
	require.Error(t, err)
}

// TestOneWriteForAllThatWait blocks the first Write and counts how the others are written.
func TestOneWriteForAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes []int
		s := open(t, writer(func(p []byte) (int, error) {
			time.Sleep(time.Second)
			writes = append(writes, bytes.Count(p, []byte("\n")))
			require.Equal(t, byte('\n'), p[len(p)-1])
			return len(p), nil
		}))
		var group errgroup.Group
		for i := range 50 {
			group.Go(func() error {
				time.Sleep(time.Duration(i) * time.Millisecond)
				return s.Send(t.Context(), sinktest.Upload(i))
			})
		}
		require.NoError(t, group.Wait())
		require.Equal(t, []int{1, 49}, writes)
		require.NoError(t, s.Close(t.Context()))
	})
}

func TestBroken(t *testing.T) {
	pipe := func(t *testing.T) io.Writer {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		t.Cleanup(func() { _ = w.Close() })
		return w
	}
	closed := func(t *testing.T) io.Writer {
		f, err := os.CreateTemp(t.TempDir(), "")
		require.NoError(t, err)
		require.NoError(t, f.Close())
		return f
	}
	for name, tt := range map[string]struct {
		out  func(t *testing.T) io.Writer
		want error
	}{
		"pipe without a reader": {pipe, syscall.EPIPE},
		"closed file":           {closed, os.ErrClosed},
		"short write": {func(*testing.T) io.Writer {
			return writer(func(p []byte) (int, error) { return len(p) - 1, nil })
		}, io.ErrShortWrite},
		"disk full in the middle": {func(*testing.T) io.Writer {
			return writer(func([]byte) (int, error) { return 1, syscall.ENOSPC })
		}, syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			out := tt.out(t)
			s := open(t, writer(func(p []byte) (int, error) { calls++; return out.Write(p) }))
			first := s.Send(t.Context(), sinktest.Upload(0))
			require.ErrorIs(t, first, tt.want)
			select {
			case <-s.Broken():
			default:
				require.Fail(t, "Broken is not closed")
			}
			err := s.Send(t.Context(), sinktest.Upload(1))
			require.ErrorIs(t, err, tt.want)
			require.False(t, retry.IsPermanent(err), "no event is to blame")
			require.NotEmpty(t, retry.Hint(err))
			require.Equal(t, first.Error(), err.Error())
			require.Error(t, s.Check(t.Context()))
			require.NoError(t, s.Close(t.Context()))
			require.Equal(t, 1, calls, "the output is not touched again")
		})
	}
}

// TestBrokenFailsTheWaiting has events queued while the Write that fails is under way.
func TestBrokenFailsTheWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := open(t, writer(func([]byte) (int, error) {
			calls++
			time.Sleep(time.Second)
			return 0, syscall.EPIPE
		}))
		results := make(chan error, 10)
		for i := range cap(results) {
			go func() { results <- s.Send(t.Context(), sinktest.Upload(i)) }()
		}
		for range cap(results) {
			require.ErrorIs(t, <-results, syscall.EPIPE)
		}
		require.Equal(t, 1, calls)
		require.NoError(t, s.Close(t.Context()))
	})
}

func TestNothingPrintedIsNoEnd(t *testing.T) {
	fail := true
	s := open(t, writer(func(p []byte) (int, error) {
		if fail {
			return 0, syscall.ENOSPC
		}
		return len(p), nil
	}))
	err := s.Send(t.Context(), sinktest.Upload(0))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.False(t, retry.IsPermanent(err))
	fail = false
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, s.Close(t.Context()))
}

// TestReaderThatStops fills a pipe that nobody reads.
func TestReaderThatStops(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = r.Close(); _ = w.Close() }()
	s := open(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var last error
	for i := 0; last == nil; i++ {
		last = s.Send(ctx, sinktest.Upload(i))
	}
	require.ErrorIs(t, last, context.DeadlineExceeded)
	require.False(t, retry.IsPermanent(last))
	require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
	require.NoError(t, s.writer.Close(t.Context()), "the Write was ended by its deadline")
}

func TestNotJSON(t *testing.T) {
	s := open(t, io.Discard)
	err := s.Send(t.Context(), event.Event{ID: "x", Raw: json.RawMessage("{")})
	require.True(t, retry.IsPermanent(err))
	require.NoError(t, s.Close(t.Context()))
}

func TestCheckClosedOutput(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	s := open(t, f)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, f.Close())
	require.True(t, errors.Is(s.Check(t.Context()), os.ErrClosed))
	require.NoError(t, s.Close(t.Context()))
}

func BenchmarkSend(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(b, err)
	defer func() { _ = null.Close() }()
	s, err := New(DefaultConfig(), null, zap.NewNop())
	require.NoError(b, err)
	e := sinktest.Upload(1)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.Send(context.Background(), e); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	require.NoError(b, s.Close(context.Background()))
}
