// Package app puts the program together from its configuration: the cloud client, the sinks, the pipeline
// and the relay. Who embeds vodrelay as a whole uses this package; cmd/vodrelay does.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/callback"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/store"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// App is a relay with everything around it.
type App struct {
	log       *zap.Logger
	cfg       *config.Config // as it was at the start
	out       *output
	client    *vod.Client
	store     *lateStore // nil: none
	pipeline  *pipeline.Pipeline
	relay     *relay.Relay
	scheduler *relay.Scheduler // nil: no store
	receiver  *callback.Server // nil: none
	admin     *admin.Server    // nil: none
	observer  *admin.Observer  // nil: no admin server
	apps      []uint64
	version   string
	level     zap.AtomicLevel
	// logDropped is how many lines are missing in the log.
	logDropped func() int64
	stopping   atomic.Bool
	reloaded   chan struct{}
	build      builder
	notices    *notices
	// sinksChanged has a member after a reload, for warnOfGone.
	sinksChanged chan struct{}

	changing sync.Mutex // held by Reload and Reopen, which may take long

	mu      sync.Mutex // of what follows; nobody does anything slow under it
	sinks   []builtSink
	unnamed bool // no sink is configured, and events are printed
	closed  bool
}

// Option changes what New builds.
type Option func(*App)

// WithVersion says what the admin server calls this program.
func WithVersion(version string) Option { return func(a *App) { a.version = version } }

// WithLog names the log that New's logger is: Reload sets its level, and the admin server shows what it dropped.
func WithLog(log *Log) Option {
	return func(a *App) { a.level, a.logDropped = log.Level, log.Dropped }
}

