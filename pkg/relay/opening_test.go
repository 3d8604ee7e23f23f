package relay_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
)

// lateStore is a store that is opened when the test says so. What it is asked before fails the test.
type lateStore struct {
	*relaytest.Parcels
	opened chan struct{}
	asked  atomic.Bool // before it was open
}

func newLateStore() *lateStore {
	s := &lateStore{opened: make(chan struct{})}
	s.Parcels = &relaytest.Parcels{Fault: func(context.Context, string) error {
		if s.Err() == nil {
			return nil
		}
		s.asked.Store(true)
		return s.Err()
	}}
	return s
}

func (s *lateStore) Opened() <-chan struct{} { return s.opened }

func (s *lateStore) Err() error {
	select {
	case <-s.opened:
		return nil
	default:
		return errors.New("the disk is full")
	}
}

// fill puts a parcel and a mark into the store, as if from an earlier run.
func (s *lateStore) fill(t *testing.T, mark event.SettledMark) {
	t.Helper()
	fault := s.Fault
	s.Fault = nil
	require.NoError(t, s.Put(t.Context(), event.Parcel{Event: event.Event{ID: "parcel", Type: "NewFileUpload"}, Sink: "site", State: event.ParcelWaiting, Created: time.Now(), Next: time.Now()}))
	require.NoError(t, s.RememberSettled(t.Context(), 0, mark.EventID, mark.At))
	s.Fault = fault
}

func TestAStoreThatOpensLate(t *testing.T) {
	for name, hold := range map[string]bool{"the pulls begin at once": false, "the pulls wait": true} {
		bubble(t, name, func(t *testing.T) {
			q := &relaytest.Queue{Hold: 5 * time.Second}
			q.PublishUploads(3)
			store, rec, site := newLateStore(), newRecorder(nil), &target{}
			store.fill(t, event.SettledMark{EventID: "another", At: time.Now()})
			r, err := relay.New(relay.DefaultConfig(), nil, rec, q)
			require.NoError(t, err)
			r.AwaitStore(store, hold)
			r.UseScheduler(relay.NewScheduler(nil, store, site.deliver, []relay.Lane{{Sink: "site"}}), store)
			r.UseMemory(store)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()

			pass(10 * time.Minute)
			require.NoError(t, r.Alive())
			require.False(t, store.asked.Load(), "nothing asks a store that is not open")
			if pulls, _ := q.Calls(); hold {
				require.Zero(t, pulls)
			} else {
				require.Zero(t, q.Unconfirmed())
			}
			close(store.opened)
			pass(time.Second)
			require.Empty(t, store.All(), "the parcel was sent")
			require.Zero(t, q.Unconfirmed())
			cancel()
			require.NoError(t, <-ended)
			promises(t, q, rec)
		})
	}
}

func TestMarksAreReadWhenTheStoreOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, store := &relaytest.Queue{Hold: time.Second}, newLateStore()
		rec := newRecorder(func(context.Context, event.Delivery, int) error { return errDown })
		r, err := relay.New(relay.DefaultConfig(), nil, rec, q)
		require.NoError(t, err)
		r.AwaitStore(store, false)
		r.UseMemory(store)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		q.PublishUploads(1)
		pass(time.Second)
		require.Equal(t, 1, rec.calls())
		store.fill(t, event.SettledMark{EventID: q.Messages()[0].ID, At: time.Now()})
		close(store.opened)
		pass(event.LeaseTime + 5*time.Second)
		require.Equal(t, 1, rec.calls(), "the mark says that it needs a confirm only")
		require.Zero(t, q.Unconfirmed())
		cancel()
		require.NoError(t, <-ended)
	})
}

// An event of an earlier run that is confirmed before its mark can be read needs no mark any more: it would
// swallow the next event of the same content.
func TestAMarkThatComesTooLateIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, store, rec := &relaytest.Queue{Hold: time.Second}, newLateStore(), newRecorder(nil)
		r, err := relay.New(relay.DefaultConfig(), nil, rec, q)
		require.NoError(t, err)
		r.AwaitStore(store, false)
		r.UseMemory(store)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		q.Publish(`{"EventType":"FileDeleted","n":1}`)
		pass(5 * time.Second)
		require.Zero(t, q.Unconfirmed())
		store.fill(t, event.SettledMark{EventID: q.Messages()[0].ID, At: time.Now()})
		close(store.opened)
		pass(5 * time.Second)
		require.Empty(t, settledMarks(t, store.Parcels))
		q.Publish(`{"EventType":"FileDeleted","n":1}`)
		pass(5 * time.Second)
		require.Equal(t, 2, rec.calls(), "the second is news")
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestADrainWaitsForItsStore(t *testing.T) {
	drain := func(ctx context.Context, t *testing.T, store *lateStore, q *relaytest.Queue) (relay.Summary, time.Duration, error) {
		t.Helper()
		r, err := relay.New(relay.DefaultConfig(), nil, newRecorder(nil), q)
		require.NoError(t, err)
		r.AwaitStore(store, false)
		r.UseScheduler(relay.NewScheduler(nil, store, (&target{}).deliver, []relay.Lane{{Sink: "site"}}), store)
		r.UseMemory(store)
		began := time.Now()
		sum, err := r.Drain(ctx, relay.DrainOptions{})
		return sum, time.Since(began), err
	}
	bubble(t, "until it opens", func(t *testing.T) {
		q, store := &relaytest.Queue{Hold: time.Second}, newLateStore()
		q.PublishUploads(20)
		time.AfterFunc(time.Minute, func() { close(store.opened) })
		sum, took, err := drain(t.Context(), t, store, q)
		require.NoError(t, err)
		require.True(t, sum.Empty)
		require.Greater(t, took, time.Minute)
		require.Zero(t, q.Unconfirmed())
	})
	bubble(t, "for two minutes", func(t *testing.T) {
		q := &relaytest.Queue{Hold: time.Second}
		q.PublishUploads(20)
		sum, took, err := drain(t.Context(), t, newLateStore(), q)
		require.ErrorContains(t, err, "the disk is full")
		require.False(t, sum.Empty)
		require.Equal(t, 2*time.Minute, took)
		pulls, _ := q.Calls()
		require.Zero(t, pulls)
	})
	bubble(t, "until it is stopped", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sum, took, err := drain(ctx, t, newLateStore(), &relaytest.Queue{})
		require.NoError(t, err)
		require.False(t, sum.Empty)
		require.Equal(t, time.Second, took)
	})
}
