package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// newAdmin makes the admin server, unless there is to be none.
func (a *App) newAdmin() (err error) {
	if a.cfg.Admin.Listen == "" {
		return nil
	}
	opts := admin.Options{
		Version: a.version, Stats: a.adminStats, Observer: a.observer, Alive: a.relay.Alive, Stopping: a.stopping.Load,
		Applications: a.apps, Depth: a.client.QueueDepth, MaxParcels: a.cfg.Store.MaxParcels, MaxBytes: a.cfg.Store.MaxBytes,
	}
	if a.store != nil {
		opts.Parcels, opts.MaxShare = adminParcels{a.store, a}, func() int { return a.cfg.Store.Share(int(a.store.sinks.Load())) }
		opts.StoreID, opts.StoreDriver, opts.StoreLabel = a.storeID, a.cfg.Store.Driver, a.storeLabel
		if a.cfg.Store.Driver == store.DriverSQLite {
			opts.StoreLog, opts.StoreLogExcess = a.store.LogSize, a.store.LogExcess
		}
	}
	a.admin, err = admin.New(a.cfg.Admin, a.log, opts)
	return err
}

// storeID identifies the store, as far as that can be said already: an address in a file, for instance, may
// not be there yet.
func (a *App) storeID() string {
	id, err := a.cfg.Store.ID()
	if err != nil {
		a.log.Debug("cannot say which store it is", zap.Error(err))
	}
	return id
}

// storeLabel is a storeID that no other replica has, unless it uses the same store. A file of the same name on
// another host is another store.
func (a *App) storeLabel() string {
	id := a.storeID()
	if a.cfg.Store.Driver != store.DriverSQLite {
		return id
	}
	host, err := os.Hostname()
	if err != nil {
		a.log.Debug("cannot tell the name of this host", zap.Error(err))
	}
	sum := sha256.Sum256([]byte(host + "\x00" + id))
	return hex.EncodeToString(sum[:8])
}

// serveAdmin serves until the function that it returns is called. A drain beside a daemon finds the address
// taken and does without it, unless strict.
func (a *App) serveAdmin(ctx context.Context, strict bool) (end func(), err error) {
	if a.admin == nil {
		return func() {}, nil
	}
	if err := listenOn(ctx, a.admin); err != nil {
		if strict || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
		a.log.Info("no admin server: its address is taken, as by a daemon that runs here, too", zap.String("address", a.cfg.Admin.Listen))
		return func() {}, nil
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx)) // probes see the stop
	var server sync.WaitGroup
	server.Go(func() {
		if err := a.admin.Serve(serving); err != nil {
			a.log.Error("the admin server has ended; events are relayed all the same", zap.Error(err), zap.String("hint", retry.Hint(err)))
		}
	})
	return func() {
		cancel()
		server.Wait()
	}, nil
}

// Depth is about how many events wait in all queues, if the admin server is on and knows it.
func (a *App) Depth() (events uint64, known bool) {
	if a.admin == nil {
		return 0, false
	}
	return a.admin.Depth()
}

// Alive returns an error when a loop has stopped moving.
func (a *App) Alive() error { return a.relay.Alive() }

func (a *App) adminStats() admin.Stats {
	all := admin.Stats{Relay: admin.RelayStats(a.relay.Stats()), LogDropped: a.logDropped()}
	p := a.pipeline.Stats()
	all.Pipeline = admin.PipelineStats{Dropped: p.Dropped, Failed: p.Failed, Unrouted: p.Unrouted, UnroutedTypes: p.UnroutedTypes, Remembered: p.Remembered}
	for _, s := range p.Sinks {
		all.Pipeline.Sinks = append(all.Pipeline.Sinks, admin.SinkStats{
			Name: s.Name, Sent: s.Sent, Failed: s.Failed, Attempts: s.Attempts, Skipped: s.Skipped, Deduplicated: s.Deduplicated,
			Parked: s.Parked, Dead: s.Dead, State: string(s.State), Failing: admin.Failing(s.Failing), Breaker: s.Breaker.State, BreakerSince: s.Breaker.Since,
			Refusals: admin.Refusals(s.Refusals),
		})
	}
	for _, q := range a.relay.Queues() {
		all.Queues = append(all.Queues, admin.QueueStats{SubAppID: q.SubAppID, Pull: failing(q.Pull), Confirm: failing(q.Confirm)})
	}
	if a.store != nil {
		all.Store = failing(a.store.Failing())
	}
	if a.receiver != nil {
		all.Callback = new(admin.CallbackStats(a.receiver.Stats()))
	}
	if a.scheduler != nil {
		all.Scheduler = new(admin.SchedulerStats(a.scheduler.Stats()))
	}
	return all
}

func failing(r retry.Run) admin.Failing {
	return admin.Failing{InARow: r.Failures, Since: r.Since, Last: r.Last, Error: event.ParcelError(r.Err), Hint: retry.Hint(r.Err)}
}

// adminParcels is a store as the admin server wants it.
type adminParcels struct {
	*lateStore
	app *App
}

func (p adminParcels) Counts(ctx context.Context) ([]admin.Count, error) {
	counts, err := p.lateStore.Counts(ctx)
	all := make([]admin.Count, len(counts))
	for i, c := range counts {
		all[i] = admin.Count(c)
	}
	return all, err
}

func (p adminParcels) List(ctx context.Context, f admin.Filter, after string, limit int) ([]event.Parcel, string, error) {
	found, next, err := p.lateStore.List(ctx, f, store.Cursor(after), limit)
	return found, string(next), err
}

func (p adminParcels) Replay(ctx context.Context, f admin.Filter) (int64, error) {
	n, err := p.lateStore.Replay(ctx, f)
	if n > 0 {
		p.app.scheduler.WakeAll()
	}
	return n, err
}

func (p adminParcels) PlanMove(ctx context.Context, m selection.Move) (*selection.Plan, error) {
	return PlanMove(ctx, p.lateStore, p.app.currentSinks(), m)
}

func (p adminParcels) Move(ctx context.Context, m selection.Move) (selection.Moved, error) {
	moved, err := Move(ctx, p.lateStore, p.app.currentSinks(), m)
	if moved.Parcels > 0 {
		p.app.scheduler.Wake(m.To)
	}
	return moved, err
}
