// Package world builds what a plan says out of processes, does to them what it says, and has a ledger judge. It uses
// the vodrelay binary and nothing else of it.
package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/disk"
	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/proxy"
)

// Options are what all worlds share.
type Options struct {
	Program  string // vodrelay
	Emulator string // the vodrelay that is the emulator
	Self     string // this program, which is also the webhook
	Dir      string // for the files of the world
	Short    bool
	Say      func(format string, args ...any) // what happens, for people
	// Watch, if it is not nil, gets the admin addresses of the relays, and ends with its context.
	Watch func(ctx context.Context, relays map[string]string)
}

// World is one set of processes.
type World struct {
	plan    plan.World
	options Options
	dir     string
	began   time.Time
	ledger  *ledger.Ledger
	refuses bool

	emulator    *emulator
	publisher   *publisher
	store       store
	targets     map[string]target
	relays      []*relay
	posts       *httptest.Server // where PUSH mode posts to
	volume      *disk.Volume     // where SQLite and files are; nil: this machine makes none
	credentials string           // the file with the key
	watching    sync.WaitGroup   // for the ends of relays

	reloading sync.Mutex // by one action at a time

	storing sync.Mutex // one disturbs the store at a time
	reading sync.Mutex // one reads targets and journal at a time

	mu        sync.Mutex
	keys      [2]string
	keyNumber int
	failed    []ledger.Breach // beside those of the ledger
	extra     []ledger.Period // in which the extra sink was configured
	checks    int
}

// Result is what became of a world.
type Result struct {
	ledger.Report
	Checks int // how often the promises were checked
	Drain  string
	Took   time.Duration
}

// Run makes the world, has the plan done, and judges.
func Run(ctx context.Context, p plan.World, o Options) (r Result, err error) {
	w := &World{plan: p, options: o, dir: o.Dir, began: time.Now(), targets: map[string]target{}, keys: [2]string{secretID, secretKey}}
	var sinks []ledger.Sink
	for _, s := range p.Sinks {
		sinks = append(sinks, ledger.Sink{Name: s.Name, Types: s.Types, Once: s.Once, Refuses: s.Refuses, Untimed: s.Type == "file" || s.Type == "kafka"})
		w.refuses = w.refuses || s.Refuses
	}
	w.publisher = &publisher{world: w, random: rand.New(rand.NewPCG(p.Seed, 2))}
	w.ledger = ledger.New(sinks...)
	w.ledger.Configure("extra", ledger.Period{From: time.Now().Add(1000 * time.Hour)})
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.build(ctx); err != nil {
		return r, err
	}
	watching, stop := context.WithCancel(ctx)
	w.watching.Go(func() { w.watchMachine(watching) })
	defer stop()
	if err := w.live(ctx); err != nil {
		return r, err
	}
	r, err = w.end(ctx)
	r.Checks, r.Took = w.checks, time.Since(w.began)
	return r, err
}

func (w *World) path(name string) string { return filepath.Join(w.dir, name) }

// makeDisk makes the disk for what relays write, or a directory.
func (w *World) makeDisk(ctx context.Context) (err error) {
	if !w.plan.Disk {
		return os.Mkdir(w.path("disk"), 0o700)
	}
	size := int64(256 << 20)
	if w.options.Short {
		size = 64 << 20
	}
	w.volume, err = disk.New(ctx, w.path("disk"), size)
	return err
}

// disk is a file on the disk.
func (w *World) disk(name string) string { return filepath.Join(w.path("disk"), name) }

// build starts everything.
func (w *World) build(ctx context.Context) (err error) {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	args := []string{"--seed", fmt.Sprint(w.plan.Seed % 1000)}
	for _, v := range w.plan.Variants {
		args = append(args, "--variant", v)
	}
	if w.emulator, err = startEmulator(ctx, w.options.Emulator, w.path("emulator.log"), args...); err != nil {
		return err
	}
	w.posts = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) }))
	w.credentials = w.path("credentials.json")
	if err := w.writeKey(); err != nil {
		return err
	}
	if err := w.makeDisk(ctx); err != nil {
		return err
	}
	if w.store, err = w.newStore(ctx); err != nil {
		return err
	}
	for _, s := range w.plan.Sinks {
		if w.targets[s.Name], err = w.newTarget(ctx, s); err != nil {
			return err
		}
	}
	for i := range w.plan.Relays {
		if err := w.newRelay(i); err != nil {
			return err
		}
	}
	for _, r := range w.relays {
		r.mu.Lock()
		err = errors.Join(err, r.configure(nil), r.start())
		r.mu.Unlock()
	}
	return err
}

