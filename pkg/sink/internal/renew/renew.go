// Package renew says when a sink is to replace its client by a new one. Client libraries keep states that they never leave by
// themselves: the ID of a topic that was deleted and created again, a session that became read-only, a subscription that a
// right withdrawn for a moment has ended. A new client has none of them, whatever they are.
package renew

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// After is how long failures last before the client is replaced, and how long the next one gets then. It is shorter than
// the wait between two probes of a sink that is down, so that a target which is back costs one probe at most.
const After = 5 * time.Second

// Watch sees the results of all Sends. Its zero value is ready, and it is safe for concurrent use.
type Watch struct {
	mu      sync.Mutex
	failing time.Time // since when, or since the client was replaced; zero: it is not
}

// Lasts takes the result of one Send, and reports whether the client is to be replaced: it has failed for After without a
// success. An error that blames the event says nothing, nor does a Send that was called off.
func (w *Watch) Lasts(err error) bool {
	if err != nil && (retry.IsPermanent(err) || errors.Is(err, context.Canceled)) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		w.failing = time.Time{}
	case w.failing.IsZero():
		w.failing = now
	case now.Sub(w.failing) >= After:
		w.failing = now
		return true
	}
	return false
}
