package admin

import (
	"context"
	"sync"
	"time"
)

const (
	// lookTime bounds one look at the store. Probes should wait a little longer than this.
	lookTime = 2 * time.Second
	// lookAge is how long a look serves whoever asks next: however many ask, the store is asked once.
	lookAge = time.Second
)

// cached remembers for a moment what a slow function returned.
type cached[T any] struct {
	look func(ctx context.Context) (T, error)
	life context.Context //nolint:containedctx // the server's, whose end ends a look; nil: none

	mu    sync.Mutex // held during a look, so that those who ask at the same time share it
	at    time.Time
	value T
	err   error
}

// get looks, or returns what was seen a moment ago. The look is everybody's, so it does not end with the
// ctx of the one who happened to start it; it does when the server ends, which a store that hangs must not
// hold up.
func (c *cached[T]) get(ctx context.Context) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < lookAge {
		return c.value, c.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	if c.life != nil {
		defer context.AfterFunc(c.life, cancel)()
	}
	c.value, c.err = c.look(ctx)
	c.at = time.Now()
	return c.value, c.err
}
