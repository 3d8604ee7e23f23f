package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// openPatience is how long New waits for the store, so that a run usually begins with it.
const openPatience = 3 * time.Second

var openRetry = retry.Policy{Initial: time.Second, Max: 5 * time.Second}

// lateStore is a store that may not be open yet: it is opened in the background, and tried again as long as
// that can help. Until it is open its methods fail with the reason, so that whoever needs it tries again.
type lateStore struct {
	log    *zap.Logger
	note   string // what else it means that the store is not open; for the error
	cancel context.CancelFunc
	tried  chan struct{} // closed after the first attempt
	opened chan struct{} // closed when the store is open
	ended  chan struct{} // closed when no further attempt is made

	failing retry.Streak // of the attempts to open it

	sinks atomic.Int64                // that are configured
	store atomic.Pointer[store.Store] // nil: not open
	mu    sync.Mutex
	err   error // of the last attempt; nil before the first
}

// openStore begins to open the store. Close must be called.
func openStore(ctx context.Context, cfg store.Config, log *zap.Logger, note string) *lateStore {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &lateStore{log: log, note: note, cancel: cancel, tried: make(chan struct{}), opened: make(chan struct{}), ended: make(chan struct{})}
	go s.open(ctx, cfg)
	return s
}

func (s *lateStore) open(ctx context.Context, cfg store.Config) {
	defer close(s.ended)
	tried := sync.OnceFunc(func() { close(s.tried) })
	defer tried()
	err := openRetry.Do(ctx, func(ctx context.Context) error {
		opened, err := store.Open(ctx, cfg, s.log, store.Sinks(func() int { return int(s.sinks.Load()) }))
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		switch {
		case err == nil:
			s.store.Store(opened)
			close(s.opened)
		case hopeless(err):
			return retry.Permanent(err)
		case ctx.Err() == nil && s.failing.Fail(err):
			s.log.Error("cannot open the store; trying again"+s.note, zap.Error(err), zap.String("hint", retry.Hint(err)))
		}
		tried()
		return err
	})
	if opening := s.failing.End(); err == nil {
		opening.Report(s.log, "the store is open now: storing and sending again begin")
	}
}

// hopeless reports an error that a further attempt cannot cure. Of ErrLocked that is true, too: somebody
// started the program twice and should be told at once.
func hopeless(err error) bool { return retry.IsPermanent(err) || errors.Is(err, store.ErrLocked) }

// await waits a little for the store, and returns an error only if it can never be opened.
func (s *lateStore) await(ctx context.Context) error {
	patience := time.NewTimer(openPatience)
	defer patience.Stop()
	select {
	case <-s.tried:
	case <-patience.C:
	case <-ctx.Done():
	}
	return s.failure()
}

// failure is why the store can never be opened, nil if it can or is.
func (s *lateStore) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil && hopeless(s.err) {
		return s.err
	}
	return nil
}

// Opened implements relay.Opening.
func (s *lateStore) Opened() <-chan struct{} { return s.opened }

// Err is why the store is not open, nil when it is.
func (s *lateStore) Err() error {
	if s.store.Load() != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return errors.New("the store is not open yet" + s.note)
	}
	return fmt.Errorf("the store is not open yet%s: %w", s.note, store.Bare(s.err))
}

// Close ends the attempts, and the store if it is open. When ctx is done first it returns ctx's error.
func (s *lateStore) Close(ctx context.Context) error {
	s.cancel()
	select {
	case <-s.ended:
	case <-ctx.Done():
		return fmt.Errorf("the store is being opened: %w", ctx.Err())
	}
	if open := s.store.Load(); open != nil {
		return open.Close(ctx)
	}
	return nil
}

// ask returns what f finds in the store.
func ask[T any](s *lateStore, f func(*store.Store) (T, error)) (T, error) {
	if open := s.store.Load(); open != nil {
		return f(open)
	}
	var none T
	return none, s.Err()
}

// change has f change the store.
func (s *lateStore) change(f func(*store.Store) error) error {
	_, err := ask(s, func(open *store.Store) (struct{}, error) { return struct{}{}, f(open) })
	return err
}

// What pipeline.Parker and relay.Parcels ask for.

func (s *lateStore) Put(ctx context.Context, parcels ...event.Parcel) error {
	return s.change(func(open *store.Store) error { return open.Put(ctx, parcels...) })
}

func (s *lateStore) Claim(ctx context.Context, sink string, limit int, hold time.Duration) ([]event.Parcel, error) {
	return ask(s, func(open *store.Store) ([]event.Parcel, error) { return open.Claim(ctx, sink, limit, hold) })
}

func (s *lateStore) Extend(ctx context.Context, hold time.Duration, keys ...event.ParcelKey) error {
	return s.change(func(open *store.Store) error { return open.Extend(ctx, hold, keys...) })
}

func (s *lateStore) Unclaim(ctx context.Context, keys ...event.ParcelKey) error {
	return s.change(func(open *store.Store) error { return open.Unclaim(ctx, keys...) })
}

