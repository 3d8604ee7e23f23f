package admin

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func TestLiveness(t *testing.T) {
	var alive atomic.Pointer[string]
	store := &fakeStore{err: errors.New("the disk is full")}
	opts := someOptions(store)
	opts.Alive = func() error {
		if text := alive.Load(); text != nil {
			return errors.New(*text)
		}
		return nil
	}
	opts.Stopping = func() bool { return true }
	s := start(t, Config{}, opts, defaultLimits)
	// Neither the store, nor the cloud (no pull has succeeded), nor a stop matters.
	require.Equal(t, answer{200, nil, "ok\n"}, s.get("/livez").bare())
	require.Zero(t, store.health)
	alive.Store(new("the poller of 1500000001 has not moved for 3m0s"))
	require.Equal(t, answer{503, nil, "failed: loops\n"}, s.get("/livez").bare())
	require.Equal(t, answer{503, nil, "[-]loops failed: the poller of 1500000001 has not moved for 3m0s\nlivez check failed: loops\n"}, s.get("/livez?verbose").bare())
}

func TestReadiness(t *testing.T) {
	var stopping atomic.Bool
	store := &fakeStore{}
	opts := someOptions(store)
	opts.Stopping = stopping.Load
	s := start(t, Config{}, opts, defaultLimits)
	require.Equal(t, answer{503, nil, "failed: authenticated\n"}, s.get("/readyz").bare())
	opts.Observer.PullDone(time.Second, 0, errors.New("AuthFailure"))
	require.Equal(t, answer{503, nil, "failed: authenticated\n"}, s.get("/readyz").bare())
	opts.Observer.PullDone(5*time.Second, 0, nil)
	require.Equal(t, answer{200, nil, "ok\n"}, s.get("/readyz").bare())
	require.Equal(t, answer{200, nil, "[+]running ok\n[+]authenticated ok\n[+]store ok\nreadyz check ok\n"}, s.get("/readyz?verbose").bare())
	opts.Observer.PullDone(time.Second, 0, errors.New("the cloud is down"))
	require.Equal(t, 200, s.get("/readyz").status, "once is enough")

	stopping.Store(true)
	store.fail(errors.New("store: the disk\nis full"))
	s.forget()
	got := s.get("/readyz?verbose")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, "[-]running failed: vodrelay is stopping\n[+]authenticated ok\n[-]store failed: the disk is full\nreadyz check failed: running, store\n", got.body)
}

func TestReadinessWithoutStore(t *testing.T) {
	opts := someOptions(nil)
	s := start(t, Config{}, opts, defaultLimits)
	opts.Observer.PullDone(time.Second, 1, nil)
	require.Equal(t, answer{200, nil, "[+]running ok\n[+]authenticated ok\nreadyz check ok\n"}, s.get("/readyz?verbose").bare())
}

// A mode in which nothing can be pulled takes nothing away from what is posted: the process that receives it is ready.
func TestReadinessInPushMode(t *testing.T) {
	opts := someOptions(nil)
	s := start(t, Config{}, opts, defaultLimits)
	opts.Observer.PullDone(time.Second, 0, fmt.Errorf("%w: UnsupportedOperation", event.ErrQueueClosed))
	require.Equal(t, answer{200, nil, "ok\n"}, s.get("/readyz").bare())
}

// However many ask, the store is asked once: each answer costs it a commit.
func TestProbesShareOneLook(t *testing.T) {
	store := &fakeStore{}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for range 20 {
		s.get("/readyz")
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	require.Less(t, store.health, 10)
}

func (a answer) bare() answer { return answer{status: a.status, body: a.body} }

// forget ends the memory of the last look at the store.
func (s *Server) forget() {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	s.health.at = time.Time{}
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	s.counts.at = time.Time{}
}