// New builds what cfg, which must be valid, describes. stdout is where sinks of the type stdout print. A
// store that cannot be opened yet, because its database is away or its disk is full, is no error: it is tried
// again in the background, see StoreErr. Close must be called, also when neither Run nor Drain was.
func New(ctx context.Context, cfg *config.Config, log *zap.Logger, stdout io.Writer, opts ...Option) (*App, error) {
	a, err := newApp(cfg, log, stdout, opts...)
	if err != nil {
		return nil, err
	}
	if cfg.Store.Driver != store.DriverNone {
		note := ""
		if holdsPulls(cfg) {
			note = ", and without it nothing is pulled (relay.confirm: stored)"
		}
		a.store = openStore(ctx, cfg.Store, log, note)
		err = a.store.await(ctx)
	}
	if err == nil {
		err = a.connect()
	}
	if err == nil {
		err = a.newReceiver()
	}
	if err == nil {
		err = a.newAdmin()
	}
	if err != nil {
		return nil, errors.Join(err, a.Close(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// newApp makes the parts that stand alone: enough for a check.
func newApp(cfg *config.Config, log *zap.Logger, stdout io.Writer, opts ...Option) (*App, error) {
	client, err := vod.New(cfg.Vod, vod.WithLogger(log))
	if err != nil {
		return nil, fmt.Errorf("vod: %w", err)
	}
	a := &App{
		log: log, cfg: cfg, out: &output{w: stdout}, client: client, apps: applications(cfg),
		version: "dev", level: zap.NewAtomicLevel(), logDropped: func() int64 { return 0 }, reloaded: make(chan struct{}, 1), sinksChanged: make(chan struct{}, 1), build: buildSink,
		notices: newNotices(log),
	}
	for _, opt := range opts {
		opt(a)
	}
	var fresh []builtSink
	a.unnamed = cfg.NoSinks
	if a.sinks, fresh, err = a.buildSinks(cfg, nil); err != nil {
		a.sinks = fresh
		return nil, errors.Join(err, a.Close(context.Background()))
	}
	return a, nil
}

// applications is the SubAppIds to pull from; a single 0, which is not sent, when none is configured.
func applications(cfg *config.Config) []uint64 {
	if !cfg.Pulls() {
		return nil
	}
	if len(cfg.Vod.SubAppIDs) == 0 {
		return []uint64{0}
	}
	return cfg.Vod.SubAppIDs
}

// connect puts the parts together: sources, relay, pipeline, sinks, and the store beside them.
func (a *App) connect() error {
	processors, err := buildProcessors(a.cfg)
	if err != nil {
		return err
	}
	options := []pipeline.Option{pipeline.OnUnrouted(a.notices.unrouted), pipeline.OnUnwanted(a.notices.unwanted)}
	if a.cfg.Admin.Listen != "" {
		a.observer = admin.NewObserver(sinkNames(a.cfg)...)
		options = append(options, pipeline.Observe(a.observer.Sent))
	}
	if a.store != nil {
		a.store.sinks.Store(int64(len(a.cfg.Sinks)))
		mode := pipeline.ParkFailures
		if a.cfg.Relay.Confirm == relay.ConfirmStored {
			mode = pipeline.ParkEverything
		}
		deliver := func(ctx context.Context, sink string, e event.Event) error { return a.pipeline.Deliver(ctx, sink, e) }
		a.scheduler = relay.NewScheduler(a.log, a.store, deliver, lanes(a.cfg.Sinks))
		a.scheduler.OnDead(a.notices.dead)
		options = append(options, pipeline.WithParking(a.store, mode), pipeline.OnParked(a.scheduler.Wake), pipeline.OnRecovered(a.scheduler.Recovered), pipeline.OnDead(a.notices.dead))
	}
	if a.pipeline, err = pipeline.New(a.log, processors, routes(a.sinks), options...); err != nil {
		return err
	}
	engine := a.cfg.Relay
	engine.RateLimit = a.cfg.Vod.RateLimit
	var sources []relay.Source
	for _, id := range a.apps {
		sources = append(sources, a.client.Queue(id))
	}
	if a.relay, err = relay.New(engine, a.log, a.pipeline, sources...); err != nil {
		return err
	}
	if a.observer != nil {
		a.relay.Observe(a.observer)
	}
	if a.store != nil {
		a.relay.AwaitStore(a.store, holdsPulls(a.cfg))
		a.relay.UseScheduler(a.scheduler, totals{a.store})
		a.relay.UseMemory(a.store)
	}
	return nil
}

// Run relays until ctx is done, or an output that sinks print to has ended for good, which is an error.
func (a *App) Run(ctx context.Context) error {
	return a.whileUnbroken(ctx, true, a.relay.Run)
}

// Drain relays until the queues are empty; see relay.Drain. VOD is asked how many events wait.
func (a *App) Drain(ctx context.Context, opts relay.DrainOptions) (relay.Summary, error) {
	opts.Depth = a.depth
	var sum relay.Summary
	err := a.whileUnbroken(ctx, false, func(ctx context.Context) (err error) {
		sum, err = a.relay.Drain(ctx, opts)
		return err
	})
	return sum, err
}

// depth is about how many events wait. That the right to ask is missing says nothing about the queue.
func (a *App) depth(ctx context.Context, subAppID uint64) (uint64, error) {
	n, err := a.client.QueueDepth(ctx, subAppID)
	if vod.IsDenied(err) {
		err = retry.Doubtful(err)
	}
	return n, err
}

// ErrOutputEnded reports that the reader of the standard output is gone. What it did not read was not
// confirmed.
var ErrOutputEnded = errors.New("the output was closed by its reader: stopped; what it did not take stays in the queue")

// endedError is the cause of a stop because of a part that everything depends on.
type endedError struct{ err error }

func (e *endedError) Error() string { return e.err.Error() }
func (e *endedError) Unwrap() error { return e.err }

// whileUnbroken runs f until it ends, or stops it when an output breaks, with what runs beside it: the
// receiver only on request, as a drain's end does not depend on it.
func (a *App) whileUnbroken(ctx context.Context, receiving bool, f func(context.Context) error) error {
	endAdmin, err := a.serveAdmin(ctx, receiving)
	if err != nil {
		return err
	}
	defer endAdmin()
	ctx, stop := context.WithCancelCause(ctx)
	defer context.AfterFunc(ctx, func() { a.stopping.Store(true) })()
	var beside sync.WaitGroup
	beside.Go(func() { a.stopWhenBroken(ctx, stop) })
	beside.Go(func() { a.notices.run(ctx) })
	beside.Go(func() { a.warnOfModes(ctx) })
	if a.receiver != nil && receiving {
		beside.Go(func() { a.receive(ctx, stop) })
	}
	if a.store != nil {
		beside.Go(func() { a.purge(ctx) })
		beside.Go(func() { a.stopWithoutStore(ctx, stop) })
		beside.Go(func() { a.warnOfGone(ctx) })
	}
	err = f(ctx)
	stop(nil) // the first cause stays
	beside.Wait()
	a.notices.flush()
	var failed *endedError
	if cause := context.Cause(ctx); err == nil && (errors.Is(cause, ErrOutputEnded) || errors.As(cause, &failed)) {
		err = cause
	}
	return err
}

// stopWhenBroken waits until ctx is done, and stops it when the output breaks that sinks print to. They share
// one, so any of them tells.
func (a *App) stopWhenBroken(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		var broken <-chan struct{} // no sink prints: never
		a.mu.Lock()
		for _, s := range a.sinks {
			if b, ok := s.sink.(interface{ Broken() <-chan struct{} }); ok {
				broken = b.Broken()
			}
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-broken:
			stop(ErrOutputEnded)
			return
		case <-a.reloaded:
		}
	}
}

// warnOfModes tells of applications whose callback mode would leave the relay waiting for ever. It is no
// more than a warning: the mode may change while the relay runs, and the right to ask may be missing.
func (a *App) warnOfModes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	for _, id := range a.apps {
		settings, err := a.client.EventConfig(ctx, id)
		if err != nil {
			level := zap.DebugLevel
			if retry.IsPermanent(err) && !vod.IsDenied(err) { // a queue that does not exist may look empty
				level = zap.WarnLevel
			}
			a.log.Log(level, "cannot read the callback mode", zap.Uint64("sub_app_id", id), zap.Error(err), zap.String("hint", retry.Hint(err)))
			continue
		}
		for _, f := range []Finding{checkMode("callback mode", settings, a.cfg), checkUploads("upload events", settings)} {
			if f.Status != Passed {
				a.log.Warn(f.Name+": "+f.Detail, zap.Uint64("sub_app_id", id), zap.String("hint", f.Hint))
			}
		}
	}
}

// Reopen makes the sinks that write to files open them anew, as after a rotation.
func (a *App) Reopen() error {
	a.changing.Lock()
	defer a.changing.Unlock()
	a.mu.Lock()
	sinks := a.sinks // replaced, never changed
	a.mu.Unlock()
	var errs []error
	for _, s := range sinks {
		if r, ok := s.sink.(interface{ Reopen() error }); ok {
			if err := r.Reopen(); err != nil {
				errs = append(errs, fmt.Errorf("sink %s: %w", s.cfg.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Stats are the relay's counters.
func (a *App) Stats() relay.Stats { return a.relay.Stats() }

// PipelineStats are the counters of the processors and sinks.
func (a *App) PipelineStats() pipeline.Stats { return a.pipeline.Stats() }

// Client is the cloud client, and Applications the SubAppIds that it is used for.
func (a *App) Client() *vod.Client { return a.client }

// Applications are the SubAppIds that are relayed; 0 stands for none named.
func (a *App) Applications() []uint64 { return a.apps }
