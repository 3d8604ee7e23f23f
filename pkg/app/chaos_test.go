package app_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chaosApp   = 1500000001
	chaosSeeds = 25 // histories that always run
)

// TestChaos runs the whole way of an event, from the emulator over the SDK to two sinks, while everything
// that the emulator knows to do goes wrong at once, sinks fail, hang and panic, the store (in two of three
// histories there is one) fails now and then, and the relay is stopped and started again. It checks the
// promises of the design after every stop and at the end. Each seed is one history; VODRELAY_CHAOS_SEEDS
// runs more of them, VODRELAY_CHAOS_SEED a single one again.
func TestChaos(t *testing.T) {
	first, last := 1, chaosSeeds
	if n, err := strconv.Atoi(os.Getenv("VODRELAY_CHAOS_SEEDS")); err == nil {
		last = n
	}
	if n, err := strconv.Atoi(os.Getenv("VODRELAY_CHAOS_SEED")); err == nil {
		first, last = n, n
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newChaos(t, uint64(seed), dealt(uint64(seed))...).run() })
		})
	}
}

type chaos struct {
	t      *testing.T
	random *rand.Rand
	cloud  *emulator.Server
	net    *emulator.Network
	storm  time.Duration // for which things go wrong
	calm   time.Time     // from here on no sink and no store fails any more
	peace  bool          // nor does the API

	published map[int64]event.Event // by the emulator's number
	bodies    map[string]string     // what was published, by event ID
	sinks     []*chaosSink
	parcels   *relaytest.Parcels // nil: no store
	stored    bool               // confirm: stored
	purges    bool               // the service itself may lose an event

	mu   sync.Mutex
	now  int // events being handled
	most int
}

// newChaos is a history under the named variants of the emulator.
func newChaos(t *testing.T, seed uint64, variants ...string) *chaos {
	c := &chaos{t: t, storm: 5 * time.Minute, random: rand.New(rand.NewPCG(seed, 1)), published: map[int64]event.Event{}, bodies: map[string]string{}}
	pick := func(n int) int { return c.random.IntN(n) }
	opts := emulator.Options{
		Seed:      seed,
		Latency:   time.Duration(pick(100)) * time.Millisecond,
		ModeDelay: time.Minute,
		SubAppIDs: []uint64{chaosApp},
	}
	require.NoError(t, opts.Choose(variants...))
	if opts.Variants.Retention != "" && opts.Variants.Retention != emulator.RetentionBetweenLeases {
		opts.Retention = 3 * time.Minute // it ends within the history
	}
	c.purges = opts.Retention > 0 || opts.Variants.MaxDeliveries > 0
	c.cloud = emulator.New(opts)
	if kind := seed % 3; kind > 0 {
		c.parcels, c.stored = &relaytest.Parcels{}, kind == 2
	}
	c.net = emulator.NewNetwork()
	for i := range 2 {
		c.sinks = append(c.sinks, &chaosSink{chaos: c, random: rand.New(rand.NewPCG(seed, uint64(10+i))), accepted: map[string]time.Time{}})
	}
	return c
}

