package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Pipeline runs the processors on an event and then sends it to every route that wants it.
type Pipeline struct {
	log    *zap.Logger
	memory *memory

	mu      sync.RWMutex
	current *plan
	ended   sync.WaitGroup // of the plans before
	closing context.Context
	cut     context.CancelFunc // of closing: ends the closing of sinks that were removed

	parker    Parker // nil: events of failed sinks stay unsettled
	parkMode  ParkMode
	onParked  func(sink string)
	recovered func(sink string)
	onDead    func(sink string, e event.Event, err error)
	// onUnrouted is told the type of an event that no sink wants.
	onUnrouted func(eventType string)
	// onUnwanted gets the sink whose condition does not want the event of a parcel any more.
	onUnwanted func(sink string)
	observe    func(sink string, d time.Duration, err error)

	processing, parking retry.Streak // parking: of event.Unprocessed; the routes have their own
	dropped, failed     atomic.Uint64
	unrouted            typeCounts
}

// Option changes what New builds.
type Option func(*Pipeline)

// WithMemory bounds the memory of events that some sinks accepted and others did not: at most events of
// them (the oldest are forgotten first), each for age after its last delivery. The default is 65,536 and
// one hour. What is forgotten too early is sent again.
func WithMemory(events int, age time.Duration) Option {
	return func(p *Pipeline) { p.memory = newMemory(events, age) }
}

// OnUnrouted has f called with the type of every event that no sink wants, as Stats.UnroutedTypes names it. f must
// return at once.
func OnUnrouted(f func(eventType string)) Option { return func(p *Pipeline) { p.onUnrouted = f } }

// OnUnwanted has f called with the sink for every parcel whose event the sink's condition does not want any more, and
// which is done with. f must return at once.
func OnUnwanted(f func(sink string)) Option { return func(p *Pipeline) { p.onUnwanted = f } }

// New makes a pipeline of processors, which run in their order, and routes. log may be nil. The error
// names every route that is not usable: without a name or a sink, with a name that another one has, or
// with a retry policy that is neither zero nor valid.
func New(log *zap.Logger, processors []Processor, routes []Route, opts ...Option) (*Pipeline, error) {
	if log == nil {
		log = zap.NewNop()
	}
	p := &Pipeline{log: log, memory: newMemory(defaultMemorySize, defaultMemoryAge),
		onDead: func(string, event.Event, error) {}, onUnrouted: func(string) {}, onUnwanted: func(string) {}, observe: func(string, time.Duration, error) {}}
	for _, opt := range opts {
		opt(p)
	}
	if err := checkRoutes(routes); err != nil {
		return nil, err
	}
	p.current = p.newPlan(processors, routes, nil)
	p.closing, p.cut = context.WithCancel(context.Background())
	return p, nil
}

// Handle takes an event through the pipeline. nil means that it is settled: a processor dropped it, or
// every sink whose condition matches accepted it, now or at an earlier delivery; or no sink wants it.
//
// Each sink settles by itself: all are tried at the same time, and the error joins those that failed, each
// with the sink's name. A sink that accepted the event is not sent it again at its next delivery. Retries
// end with ctx's deadline, or d's where ctx has none.
//
// With a Parker the event of a sink that failed is settled when its parcel is stored; see WithParking.
func (p *Pipeline) Handle(ctx context.Context, d event.Delivery) error {
	return p.handle(ctx, d, way{mode: p.parkMode})
}

// Store takes an event through the processors and parks it for every sink that wants it, whatever the
// ParkMode, to be sent by whoever calls Deliver. What cannot be stored within patience, which must be positive, is
// sent at once. nil means that every sink that wants the event has accepted it, or has it stored; after an error the
// next call leaves those out that did. Without a Parker it is Handle.
func (p *Pipeline) Store(ctx context.Context, d event.Delivery, patience time.Duration) error {
	return p.handle(ctx, d, way{ParkEverything, patience})
}

// way is how an event gets to the sinks that want it.
type way struct {
	mode ParkMode
	// patience is for what is to be parked: what cannot be within it is sent. 0: it is not sent.
	patience time.Duration
}

func (p *Pipeline) handle(ctx context.Context, d event.Delivery, w way) error {
	pl, leave := p.enter()
	defer leave()
	if _, ok := ctx.Deadline(); !ok && !d.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, d.Deadline)
		defer cancel()
	}
	return p.run(ctx, pl, d.Event, w, func(err error) error {
		if p.parker == nil || ctx.Err() != nil {
			return err
		}
		if _, parking := p.park(ctx, pl, unprocessed(d.Event, err)); parking != nil {
			return errors.Join(err, parking)
		}
		p.onDead(event.Unprocessed, d.Event, err)
		return nil
	})
}

