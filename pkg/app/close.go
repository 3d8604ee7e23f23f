package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// The parts of relay.CloseTime.
const (
	// serversTime is for requests to the admin server and the receiver.
	serversTime = time.Second
	// closeTime is for the sinks, and at the same time for the store.
	closeTime = 2 * time.Second
	// closeSlack is for a machine that is busy.
	closeSlack = relay.CloseTime - serversTime - closeTime - LogSyncTime
)

// What a stop consists of must fit into relay.StopLimit: this does not compile otherwise.
const _ = uint64(closeSlack)

// Close ends the sinks, the store and the client. It takes relay.CloseTime at most, or until ctx is done. Sinks
// and store end at the same time, each in a time of its own, so that a sink that cannot end leaves the store the
// time that it needs. It comes after Run or Drain has returned; an error means no loss of an event: what a sink
// did not accept is stored, or comes again from the queue.
func (a *App) Close(ctx context.Context) error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	defer a.client.Close()
	a.closeServers(ctx)
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	var sinks, shelf error
	var ends sync.WaitGroup
	ends.Go(func() {
		if a.pipeline != nil {
			sinks = a.pipeline.Close(ctx)
		} else {
			sinks = closeSinks(ctx, a.sinks)
		}
	})
	if a.store != nil {
		ends.Go(func() {
			if err := a.store.Close(ctx); err != nil {
				shelf = fmt.Errorf("close the store: %w", store.Bare(err))
			}
		})
	}
	ends.Wait()
	return errors.Join(sinks, shelf)
}

// closeServers ends servers that have not served, which gives their addresses back; the others have ended.
func (a *App) closeServers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, serversTime)
	defer cancel()
	if a.receiver != nil {
		_ = a.receiver.Shutdown(ctx) // what it had to cut off is of no concern to a program that ends
	}
	if a.admin != nil {
		_ = a.admin.Shutdown(ctx)
	}
}
