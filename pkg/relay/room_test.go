package relay_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// publishLarge puts n events of about size bytes into the queue.
func publishLarge(q *relaytest.Queue, from, n, size int) {
	for i := range n {
		q.Publish(fmt.Sprintf(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%d","Name":"%s"}}`, from+i, strings.Repeat("x", size)))
	}
}

// weigher is a handler that takes its time, and measures how large the events are that it has at a time.
type weigher struct {
	*recorder
	now, most atomic.Int64
}

func newWeigher(d time.Duration) *weigher {
	w := &weigher{}
	w.recorder = newRecorder(func(ctx context.Context, d2 event.Delivery, _ int) error {
		size := int64(len(d2.Raw))
		if now := w.now.Add(size); now > w.most.Load() {
			w.most.Store(now)
		}
		defer w.now.Add(-size)
		return retry.Sleep(ctx, d)
	})
	return w
}

func TestTheHandIsBoundedInBytes(t *testing.T) {
	bubble(t, "large events", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond}
		q.PublishUploads(300) // brings up many pollers, none of which knows what comes
		publishLarge(q, 1, 150, 50_000)
		h := newWeigher(time.Second)
		cfg := relay.DefaultConfig()
		cfg.MaxBytesInHand = 1 << 20
		r, stop := start(t, cfg, h, q)
		pass(15 * time.Second)
		left := r.Stats().Unsettled
		require.Positive(t, left, "of the first ones some do not fit")
		pass(9 * time.Second)
		require.Equal(t, left, r.Stats().Unsettled, "a poll that would bring more than there is room for waits")
		pass(3 * time.Minute)
		require.Zero(t, q.Unconfirmed())
		require.LessOrEqual(t, h.most.Load(), cfg.MaxBytesInHand)
		require.Greater(t, h.most.Load(), cfg.MaxBytesInHand/3, "the room is used")
		_, err := stop()
		require.NoError(t, err)
		promises(t, q, h.recorder)
	})
	bubble(t, "one that is larger than all of it passes alone", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond}
		q.PublishUploads(100)
		publishLarge(q, 1, 2, 3<<20)
		q.PublishUploads(100)
		h := newWeigher(time.Second)
		cfg := relay.DefaultConfig()
		cfg.MaxBytesInHand = 1 << 20
		_, stop := start(t, cfg, h, q)
		pass(3 * time.Minute)
		require.Zero(t, q.Unconfirmed())
		require.Less(t, h.most.Load(), int64(4<<20), "no two of them at a time")
		_, err := stop()
		require.NoError(t, err)
	})
	bubble(t, "it follows the configuration", func(t *testing.T) {
		h := newWeigher(time.Second)
		cfg := relay.DefaultConfig()
		cfg.MaxBytesInHand = 1 << 20
		r, stop := start(t, cfg, h, &plenty{batch: event.MaxBatch, size: 25_000})
		for _, most := range []int64{1 << 20, 2 << 20, 1 << 20} {
			cfg.MaxBytesInHand = most
			require.NoError(t, r.Reconfigure(cfg))
			pass(30 * time.Second) // polls that wait come first
			h.most.Store(0)
			pass(2 * time.Second)
			require.LessOrEqual(t, h.most.Load(), most)
			require.Greater(t, h.most.Load(), most/3)
		}
		_, err := stop()
		require.NoError(t, err)
	})
	bubble(t, "a drain takes everything", func(t *testing.T) {
		q := &relaytest.Queue{Hold: 5 * time.Second, Latency: 20 * time.Millisecond}
		q.PublishUploads(100)
		publishLarge(q, 1, 50, 60_000)
		h := newWeigher(time.Second)
		cfg := relay.DefaultConfig()
		cfg.MaxBytesInHand = 1 << 20
		r, err := relay.New(cfg, nil, h, q)
		require.NoError(t, err)
		sum, err := r.Drain(t.Context(), relay.DrainOptions{})
		require.NoError(t, err)
		require.Zero(t, q.Unconfirmed())
		require.True(t, sum.Empty)
	})
}

// plenty is a queue that never gets empty.
type plenty struct {
	name        string
	batch, size int // events of a reply, and the bytes of each
	n           atomic.Int64
}

func (e *plenty) Pull(ctx context.Context) ([]event.Delivery, error) {
	if err := retry.Sleep(ctx, 200*time.Millisecond); err != nil {
		return nil, err
	}
	all := make([]event.Delivery, e.batch)
	for i := range all {
		id := fmt.Sprint(e.name, e.n.Add(1))
		all[i] = event.Delivery{Event: event.Event{ID: id, Raw: make([]byte, e.size)}, Handle: id, ReceivedAt: time.Now(), Deadline: time.Now().Add(event.LeaseTime)}
	}
	return all, nil
}

func (e *plenty) Confirm(context.Context, []string) error { return nil }

// Who waits for places may have bytes, and nobody has places while he waits for bytes.
func TestCrowdedRepliesOfSeveralQueuesBlockNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newWeigher(100 * time.Millisecond)
		cfg := relay.DefaultConfig()
		cfg.MaxInHand, cfg.MaxBytesInHand = 96, 1<<20
		r, stop := start(t, cfg, h, &plenty{name: "a", batch: 1024, size: 8 << 10}, &plenty{name: "b", batch: 1024, size: 8 << 10}, &plenty{name: "c", batch: 1024, size: 8 << 10})
		for range 5 {
			before := r.Stats().Confirmed
			pass(2 * time.Second)
			require.Greater(t, r.Stats().Confirmed, before)
		}
		require.LessOrEqual(t, h.most.Load(), cfg.MaxBytesInHand)
		_, err := stop()
		require.NoError(t, err)
	})
}
