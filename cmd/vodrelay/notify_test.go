//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/relay"
)

// told is what a supervisor sent, each message with the second of its sending.
type told struct {
	mu       sync.Mutex
	began    time.Time
	messages []string
	err      error
}

func (l *told) send(state string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false, l.err
	}
	l.messages = append(l.messages, fmt.Sprintf("%gs %s", time.Since(l.began).Seconds(), strings.ReplaceAll(strings.TrimSpace(state), "\n", "|")))
	return true, nil
}

func (l *told) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.messages
	l.messages = nil
	return taken
}

func well() error { return nil }

// supervise runs a supervisor with a watchdog of 8 s in a bubble of time, and f beside it.
func supervise(t *testing.T, alive func() error, f func(s *supervisor, l *told, logs *observer.ObservedLogs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		l := &told{began: time.Now()}
		n := 0
		s := &supervisor{
			log: zap.New(core), send: l.send, watchdog: 8 * time.Second,
			alive: alive, status: func() string { n++; return fmt.Sprintf("line %d\nof two", n) },
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		synctest.Wait()
		f(s, l, logs)
		l.take()
		cancel()
		running.Wait()
		if l.err == nil {
			require.Equal(t, []string{fmt.Sprintf("%gs STOPPING=1|STATUS=stopping: finishing the events in hand", time.Since(l.began).Seconds())}, l.take())
		}
		require.NoError(t, s.Reload(func() error { return nil }))
		require.Empty(t, l.take(), "a reload during a stop must not say READY=1")
	})
}

func TestSupervisorTellsStartLifeAndStatus(t *testing.T) {
	supervise(t, well, func(_ *supervisor, l *told, logs *observer.ObservedLogs) {
		require.Equal(t, []string{"0s STATUS=starting", "0s READY=1|STATUS=line 1; of two"}, l.take())
		time.Sleep(11 * time.Second)
		require.Equal(t, []string{"4s WATCHDOG=1", "5s STATUS=line 2; of two", "8s WATCHDOG=1", "10s STATUS=line 3; of two"}, l.take())
		require.Empty(t, logs.All())
	})
}

func TestSupervisorWithholdsTheSignOfLife(t *testing.T) {
	var stuck atomic.Bool
	alive := func() error {
		if stuck.Load() {
			return errors.New("no poll for 3m")
		}
		return nil
	}
	supervise(t, alive, func(_ *supervisor, l *told, logs *observer.ObservedLogs) {
		stuck.Store(true)
		time.Sleep(17 * time.Second)
		for _, m := range l.take() {
			require.NotContains(t, m, "WATCHDOG")
		}
		require.Len(t, logs.FilterMessageSnippet("does not move").All(), 1)
		stuck.Store(false)
		time.Sleep(4 * time.Second)
		require.Contains(t, l.take(), "20s WATCHDOG=1")
		moves := logs.FilterMessage("the relay moves again").All()
		require.Len(t, moves, 1)
		require.EqualValues(t, 4, moves[0].ContextMap()["failures"])
	})
}

func TestSupervisorTellsOfAReload(t *testing.T) {
	supervise(t, well, func(s *supervisor, l *told, _ *observer.ObservedLogs) {
		l.take()
		bad := errors.New("sinks[0].url: is empty")
		require.ErrorIs(t, s.Reload(func() error { time.Sleep(time.Second); return bad }), bad)
		messages := l.take()
		require.Len(t, messages, 2)
		if runtime.GOOS == "linux" {
			require.Regexp(t, `^0s RELOADING=1\|MONOTONIC_USEC=[1-9]\d+$`, messages[0])
		}
		require.Equal(t, "1s READY=1|STATUS=line 2; of two; the reload failed, what it did not change is as before: sinks[0].url: is empty", messages[1])
		require.NoError(t, s.Reload(func() error { return nil }))
		require.Equal(t, "1s READY=1|STATUS=line 3; of two", l.take()[1])
	})
}

func TestSupervisorNobodyIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &supervisor{log: zap.NewNop(), watchdog: time.Second, send: func(string) (bool, error) { return false, nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s.Run(ctx) // neither alive nor status, which are nil, is called
		require.Error(t, ctx.Err())
		require.NoError(t, s.Reload(func() error { return nil }))
	})
}

func TestSupervisorLogsOnceThatItCannotTell(t *testing.T) {
	supervise(t, well, func(_ *supervisor, l *told, logs *observer.ObservedLogs) {
		l.mu.Lock()
		l.err = errors.New("connection refused")
		l.mu.Unlock()
		time.Sleep(time.Minute)
		require.Len(t, logs.All(), 1)
	})
}

func TestSupervisorOnASocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "n") // t.TempDir may be too long for the name of a socket
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))

	s := newSupervisor(zap.NewNop(), well, func() string { return "well" })
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	for _, want := range []string{"STATUS=starting", "READY=1\nSTATUS=well", "WATCHDOG=1", "WATCHDOG=1"} {
		require.Equal(t, want, receive(t, socket))
	}
	require.NoError(t, s.Reload(func() error { return nil }))
	cancel()
	running.Wait()
	var seen []string
	for len(seen) == 0 || !strings.HasPrefix(seen[len(seen)-1], "STOPPING=1\n") {
		if m := receive(t, socket); m != "WATCHDOG=1" {
			seen = append(seen, m)
		}
	}
	require.Len(t, seen, 3)
	require.True(t, strings.HasPrefix(seen[0], "RELOADING=1\n"), seen[0])
	require.Equal(t, "READY=1\nSTATUS=well", seen[1])
}

func receive(t *testing.T, socket *net.UnixConn) string {
	t.Helper()
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patient)))
	buf := make([]byte, 4096)
	n, err := socket.Read(buf)
	require.NoError(t, err)
	return string(buf[:n])
}

func TestStatusLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := relay.Stats{}
		depth, known := uint64(0), false
		var storeErr error
		line := statusLine(func() relay.Stats { return s }, func() (uint64, bool) { return depth, known }, func() error { return storeErr })
		require.Equal(t, "0.0 events/s, 0 confirmed, 0 in hand", line(), "no time has passed")
		time.Sleep(4 * time.Second)
		s.Confirmed, s.InHand, depth, known = 10, 3, 70, true
		require.Equal(t, "2.5 events/s, 10 confirmed, 3 in hand, about 70 in the queue", line())
		time.Sleep(time.Second)
		storeErr = errors.New("the store is not open yet: no space left")
		require.Equal(t, "0.0 events/s, 10 confirmed, 3 in hand, about 70 in the queue; the store is not open yet: no space left", line())
	})
}