// run takes an event through the pipeline; poisoned decides on one that a processor failed on.
func (p *Pipeline) run(ctx context.Context, pl *plan, e event.Event, w way, poisoned func(err error) error) error {
	key := keyOf(e)
	accepted := p.memory.recall(key)
	processed, err := p.process(ctx, pl, e)
	switch {
	case errors.Is(err, ErrSkip):
		err = nil
	case err != nil:
		err = poisoned(err)
	default:
		err = p.dispatch(ctx, pl, key, processed, w, accepted)
	}
	if err == nil && accepted != nil {
		p.memory.forget(key)
	}
	return err
}

// process returns the processed event, ErrSkip, or an error that tells what failed.
func (p *Pipeline) process(ctx context.Context, pl *plan, e event.Event) (event.Event, error) {
	processed, err := pl.processor.Process(ctx, e)
	switch {
	case err == nil:
		p.processing.EndAfter(retry.Quiet).Report(p.log, "processors work again")
	case errors.Is(err, ErrSkip):
		p.dropped.Add(1)
	default:
		p.failed.Add(1)
		if p.parker == nil && !stopping(ctx) && p.processing.Fail(err) { // else it is reported as a dead letter
			p.log.Warn("a processor fails, the event stays unsettled", failure(err)...)
		}
		debugFailure(p.log, "processor failed", e, err)
	}
	return processed, err
}

// result is what became of an event at one route; the zero value of one that does not want it, or has
// accepted it before.
type result struct {
	target   bool // it is to be sent there
	failures int  // attempts that failed
	err      error
}

// dispatch brings e to every route that wants it and has not accepted it yet: it is sent there, or parked.
// With an error it remembers which sinks accepted it, or have it parked.
func (p *Pipeline) dispatch(ctx context.Context, pl *plan, key memoryKey, e event.Event, w way, before sinkSet) error {
	results, wanted := pl.match(ctx, e, before)
	if !wanted {
		p.onUnrouted(p.unrouted.add(e.Type))
		return nil
	}
	storing := p.parker != nil && w.mode == ParkEverything
	var settled sinkSet // the sinks that need it no more
	if storing && w.patience > 0 {
		var all bool
		if settled, all = p.storeFirst(ctx, pl, e, w.patience, results); all {
			return nil
		}
		storing = false
	}
	if !storing {
		p.fanOut(ctx, pl, e, results)
	}

	var errs []error
	for i, res := range results {
		switch {
		case res.err != nil:
			errs = append(errs, pl.routes[i].named(res.err))
		case res.target && !storing:
			settled = append(settled, pl.routes[i].Name)
		}
	}
	failed := errors.Join(errs...)
	if p.parker != nil && (storing || failed != nil && !errors.Is(failed, retry.ErrEnding)) {
		stored, err := p.parkAt(ctx, pl, e, storing, results)
		if err == nil {
			return nil
		}
		settled = append(settled, stored...)
		failed = errors.Join(failed, err)
	}
	if failed != nil && settled != nil {
		p.memory.add(key, settled)
	}
	return failed
}

// storeFirst parks e for all targets in results, as far as that succeeds within patience, and takes those out of
// results. all reports that it did for each.
func (p *Pipeline) storeFirst(ctx context.Context, pl *plan, e event.Event, patience time.Duration, results []result) (stored sinkSet, all bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	parcels := p.parcels(pl, e, true, results)
	left, _ := p.put(ctx, pl, parcels) // which has logged the error
	for _, r := range pl.routes {
		of := func(parcel event.Parcel) bool { return parcel.Sink == r.Name }
		if slices.ContainsFunc(parcels, of) && !slices.ContainsFunc(left, of) {
			stored = append(stored, r.Name)
		}
	}
	p.reportDead(pl, e, results, stored.has)
	for i, r := range pl.routes {
		if stored.has(r.Name) {
			results[i] = result{}
		}
	}
	return stored, len(left) == 0
}

// match decides which routes e goes to; wanted reports whether there is any, now or before.
func (pl *plan) match(ctx context.Context, e event.Event, before sinkSet) (results []result, wanted bool) {
	results = make([]result, len(pl.routes))
	for i, r := range pl.routes {
		ok, err := r.wants(ctx, e)
		wanted = wanted || ok || err != nil
		switch {
		case err != nil:
			results[i].err = err
			r.fail(ctx, e, err)
		case ok && before.has(r.Name):
			r.deduplicated.Add(1)
		case ok:
			results[i].target = true
		}
	}
	return results, wanted
}

// fanOut sends e to all targets at the same time and waits for them.
func (p *Pipeline) fanOut(ctx context.Context, pl *plan, e event.Event, results []result) {
	ctx, cancel := p.sendingUnder(ctx)
	defer cancel()
	var others sync.WaitGroup
	var own func() // this goroutine has nothing else to do
	for i, r := range pl.routes {
		if !results[i].target {
			continue
		}
		if own != nil {
			others.Go(own)
		}
		own = func() { results[i].failures, results[i].err = r.deliver(ctx, e) }
	}
	if own != nil {
		own()
	}
	others.Wait()
}
