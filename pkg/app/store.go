package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/store"
)

const (
	// purgeEvery is how often dead letters beyond their retention are deleted.
	purgeEvery = time.Hour
	// unprocessedTime and unprocessedLane bound the replay of events that a processor had failed on.
	unprocessedTime = time.Minute
	unprocessedLane = 4
	// storeCheckTime bounds the check of the store: the longest is a wait of 10 s for a lock, then reading a large
	// file for damage for as long.
	storeCheckTime = 30 * time.Second
)

// totals makes a store the relay's Counts. The store has another method of that name.
type totals struct{ *lateStore }

// Counts implements relay.Counts.
func (t totals) Counts(ctx context.Context) (waiting, dead int64, err error) { return t.Totals(ctx) }

// holdsPulls reports whether nothing can be done without the store, so that nothing should be pulled.
func holdsPulls(cfg *config.Config) bool { return cfg.Relay.Confirm == relay.ConfirmStored }

// stopWithoutStore waits until ctx is done, and stops everything when it turns out that the store can never
// be opened.
func (a *App) stopWithoutStore(ctx context.Context, stop context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
	case <-a.store.ended:
		if err := a.store.failure(); err != nil {
			stop(&endedError{err})
		}
	}
}

// StoreErr is why the store is not open, nil when it is or there is none.
func (a *App) StoreErr() error {
	if a.store == nil {
		return nil
	}
	return a.store.Err()
}

// lanes has a lane for each sink, and one for what is replayed through the whole pipeline.
func lanes(sinks []config.Sink) []relay.Lane {
	all := []relay.Lane{{Sink: event.Unprocessed, Concurrency: unprocessedLane, Timeout: unprocessedTime, Policy: retry.DefaultSchedule()}}
	for _, s := range sinks {
		all = append(all, relay.Lane{Sink: s.Name, Concurrency: s.Concurrency, Timeout: s.Timeout, Policy: s.Parcels})
	}
	return all
}

// purge deletes old dead letters now and then, from when the store is open until ctx is done.
func (a *App) purge(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-a.store.Opened():
	}
	for {
		n, err := a.store.Purge(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.Warn("cannot delete old dead letters", zap.Error(err))
		case n > 0:
			a.log.Info("dead letters deleted after their retention", zap.Int64("parcels", n))
		}
		if retry.Sleep(ctx, purgeEvery) != nil {
			return
		}
	}
}

// checkStore looks at the store as a start would, without taking the daemon's role on it and without making
// anything: that would belong to whoever runs the check. It warns of parcels that wait for none of the sinks.
func checkStore(ctx context.Context, cfg store.Config, sinks []config.Sink, log *zap.Logger, d beside) []Finding {
	ctx, cancel := context.WithTimeout(ctx, storeCheckTime)
	defer cancel()
	name := "store (" + cfg.Driver + ")"
	if cfg.Driver == store.DriverNone {
		return []Finding{{Name: name, Status: Passed, Detail: "events whose sink fails stay in VOD's queue, for 4 days at most"}}
	}
	s, err := store.Open(ctx, cfg, log, store.Checked())
	if errors.Is(err, store.ErrPending) {
		return []Finding{{Name: name, Status: Passed, Detail: err.Error()}}
	}
	if err != nil {
		f := finding(name, "", store.Bare(err))
		f.Permanent = f.Status == Failed && retry.IsPermanent(err)
		return []Finding{f}
	}
	var findings []Finding
	if err := s.Other(); err != nil {
		findings = append(findings, d.taken(name, err))
	}
	var waiting, dead int64
	var gone []Finding
	if err = s.Healthy(ctx); err == nil { // else the same would be said again
		waiting, dead, err = s.Totals(ctx)
	}
	if err == nil {
		gone, err = CheckGone(ctx, s, sinks)
	}
	err = errors.Join(store.Bare(err), store.Bare(s.Close(ctx)))
	findings = append(findings, finding(name, fmt.Sprintf("%s, %d dead", safetext.Count(waiting, "parcel waiting", "parcels waiting"), dead), err))
	return append(findings, gone...)
}
