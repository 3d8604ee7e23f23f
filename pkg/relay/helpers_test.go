package relay_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("target is down")

// recorder is a handler that notes what it was given and what it answered.
type recorder struct {
	mu      sync.Mutex
	handled map[string]int // by event ID, every call
	settled map[string]time.Time
	most    int
	now     int
	// decide, if set, is the answer to the n-th call for an event.
	decide func(ctx context.Context, d event.Delivery, call int) error
}

func newRecorder(decide func(ctx context.Context, d event.Delivery, call int) error) *recorder {
	return &recorder{handled: map[string]int{}, settled: map[string]time.Time{}, decide: decide}
}

func (r *recorder) Handle(ctx context.Context, d event.Delivery) error {
	r.mu.Lock()
	r.handled[d.ID]++
	call := r.handled[d.ID]
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
	}()
	if r.decide != nil {
		if err := r.decide(ctx, d, call); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled[d.ID] = time.Now()
	return nil
}

func (r *recorder) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.handled {
		n += c
	}
	return n
}

func (r *recorder) mostAtOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// start runs a relay inside a synctest bubble and returns the function that stops it, checks that Run
// ended, and returns its error and how long the stop took.
func start(t *testing.T, cfg relay.Config, h relay.Handler, sources ...relay.Source) (*relay.Relay, func() (time.Duration, error)) {
	t.Helper()
	r, err := relay.New(cfg, nil, h, sources...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() (time.Duration, error) {
		began := time.Now()
		cancel()
		err := <-ended
		return time.Since(began), err
	}
}

// promises checks what holds after every run, whatever went wrong in it.
func promises(t *testing.T, q *relaytest.Queue, rec *recorder) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, m := range q.Messages() {
		at, settled := rec.settled[m.ID]
		if m.Confirmed {
			require.True(t, settled, "event %s was confirmed and never settled", m.ID)
			require.False(t, m.ConfirmedAt.Before(at), "event %s was confirmed before it was settled", m.ID)
		}
	}
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}
