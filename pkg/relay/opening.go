package relay

import (
	"context"
	"fmt"
)

// Opening is a store that may be opened later than the relay runs.
type Opening interface {
	// Opened is closed when it is open.
	Opened() <-chan struct{}
	// Err is why it is not open; nil when it is.
	Err() error
}

// AwaitStore has the scheduler and the memory begin when the store that they work on is open; with hold the
// pulls, too, for a handler that can do nothing without it. A Drain begins as a whole then, and gives up after
// two minutes. It comes before Run or Drain.
func (r *Relay) AwaitStore(store Opening, hold bool) { r.opening, r.held = store, hold }

// isOpen reports whether the store is open now, or there is none to wait for.
func (r *Relay) isOpen() bool {
	if r.opening == nil {
		return true
	}
	select {
	case <-r.opening.Opened():
		return true
	default:
		return false
	}
}

// storeOpened waits until the store is open, and reports false when ctx is done before.
func (r *Relay) storeOpened(ctx context.Context) bool {
	if r.isOpen() {
		return true
	}
	select {
	case <-r.opening.Opened():
		return true
	case <-ctx.Done():
		return false
	}
}

// drainable waits until a drain can begin, and reports false when ctx is done before. The error says that it
// will not.
func (r *Relay) drainable(ctx context.Context) (bool, error) {
	patient, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	switch {
	case r.storeOpened(patient):
		return true, nil
	case ctx.Err() != nil:
		return false, nil
	}
	return false, fmt.Errorf("giving up the drain after %s without its store, nothing was pulled: %w", drainPatience, r.opening.Err())
}
