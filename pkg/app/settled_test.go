package app_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// TestSettledEventsOverAStop crosses the border of engine and store: whatever was settled and not confirmed
// before a stop is not worked on again after it, as long as the queue can deliver it.
func TestSettledEventsOverAStop(t *testing.T) {
	for _, c := range []struct {
		name string
		stop time.Duration
		work int // how often the 20 events are worked on in all
	}{
		{"eleven minutes", 11 * time.Minute, 20},
		{"most of the time that the queue keeps events", event.RetentionTime - time.Hour, 20},
		{"longer than the queue keeps events", event.RetentionTime + time.Hour, 40},
	} {
		cfg := store.DefaultConfig()
		cfg.Path = filepath.Join(t.TempDir(), "vodrelay.db")
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var confirming atomic.Bool
				confirm := func(int, []string) (bool, error) {
					if confirming.Load() {
						return true, nil
					}
					return false, errors.New("the API is down")
				}
				one := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: confirm}
				two := &relaytest.Queue{Hold: 5 * time.Second, OnConfirm: confirm}
				one.PublishUploads(10) // the same content in both applications: the same IDs
				two.PublishUploads(10)
				var worked atomic.Int64
				life := func() {
					s, err := store.Open(t.Context(), cfg, nil)
					require.NoError(t, err)
					require.NoError(t, s.RememberSettled(t.Context(), 3, "another", time.Now()), "the store cleans up when it writes")
					count := relay.HandlerFunc(func(context.Context, event.Delivery) error { worked.Add(1); return nil })
					r, err := relay.New(relay.DefaultConfig(), nil, count, application{one, 1}, application{two, 2})
					require.NoError(t, err)
					r.UseMemory(s)
					ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
					defer cancel()
					require.NoError(t, r.Run(ctx))
					require.NoError(t, s.Close(t.Context()))
				}
				life()
				time.Sleep(c.stop)
				confirming.Store(true)
				life()
				require.EqualValues(t, c.work, worked.Load())
				require.Zero(t, one.Unconfirmed()+two.Unconfirmed())
			})
		})
	}
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
