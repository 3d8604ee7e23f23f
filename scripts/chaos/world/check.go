package world

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
)

// settleLimit is how long everything may take to be settled when nothing is wrong any more: two leases, the claims of
// a relay that was killed, and some work.
const settleLimit = 150 * time.Second

// moment reads the world while no relay runs.
func (w *World) moment(ctx context.Context) (m ledger.Moment, err error) {
	if err := w.read(ctx); err != nil {
		return m, err
	}
	parcels, err := w.parcels(ctx)
	if err != nil {
		return m, err
	}
	c, err := w.emulator.counts(ctx)
	if err != nil {
		return m, err
	}
	_, none := w.store.(noStore)
	m = ledger.Moment{At: time.Now(), Stored: !none, Parcels: parcels, Queued: c.Ready + c.Leased + c.Pushing, Relays: len(w.relays)}
	if slices.ContainsFunc(w.plan.Actions, func(a plan.Action) bool { return a.Do == plan.Drain }) {
		m.Relays++ // a drain beside them is one more
	}
	return m, nil
}

// parcels reads the store, which may be down for a while.
func (w *World) parcels(ctx context.Context) (all []ledger.Parcel, err error) {
	for end := time.Now().Add(readLimit); ; pause(ctx, 250*time.Millisecond) {
		trying, cancel := context.WithTimeout(ctx, 10*time.Second)
		all, err = w.store.parcels(trying)
		cancel()
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the store: %w", err)
	}
	return all, nil
}

// check judges while no relay runs, and others go on: so the queue's count is left to the end.
func (w *World) check(ctx context.Context) error {
	m, err := w.moment(ctx)
	if err != nil {
		return err
	}
	m.Queued = -1
	r := w.ledger.Judge(m)
	w.mu.Lock()
	w.checks++
	n := w.checks
	w.mu.Unlock()
	w.options.Say("check %d: %d published, %d confirmed, %d parcels wait: %s", n, r.Published, r.Confirmed, r.Waiting, verdict(r.Breaches))
	for _, b := range r.Breaches {
		w.keep(b)
	}
	return nil
}

func verdict(breaches []ledger.Breach) string {
	if len(breaches) == 0 {
		return "nothing is lost"
	}
	return fmt.Sprintf("%d BREACHES", len(breaches))
}

// keep enters a breach once.
func (w *World) keep(b ledger.Breach) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, known := range w.failed {
		if known == b {
			return
		}
	}
	w.failed = append(w.failed, b)
}

// end has everything settled, by the relays or by a drain alone, and judges for the last time.
func (w *World) end(ctx context.Context) (r Result, err error) {
	if w.plan.Abrupt {
		err = w.endAbruptly(ctx, &r)
	} else {
		err = w.endCalmly(ctx, &r)
	}
	if err != nil {
		return r, err
	}
	m, err := w.moment(ctx)
	if err != nil {
		return r, err
	}
	m.Final = true
	r.Report = w.ledger.Judge(m)
	w.checks++
	for _, b := range r.Breaches {
		w.keep(b)
	}
	r.Breaches = w.failed
	return r, nil
}

// endCalmly lets the relays settle everything. Then a drain must find nothing.
func (w *World) endCalmly(ctx context.Context, r *Result) (err error) {
	if err := w.calm(ctx); err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	w.stop()
	r.Drain, err = w.drain(ctx, w.options.Short)
	return err
}