// newRelay makes a relay that does not run yet.
func (w *World) newRelay(i int) error {
	admin, err := freeAddress()
	if err != nil {
		return err
	}
	r := &relay{world: w, number: i, admin: admin, links: map[string]*proxy.Proxy{}, noted: map[string]int{}}
	r.config, r.log = r.file(".yaml"), r.file(".log")
	w.relays = append(w.relays, r)
	ends := map[string]string{"api": w.emulator.address, "store": w.store.address()}
	for name, t := range w.targets {
		ends[name] = t.address()
	}
	for name, address := range ends {
		if address == "" {
			continue
		}
		if r.links[name], err = proxy.New(address, w.plan.Seed+uint64(i)); err != nil {
			return err
		}
	}
	return nil
}

// live publishes and has the plan done, until its time is over and every action has ended.
func (w *World) live(ctx context.Context) error {
	var running sync.WaitGroup
	errs := make(chan error, len(w.plan.Actions)+2)
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { errs <- w.publisher.run(publishing, w.plan.Rate) })
	running.Go(func() { errs <- w.look(publishing) })
	if w.options.Watch != nil {
		admins := map[string]string{}
		for _, r := range w.relays {
			admins[r.String()] = r.admin
		}
		running.Go(func() { w.options.Watch(publishing, admins) })
	}
	began := time.Now()
	for _, a := range w.plan.Actions {
		pause(ctx, time.Until(began.Add(a.At)))
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			if err := w.act(ctx, a); err != nil {
				errs <- fmt.Errorf("%s: %w", a, err)
			}
		})
	}
	pause(ctx, time.Until(began.Add(w.plan.Length)))
	stop()
	running.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return errors.Join(all, ctx.Err())
}

// look reads journal and targets all the time, so that arrivals have their time and the journal loses no line.
func (w *World) look(ctx context.Context) error {
	for ctx.Err() == nil {
		// A machine that is so busy has time later; what must be read is read at rest.
		if err := w.glance(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		pause(ctx, 500*time.Millisecond)
	}
	return nil
}

// watchMachine notes when this machine is so busy that a process stands still for a moment: timeouts may then end what
// nothing else disturbs.
func (w *World) watchMachine(ctx context.Context) {
	const every, late = 50 * time.Millisecond, 250 * time.Millisecond
	for ctx.Err() == nil {
		before := time.Now()
		pause(ctx, every)
		if now := time.Now(); now.Sub(before) > every+late {
			w.did(ledger.Slow, "", "the machine is overloaded", before, now)
		}
	}
}

// glance enters what is new, as far as the targets are up.
func (w *World) glance(ctx context.Context) error {
	w.reading.Lock()
	defer w.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := w.emulator.journal(ctx, w.ledger); err != nil {
		return err
	}
	for _, t := range w.targets {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		_ = t.read(ctx, w.ledger, false) // it may be down
		cancel()
	}
	return nil
}

// readLimit is how long a target that is down is waited for, to be read.
const readLimit = 40 * time.Second

// read enters everything, while no relay runs. The journal comes first: what was confirmed by then must be somewhere.
func (w *World) read(ctx context.Context) error {
	w.reading.Lock()
	defer w.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	if err := w.emulator.journal(ctx, w.ledger); err != nil {
		return err
	}
	w.noteUnanswered()
	for name, t := range w.targets {
		for {
			trying, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := t.read(trying, w.ledger, true)
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			pause(ctx, 250*time.Millisecond)
		}
	}
	return nil
}

// fail enters a promise that was not kept.
func (w *World) fail(rule, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := ledger.Breach{Rule: rule, Text: fmt.Sprintf(format, args...)}
	w.failed = append(w.failed, b)
	w.options.Say("!!! %s", b)
}

// did enters what was done, as a possible cause of duplicates.
func (w *World) did(kind, of, what string, from, to time.Time) {
	w.ledger.Did(ledger.Deed{Kind: kind, Of: of, What: what, Period: ledger.Period{From: from, To: to}})
}

func (w *World) key() (id, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.keys[0], w.keys[1]
}

func (w *World) writeKey() error {
	id, key := w.key()
	text, err := json.Marshal(map[string]string{"secret_id": id, "secret_key": key})
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.credentials+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(w.credentials+".new", w.credentials)
}

// close ends everything that build started.
func (w *World) close() (err error) {
	for _, r := range w.relays {
		r.mu.Lock()
		if r.process != nil && r.process.running() {
			r.kill()
		}
		r.mu.Unlock()
		for _, p := range r.links {
			err = errors.Join(err, p.Close())
		}
	}
	w.watching.Wait()
	for _, t := range w.targets {
		if t != nil {
			err = errors.Join(err, t.close())
		}
	}
	if w.store != nil {
		err = errors.Join(err, w.store.close())
	}
	if w.volume != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = errors.Join(err, w.volume.Close(ctx))
		cancel()
	}
	if w.posts != nil {
		w.posts.Close()
	}
	if w.emulator != nil {
		w.emulator.kill()
	}
	return err
}

// freeAddress is a port that is free now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