func (c *chaos) run() {
	serving := make(chan error, 1)
	go func() { serving <- c.cloud.Serve(c.net) }()
	c.calm = time.Now().Add(c.storm)
	for _, kind := range emulator.FaultKinds() {
		f := emulator.Fault{Kind: kind, Rate: 0.01 + 0.03*c.random.Float64(), After: c.random.IntN(2) == 0}
		switch kind {
		case emulator.FaultDuplicate, emulator.FaultNoHold:
			f.Action, f.After = emulator.ActionPullEvents, false
		case emulator.FaultOddItems, emulator.FaultDeep, emulator.FaultBig: // these are other events than were published
			continue
		case emulator.FaultExtraItems:
			f.Count = 5000
		case emulator.FaultLatency, emulator.FaultStall, emulator.FaultHang, emulator.FaultTooManyRequests, emulator.FaultClockSkew:
			f.Delay = time.Duration(1+c.random.IntN(20)) * time.Second
			if kind == emulator.FaultClockSkew {
				f.Delay = time.Hour
			}
		case emulator.FaultError:
			codes := []string{"InternalError", "FailedOperation", "RequestLimitExceeded", "AuthFailure.TokenFailure", "AuthFailure.SecretIdNotFound", "UnauthorizedOperation", "InvalidParameterValue", "ResourceUnavailable"}
			f.Code = codes[c.random.IntN(len(codes))]
		default:
		}
		if f.Validate() != nil {
			f.After = false
		}
		_, err := c.cloud.AddFault(f)
		require.NoError(c.t, err, kind)
	}

	for time.Now().Before(c.calm) {
		c.publish(c.random.IntN(200))
		mode := emulator.ModePull
		if c.random.IntN(5) == 0 { // somebody switches to normal callbacks, whose address is not set
			mode = emulator.ModePush
		}
		require.NoError(c.t, c.cloud.SetMode(chaosApp, mode))
		c.relayFor(time.Duration(5+c.random.IntN(90)) * time.Second)
	}
	c.cloud.ClearFaults()
	c.peace = true
	require.NoError(c.t, c.cloud.SetMode(chaosApp, emulator.ModePull))
	// Nothing goes wrong any more: what is in the queue must be through within two leases, and what waits in
	// the store when it is due. Dead letters need a person.
	c.relayFor(5 * time.Minute)
	if c.parcels != nil {
		for _, p := range c.parcels.All() {
			if p.State == event.ParcelDead {
				c.parcels.Replay(p.Key())
			}
		}
		c.relayFor(30 * time.Minute)
		require.Empty(c.t, c.parcels.All())
	}
	require.Empty(c.t, c.cloud.Pending())
	if !c.purges {
		require.Zero(c.t, c.cloud.Counts().Purged)
		require.EqualValues(c.t, len(c.published), c.cloud.Counts().Confirmed)
	}
	sent := 0
	for _, s := range c.sinks {
		sent += s.sent
	}
	c.t.Logf("%d events, %d duplicates over %d sinks, %d redeliveries", len(c.published), sent-len(c.sinks)*len(c.published), len(c.sinks), c.cloud.Counts().Redelivered)
	c.cloud.Close()
	require.NoError(c.t, <-serving)
	_ = c.net.Close()
}

func (c *chaos) publish(n int) {
	contents, err := emulator.Generate(emulator.Generation{Count: n, Seed: c.random.Uint64(), Types: []string{emulator.TypesAll}})
	require.NoError(c.t, err)
	numbers, err := c.cloud.Enqueue(chaosApp, contents...)
	require.NoError(c.t, err)
	for i, number := range numbers {
		e, _, err := event.Decode(contents[i], chaosApp)
		require.NoError(c.t, err)
		c.published[number] = e
		c.bodies[e.ID] = body(c.t, e)
	}
}

// relayFor is one life of a relay: a new process would start no differently.
func (c *chaos) relayFor(life time.Duration) {
	client := clientOver(c.t, c.net)
	defer client.Close()

	var routes []pipeline.Route
	for i, s := range c.sinks {
		routes = append(routes, pipeline.Route{
			Name: fmt.Sprint("sink", i), Sink: s, Timeout: 10 * time.Second, Concurrency: 32,
			Retry: retry.Policy{Initial: 100 * time.Millisecond, Max: 5 * time.Second},
		})
	}
	var options []pipeline.Option
	var scheduler *relay.Scheduler
	var p *pipeline.Pipeline
	if c.parcels != nil {
		mode := pipeline.ParkFailures
		if c.stored {
			mode = pipeline.ParkEverything
		}
		var lanes []relay.Lane
		for _, route := range routes {
			lanes = append(lanes, relay.Lane{Sink: route.Name, Concurrency: route.Concurrency, Timeout: route.Timeout, Policy: retry.DefaultSchedule()})
		}
		scheduler = relay.NewScheduler(nil, c.parcels, func(ctx context.Context, sink string, e event.Event) error { return p.Deliver(ctx, sink, e) }, lanes)
		options = append(options, pipeline.WithParking(parker{c}, mode), pipeline.OnParked(scheduler.Wake), pipeline.OnRecovered(scheduler.Recovered))
	}
	p, err := pipeline.New(nil, nil, routes, options...)
	require.NoError(c.t, err)

	engine := relay.DefaultConfig()
	engine.MaxInHand = 128
	engine.StopGrace = time.Duration(c.random.Int64N(int64(relay.MaxStopGrace) + 1))
	r, err := relay.New(engine, nil, relay.HandlerFunc(func(ctx context.Context, d event.Delivery) error {
		c.enter(1)
		defer c.enter(-1)
		return p.Handle(ctx, d)
	}), client.Queue(chaosApp))
	require.NoError(c.t, err)

	if c.parcels != nil {
		r.UseScheduler(scheduler, c.parcels)
		r.UseMemory(c.parcels)
	}

	ctx, cancel := context.WithCancel(c.t.Context())
	var stopped time.Time
	timer := time.AfterFunc(life, func() { stopped = time.Now(); cancel() })
	err = r.Run(ctx)
	timer.Stop()
	cancel()
	switch {
	case err != nil: // a configuration error before the first success ends a run, as it should
		require.True(c.t, retry.IsPermanent(err), err)
		require.False(c.t, c.peace, "nothing was wrong any more: %v", err)
	default:
		require.LessOrEqual(c.t, time.Since(stopped), relay.StopLimit, "a stop must end in time")
	}
	require.Zero(c.t, r.Stats().InHand)
	require.Zero(c.t, r.Stats().Pollers)
	require.NoError(c.t, p.Close(c.t.Context()))
	c.judge()
}

