package admin

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	// depthEvery is how often the depth of a queue is read. It lags by minutes anyway.
	depthEvery = 30 * time.Second
	// depthTime bounds one reading.
	depthTime = 10 * time.Second
	// depthAge is how long a depth is shown while it cannot be read again: an old number would have
	// somebody scale by it.
	depthAge = 5 * time.Minute
)

var depthRetry = retry.Policy{Initial: depthEvery, Max: 5 * time.Minute}

// depths watches how many events wait in each application's queue.
type depths struct {
	log  *zap.Logger
	apps []uint64
	read func(ctx context.Context, subAppID uint64) (uint64, error) // nil: nobody can tell

	mu    sync.Mutex
	known map[uint64]depth
}

// depth is how many events waited in a queue, and when that was.
type depth struct {
	events uint64
	at     time.Time
}

// run reads until ctx is done.
func (d *depths) run(ctx context.Context) {
	if d.read == nil {
		return
	}
	var watching sync.WaitGroup
	for _, app := range d.apps {
		watching.Go(func() { d.watch(ctx, app) })
	}
	watching.Wait()
}

func (d *depths) watch(ctx context.Context, app uint64) {
	var failing retry.Streak
	log := d.log.With(zap.Uint64("sub_app_id", app))
	pause := depthRetry.Backoff()
	for {
		wait := depthEvery
		switch err := d.once(ctx, app); {
		case err == nil:
			pause.Reset()
			failing.End().Report(log, "the depth of the queue is known again")
		case ctx.Err() != nil:
			return
		default:
			wait = max(wait, pause.Next(), retry.Delay(err))
			if failing.Fail(err) {
				log.Warn("cannot read the depth of the queue: it is missing in status and metrics, nothing else depends on it",
					zap.Error(err), zap.String("hint", retry.Hint(err)))
			}
		}
		if retry.Sleep(ctx, wait) != nil {
			return
		}
	}
}

func (d *depths) once(ctx context.Context, app uint64) error {
	ctx, cancel := context.WithTimeout(ctx, depthTime)
	defer cancel()
	events, err := d.read(ctx, app)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[uint64]depth)
	}
	d.known[app] = depth{events, time.Now()}
	return nil
}

// of is the application's depth, and whether it is known.
func (d *depths) of(app uint64) (depth, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[app]
	return known, ok && time.Since(known.at) < depthAge
}

// total is the sum over all applications, known when each of them is.
func (d *depths) total() (events uint64, known bool) {
	for _, app := range d.apps {
		one, ok := d.of(app)
		if !ok {
			return 0, false
		}
		events += one.events
	}
	return events, len(d.apps) > 0
}

// Depth is about how many events wait in all queues; it is not known before it was read, and when it cannot
// be read for long.
func (s *Server) Depth() (events uint64, known bool) { return s.depths.total() }