// endAbruptly leaves everything to a drain: what relays had in hand, and what somebody else holds, is hidden at first.
// What waits in the store afterwards is for the relays again.
func (w *World) endAbruptly(ctx context.Context, r *Result) (err error) {
	if err := w.calm(ctx); err != nil {
		return err
	}
	if err := w.publisher.publish(ctx, 300); err != nil { // so that there is much in hand
		return err
	}
	if err := w.powerCut(ctx, plan.Action{Do: plan.PowerCut}, false); err != nil {
		return err
	}
	if err := w.publisher.publish(ctx, 20); err != nil { // and something for others
		return err
	}
	holding, cancel := context.WithTimeout(ctx, time.Second)
	(&consumer{world: w, random: rand.New(rand.NewPCG(w.plan.Seed, 3))}).run(holding)
	cancel()
	if r.Drain, err = w.drain(ctx, false); err != nil {
		return err
	}
	for _, relay := range w.relays {
		if err := relay.start(); err != nil {
			return err
		}
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	w.stop()
	return nil
}

// stop ends all relays in order.
func (w *World) stop() {
	for _, r := range w.relays {
		r.mu.Lock()
		r.terminate()
		r.mu.Unlock()
	}
}

// settle waits until the queue is empty and nothing in the store waits, or the time is over: then the judge says what
// is left.
func (w *World) settle(ctx context.Context) error {
	began, quiet := time.Now(), 0
	for end := began.Add(settleLimit); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 250*time.Millisecond) {
		if err := w.glance(ctx); err != nil {
			return err
		}
		c, err := w.emulator.counts(ctx)
		if err != nil {
			return err
		}
		if c.Ready+c.Leased+c.Pushing > 0 {
			continue
		}
		parcels, err := w.store.parcels(ctx)
		if err != nil {
			continue // it is read while relays write
		}
		waiting := 0
		for _, p := range parcels {
			if !p.Dead {
				waiting++
			}
		}
		if waiting > 0 {
			quiet = 0
		} else if quiet++; quiet > 2 { // a copy made while relays write may be an old one
			w.options.Say("settled after %s", time.Since(began).Round(time.Second))
			return nil
		}
	}
	return ctx.Err()
}

// drained is the last line of a drain's log.
type drained struct {
	Msg     string
	Empty   bool
	Left    int
	Counted uint64
}

// drain runs vodrelay drain while no relay runs, and compares what it says with what is.
func (w *World) drain(ctx context.Context, short bool) (string, error) {
	before, err := w.emulator.counts(ctx)
	if err != nil {
		return "", err
	}
	r := w.relays[0]
	quiet := "31s"
	if short {
		quiet = "1s"
	}
	log := w.path("drain.log")
	p, err := start(log, w.environ(), nil, w.options.Program, "drain", "-c", r.config, "--quiet-for", quiet, "-q")
	if err != nil {
		return "", err
	}
	code, err := p.wait(4 * time.Minute)
	if err != nil {
		p.kill()
		w.fail("drain", "vodrelay drain: %v: see %s", err, log)
		return "", nil
	}
	sum, ok := lastDrain(log)
	after, err := w.emulator.counts(ctx)
	if err != nil {
		return "", err
	}
	parcels, err := w.parcels(ctx)
	if err != nil {
		return "", err
	}
	left := after.Ready + after.Leased + after.Pushing
	w.judgeDrain(code, ok, sum, left, len(parcels))
	said := fmt.Sprintf("exit %d, empty %t, %d confirmed; left are %d events and %d parcels", code, sum.Empty, after.Confirmed-before.Confirmed, left, len(parcels))
	w.options.Say("drain: %s", said)
	return said, nil
}

// judgeDrain compares what a drain said with what is there.
func (w *World) judgeDrain(code int, ok bool, sum drained, left, parcels int) {
	want := 0
	switch {
	case left > 0:
		want = 4
	case parcels > 0:
		want = 3
	}
	switch {
	case !ok:
		w.fail("drain", "it ended with %d and without a summary: see %s", code, w.path("drain.log"))
	case code != want:
		w.fail("drain", "it ended with %d, and should with %d: left are %d events and %d parcels", code, want, left, parcels)
	case sum.Empty != (left == 0):
		w.fail("drain", "it said empty %t, and left are %d events", sum.Empty, left)
	}
}

func lastDrain(path string) (d drained, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return d, false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := lines.Bytes(); bytes.Contains(line, []byte(`"drain ended"`)) {
			ok = json.Unmarshal(line, &d) == nil
		}
	}
	return d, ok
}