// parker is the store, which fails now and then.
type parker struct{ c *chaos }

func (p parker) Put(ctx context.Context, parcels ...event.Parcel) error {
	p.c.mu.Lock()
	fails := p.c.random.IntN(20) == 0
	p.c.mu.Unlock()
	if fails && time.Now().Before(p.c.calm) {
		return errors.New("the disk is full")
	}
	return p.c.parcels.Put(ctx, parcels...)
}

func (c *chaos) enter(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.most = max(c.most, c.now)
}

// judge checks the promises.
func (c *chaos) judge() {
	require.LessOrEqual(c.t, c.most, 128, "more in hand than there is room for")
	confirmed := map[int64]time.Time{}
	for _, entry := range c.cloud.Journal() {
		if entry.Kind == emulator.KindConfirmed {
			confirmed[entry.Event] = entry.Time
		}
	}
	kept := map[string]bool{}
	if c.parcels != nil {
		for _, p := range c.parcels.All() {
			kept[p.ID+" "+p.Sink] = true
		}
	}
	for number, at := range confirmed {
		e := c.published[number]
		for i, s := range c.sinks {
			accepted, ok := s.accepted[e.ID]
			if !ok && kept[fmt.Sprint(e.ID, " sink", i)] {
				continue
			}
			require.True(c.t, ok, "event %d (%s) was confirmed, and sink %d neither accepted it nor has a parcel", number, e.Type, i)
			if c.parcels == nil {
				require.False(c.t, at.Before(accepted), "event %d was confirmed before sink %d accepted it", number, i)
			}
		}
	}
}

// chaosSink is a target that fails in every way that it can.
type chaosSink struct {
	chaos  *chaos
	mu     sync.Mutex
	random *rand.Rand

	accepted map[string]time.Time // by event ID, the first time
	sent     int
}

func (s *chaosSink) Send(ctx context.Context, e event.Event) error {
	s.mu.Lock()
	what := s.random.IntN(100)
	pause := time.Duration(s.random.IntN(200)) * time.Millisecond
	s.mu.Unlock()
	if err := retry.Sleep(ctx, pause); err != nil {
		return err
	}
	if time.Now().Before(s.chaos.calm) {
		switch {
		case what < 4:
			return errors.New("connection refused")
		case what < 6:
			return retry.Permanent(errors.New("not wanted"))
		case what < 8:
			panic("a bug in a sink")
		case what < 10: // accepted, but the answer is lost
			s.accept(e)
			return errors.New("connection reset")
		case what < 12:
			<-ctx.Done()
			return ctx.Err()
		case what < 13: // deaf to its context, but not for so long that a stop could not wait for it
			timer := time.NewTimer(12 * time.Second)
			<-timer.C
		}
	}
	s.accept(e)
	return nil
}

func (s *chaosSink) accept(e event.Event) {
	if want, ok := s.chaos.bodies[e.ID]; !ok || want != body(s.chaos.t, e) {
		s.chaos.t.Errorf("not what was published: %s", e.Raw)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	if _, ok := s.accepted[e.ID]; !ok {
		s.accepted[e.ID] = time.Now()
	}
}

// body is an event as VOD would post it, in which null fields mean nothing.
func body(t *testing.T, e event.Event) string {
	text, err := e.CallbackBody()
	if err != nil {
		t.Errorf("not JSON: %s", e.Raw)
	}
	return string(text)
}

func (s *chaosSink) Close(context.Context) error { return nil }