func (s *lateStore) Complete(ctx context.Context, keys ...event.ParcelKey) error {
	return s.change(func(open *store.Store) error { return open.Complete(ctx, keys...) })
}

func (s *lateStore) Fail(ctx context.Context, outcomes ...event.ParcelOutcome) error {
	return s.change(func(open *store.Store) error { return open.Fail(ctx, outcomes...) })
}

func (s *lateStore) NextDue(ctx context.Context, sink string) (due time.Time, waiting bool, err error) {
	err = s.change(func(open *store.Store) (err error) {
		due, waiting, err = open.NextDue(ctx, sink)
		return err
	})
	return due, waiting, err
}

func (s *lateStore) ReleaseSink(ctx context.Context, sink string) (int64, error) {
	return ask(s, func(open *store.Store) (int64, error) { return open.ReleaseSink(ctx, sink) })
}

// What relay.Memory, totals and adminParcels ask for.

func (s *lateStore) RememberSettled(ctx context.Context, subAppID uint64, id string, at time.Time) error {
	return s.change(func(open *store.Store) error { return open.RememberSettled(ctx, subAppID, id, at) })
}

func (s *lateStore) ForgetSettled(ctx context.Context, subAppID uint64, id string) error {
	return s.change(func(open *store.Store) error { return open.ForgetSettled(ctx, subAppID, id) })
}

func (s *lateStore) Settled(ctx context.Context, subAppID uint64) ([]event.SettledMark, error) {
	return ask(s, func(open *store.Store) ([]event.SettledMark, error) { return open.Settled(ctx, subAppID) })
}

func (s *lateStore) Healthy(ctx context.Context) error {
	return s.change(func(open *store.Store) error { return open.Healthy(ctx) })
}

// Failing is how opening the store or writing to it fails; zero if it does not.
func (s *lateStore) Failing() retry.Run {
	if open := s.store.Load(); open != nil {
		return open.Failing()
	}
	return s.failing.Now()
}

// LogExcess is how much of the write-ahead log counts into max_bytes.
func (s *lateStore) LogExcess() int64 {
	if open := s.store.Load(); open != nil {
		return open.LogExcess()
	}
	return 0
}

func (s *lateStore) LogSize() int64 {
	if open := s.store.Load(); open != nil {
		return open.LogSize()
	}
	return 0
}

func (s *lateStore) Counts(ctx context.Context) ([]store.Count, error) {
	return ask(s, func(open *store.Store) ([]store.Count, error) { return open.Counts(ctx) })
}

func (s *lateStore) Totals(ctx context.Context) (waiting, dead int64, err error) {
	err = s.change(func(open *store.Store) (err error) {
		waiting, dead, err = open.Totals(ctx)
		return err
	})
	return waiting, dead, err
}

func (s *lateStore) List(ctx context.Context, f store.Filter, after store.Cursor, limit int) (found []event.Parcel, next store.Cursor, err error) {
	err = s.change(func(open *store.Store) (err error) {
		found, next, err = open.List(ctx, f, after, limit)
		return err
	})
	return found, next, err
}

func (s *lateStore) Latest(ctx context.Context, state event.ParcelState, limit int) ([]event.Parcel, error) {
	return ask(s, func(open *store.Store) ([]event.Parcel, error) { return open.Latest(ctx, state, limit) })
}

func (s *lateStore) Get(ctx context.Context, id, sink string) ([]event.Parcel, error) {
	return ask(s, func(open *store.Store) ([]event.Parcel, error) { return open.Get(ctx, id, sink) })
}

func (s *lateStore) Find(ctx context.Context, f store.Filter, limit int) ([]event.Parcel, error) {
	return ask(s, func(open *store.Store) ([]event.Parcel, error) { return open.Find(ctx, f, limit) })
}

func (s *lateStore) Matching(ctx context.Context, f store.Filter) ([]selection.Group, error) {
	return ask(s, func(open *store.Store) ([]selection.Group, error) { return open.Matching(ctx, f) })
}

func (s *lateStore) Mark(ctx context.Context) (int64, error) {
	return ask(s, func(open *store.Store) (int64, error) { return open.Mark(ctx) })
}

func (s *lateStore) Move(ctx context.Context, from, to string, before int64, wanted func(event.Event) bool) (moved selection.Moved, err error) {
	err = s.change(func(open *store.Store) (err error) {
		moved, err = open.Move(ctx, from, to, before, wanted)
		return err
	})
	return moved, err
}

func (s *lateStore) Replay(ctx context.Context, f store.Filter) (int64, error) {
	return ask(s, func(open *store.Store) (int64, error) { return open.Replay(ctx, f) })
}

func (s *lateStore) Drop(ctx context.Context, f store.Filter) (int64, error) {
	return ask(s, func(open *store.Store) (int64, error) { return open.Drop(ctx, f) })
}

func (s *lateStore) Purge(ctx context.Context) (int64, error) {
	return ask(s, func(open *store.Store) (int64, error) { return open.Purge(ctx) })
}
