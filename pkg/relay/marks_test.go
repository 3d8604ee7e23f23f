package relay_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
)

func settledMarks(t *testing.T, store *relaytest.Parcels) []event.SettledMark {
	t.Helper()
	marks, err := store.Settled(context.Background(), 0)
	require.NoError(t, err)
	return marks
}

// life runs a relay with a memory until it is stopped.
func life(t *testing.T, memory relay.Memory, log *zap.Logger, h relay.Handler, sources ...relay.Source) (r *relay.Relay, stop func() time.Duration) {
	t.Helper()
	r, err := relay.New(relay.DefaultConfig(), log, h, sources...)
	require.NoError(t, err)
	r.UseMemory(memory)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() time.Duration {
		began := time.Now()
		cancel()
		require.NoError(t, <-ended)
		return time.Since(began)
	}
}

func TestSettledEventsAreRememberedOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var confirming atomic.Bool
		q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) {
			if confirming.Load() {
				return true, nil
			}
			return false, errDown
		}}
		q.PublishUploads(40)
		store := &relaytest.Parcels{}
		rec := newRecorder(nil)
		_, stop := life(t, store, nil, rec, q)
		pass(5 * time.Second)
		require.Empty(t, settledMarks(t, store), "the confirm may still succeed")
		require.LessOrEqual(t, stop(), 3*time.Second)
		require.Len(t, settledMarks(t, store), 40)

		pass(24 * time.Hour) // however long it stands still
		confirming.Store(true)
		r, stop := life(t, store, nil, rec, q)
		pass(10 * time.Second)
		require.Zero(t, q.Unconfirmed())
		require.Equal(t, 40, rec.calls(), "none is worked on twice")
		require.EqualValues(t, 40, r.Stats().Remembered)
		require.Empty(t, settledMarks(t, store), "forgotten with the confirm")
		stop()
		promises(t, q, rec)
	})
}

func TestSettledEventsAreForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &relaytest.Parcels{}
		now := time.Now()
		require.NoError(t, store.RememberSettled(t.Context(), 0, "fresh", now))
		require.NoError(t, store.RememberSettled(t.Context(), 0, "old", now.Add(-5*24*time.Hour)))
		_, stop := life(t, store, nil, newRecorder(nil), &relaytest.Queue{Hold: 5 * time.Second})
		pass(time.Second)
		require.Len(t, settledMarks(t, store), 1)
		pass(9 * time.Minute)
		require.Len(t, settledMarks(t, store), 1)
		pass(3 * time.Minute)
		require.Empty(t, settledMarks(t, store), "long after, the same content is another notification")
		stop()
	})
}

// A mark belongs to the application: another one's event of the same content is worked on.
func TestSettledEventsBelongToTheirApplication(t *testing.T) {
	for marked, calls := range map[uint64]int{7: 0, 8: 1, 0: 1} {
		synctest.Test(t, func(t *testing.T) {
			store := &relaytest.Parcels{}
			q := &relaytest.Queue{Hold: 5 * time.Second}
			q.PublishUploads(1)
			require.NoError(t, store.RememberSettled(t.Context(), marked, q.Messages()[0].ID, time.Now()))
			rec := newRecorder(nil)
			_, stop := life(t, store, nil, rec, application{q, 7})
			pass(time.Second)
			require.Equal(t, calls, rec.calls())
			stop()
		})
	}
}

// What one application has too much of costs no other one its marks.
func TestMarksOfOneApplicationDoNotPushOutThoseOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 16 * 1024
		store := &relaytest.Parcels{}
		now := time.Now()
		for i := range most {
			require.NoError(t, store.RememberSettled(t.Context(), 7, strconv.Itoa(i), now.Add(time.Duration(i))))
		}
		require.NoError(t, store.RememberSettled(t.Context(), 8, "older than all of them", now.Add(-time.Hour)))
		count := func(app uint64) int {
			marks, err := store.Settled(t.Context(), app)
			require.NoError(t, err)
			return len(marks)
		}
		var confirming atomic.Bool
		confirm := func(int, []string) (bool, error) {
			if confirming.Load() {
				return true, nil
			}
			return false, errDown
		}
		flooded := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: confirm}
		rec := newRecorder(nil)
		_, stop := life(t, store, nil, rec, application{flooded, 7}, application{&relaytest.Queue{Hold: 5 * time.Second}, 8})
		pass(time.Second)
		require.Equal(t, []int{most, 1}, []int{count(7), count(8)}, "nothing was forgotten at the start")
		flooded.PublishUploads(16)
		pass(35 * time.Second)
		require.Equal(t, []int{most, 1}, []int{count(7), count(8)}, "the oldest of the same application made room")
		confirming.Store(true)
		pass(time.Minute)
		require.Equal(t, []int{most - 16, 1}, []int{count(7), count(8)})
		require.Equal(t, 16, rec.calls())
		stop()
	})
}

// application is a queue whose events belong to an application.
type application struct {
	*relaytest.Queue
	id uint64
}

func (a application) SubAppID() uint64 { return a.id }

func (a application) Pull(ctx context.Context) ([]event.Delivery, error) {
	deliveries, err := a.Queue.Pull(ctx)
	for i := range deliveries {
		deliveries[i].SubAppID = a.id
	}
	return deliveries, err
}

func TestTheGoodPathDoesNotTouchTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		store := &relaytest.Parcels{Fault: func(context.Context, string) error { calls.Add(1); return nil }}
		q := &relaytest.Queue{Hold: 5 * time.Second}
		q.PublishUploads(100)
		_, stop := life(t, store, nil, newRecorder(nil), q)
		pass(time.Minute)
		require.Zero(t, q.Unconfirmed())
		stop()
		require.EqualValues(t, 1, calls.Load(), "read once, at the start")
	})
}

// A memory that fails costs duplicates, and nothing else: neither the work, nor the start, nor the stop.
func TestAMemoryThatIsDown(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var broken, confirming atomic.Bool
			broken.Store(true)
			store := &relaytest.Parcels{Fault: func(ctx context.Context, _ string) error {
				if broken.Load() {
					if hangs {
						<-ctx.Done()
					}
					return errDown
				}
				return nil
			}}
			q := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: func(int, []string) (bool, error) {
				if confirming.Load() {
					return true, nil
				}
				return false, errDown
			}}
			q.PublishUploads(20)
			core, logs := observer.New(zapcore.InfoLevel)
			rec := newRecorder(nil)
			_, stop := life(t, store, zap.New(core), rec, q)
			pass(2 * time.Minute)
			require.Equal(t, 20, rec.calls())
			require.Len(t, logs.FilterMessageSnippet("cannot read which events were settled").All(), 1)
			if hangs {
				require.LessOrEqual(t, stop(), 4*time.Second)
				return
			}
			require.Len(t, logs.FilterMessageSnippet("cannot store which events were settled").All(), 1)
			broken.Store(false)
			pass(time.Minute)
			require.Len(t, settledMarks(t, store), 20)
			require.Len(t, logs.FilterMessage("storing again which events were settled").All(), 1)
			broken.Store(true)
			confirming.Store(true)
			pass(time.Minute)
			require.Zero(t, q.Unconfirmed())
			broken.Store(false)
			pass(time.Minute)
			require.Empty(t, settledMarks(t, store), "what is confirmed must be forgotten, however late")
			stop()
		})
	}
}
