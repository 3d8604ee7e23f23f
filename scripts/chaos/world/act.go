package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/proxy"
)

// act does one action, and returns when it has ended.
func (w *World) act(ctx context.Context, a plan.Action) error {
	began := time.Now()
	w.options.Say("%s", a)
	did := func(kind, of string) { w.did(kind, of, a.String(), began, time.Now()) }
	switch a.Do {
	case plan.Link:
		return w.disturb(ctx, a)
	case plan.Kill:
		r := w.relays[a.Relay]
		r.mu.Lock()
		defer r.mu.Unlock()
		began = time.Now()
		r.kill()
		did(ledger.Killed, "")
		pause(ctx, a.For)
		return r.start()
	case plan.PowerCut:
		return w.powerCut(ctx, a, true)
	case plan.Freeze:
		r := w.relays[a.Relay]
		r.mu.Lock()
		defer r.mu.Unlock()
		began = time.Now()
		r.process.signal(syscall.SIGSTOP)
		pause(ctx, a.For)
		r.process.signal(syscall.SIGCONT)
		did(ledger.Killed, "")
		return nil
	case plan.Terminate:
		r := w.relays[a.Relay]
		r.mu.Lock()
		defer r.mu.Unlock()
		r.terminate()
		pause(ctx, a.For)
		return r.start()
	case plan.Rolling:
		for _, r := range w.relays {
			r.mu.Lock()
			r.terminate()
			err := r.start()
			r.mu.Unlock()
			if err != nil {
				return err
			}
		}
		return nil
	case plan.Storm:
		return w.storm(ctx, a)
	case plan.Reload:
		return w.reload(ctx, a)
	case plan.TargetDown, plan.TargetStop:
		defer func() { did(ledger.Target, a.Of) }()
		return interrupt(ctx, a, w.targets[a.Of].(server)) // the plan knows which are
	case plan.StoreDown, plan.StoreStop, plan.ReadOnly, plan.DiskFull, plan.DiskFails:
		defer func() { did(ledger.Store, "") }()
		return w.disturbStore(ctx, a)
	case plan.Cloud:
		defer func() { did(ledger.API, "") }()
		for _, f := range cloudFaults {
			if err := w.emulator.addFault(ctx, f); err != nil {
				return err
			}
		}
		pause(ctx, a.For)
		return w.emulator.clearFaults(context.WithoutCancel(ctx))
	case plan.Consumer:
		other := &consumer{world: w, random: rand.New(rand.NewPCG(w.plan.Seed, uint64(a.At)))}
		if a.How == "confirms half" {
			other.share = 0.5
		}
		ctx, cancel := context.WithTimeout(ctx, a.For)
		defer cancel()
		other.run(ctx)
		return nil
	case plan.Push:
		if err := w.emulator.mode(ctx, "PUSH", w.posts.URL); err != nil {
			return err
		}
		pause(ctx, a.For)
		return w.emulator.mode(context.WithoutCancel(ctx), "PULL", "")
	case plan.Replay, plan.Drain:
		w.reloading.Lock() // it reads the configuration, which no reload may spoil meanwhile
		defer w.reloading.Unlock()
		if a.Do == plan.Replay {
			return w.replay(ctx)
		}
		return w.drainBeside(ctx, a)
	case plan.Credentials:
		defer func() { did(ledger.API, "") }()
		return w.changeKey(ctx, a)
	}
	return fmt.Errorf("nobody knows how to do it")
}

// deedOn is what a disturbance of the link to an end can do.
func deedOn(end string) (kind, of string) {
	switch end {
	case "api":
		return ledger.API, ""
	case "store":
		return ledger.Store, ""
	}
	return ledger.Target, end
}

// noteUnanswered enters where a relay gave up before it had an answer. A target or a store on a busy machine may be slow,
// and what it has accepted by then comes again.
func (w *World) noteUnanswered() {
	for _, r := range w.relays {
		for end, link := range r.links {
			if end == "api" { // a relay that ends leaves its long poll
				continue
			}
			kind, of := deedOn(end)
			log := link.Log()
			for _, record := range log[r.noted[end]:] {
				if record.Kind == proxy.Unanswered {
					w.did(kind, of, fmt.Sprint(r, " gave up before ", end, " answered"), record.From, record.Until)
				}
			}
			r.noted[end] = len(log)
		}
	}
}

// powerCut kills all relays at once, judges, and starts them again if it is to.
func (w *World) powerCut(ctx context.Context, a plan.Action, again bool) error {
	w.storing.Lock() // what is done to the store may take longer than planned
	defer w.storing.Unlock()
	return w.cut(ctx, a, again)
}

// cut is powerCut. The caller holds storing.
func (w *World) cut(ctx context.Context, a plan.Action, again bool) error {
	for _, r := range w.relays {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	began := time.Now()
	for _, r := range w.relays {
		r.expected.Store(true)
		r.process.signal(syscall.SIGKILL)
	}
	for _, r := range w.relays {
		<-r.process.ended
	}
	w.did(ledger.Killed, "", a.String(), began, time.Now())
	if err := w.loseDisk(ctx); err != nil {
		return err
	}
	if err := w.check(ctx); err != nil {
		return err
	}
	if !again {
		return nil
	}
	pause(ctx, time.Until(began.Add(a.For)))
	for _, r := range w.relays {
		if err := r.start(); err != nil {
			return err
		}
	}
	return nil
}

// storm sends SIGTERM again and again. A second signal more than a second after the first ends a relay at once.
func (w *World) storm(ctx context.Context, a plan.Action) error {
	for _, r := range w.relays {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.expected.Store(true)
	}
	began := time.Now()
	for range 8 {
		for _, r := range w.relays {
			r.process.signal(syscall.SIGTERM)
		}
		pause(ctx, 200*time.Millisecond)
	}
	for _, r := range w.relays {
		if _, err := r.process.wait(stopLimit); err != nil {
			w.fail("exit", "%s after many SIGTERM: %v", r, err)
			r.process.kill()
		}
	}
	w.did(ledger.Killed, "", a.String(), began, time.Now())
	if err := w.check(ctx); err != nil {
		return err
	}
	for _, r := range w.relays {
		if err := r.start(); err != nil {
			return err
		}
	}
	return nil
}

// reload gives every relay another configuration.
func (w *World) reload(ctx context.Context, a plan.Action) error {
	w.reloading.Lock() // one is done everywhere before the next one begins
	defer w.reloading.Unlock()
	if a.How == "remove" {
		w.configured(false)
	}
	for _, r := range w.relays {
		r.mu.Lock()
		err := w.reloadOne(r, a.How)
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if a.How == "add" {
		w.configured(true)
	}
	return ctx.Err()
}

func (w *World) reloadOne(r *relay, how string) error {
	r.wait() // else it might start with a configuration that is refused
	switch how {
	case "refused":
		if err := r.configure(map[string]any{"sinks": []map[string]any{{"type": "webhook", "name": "site", "url": "no address"}}}); err != nil {
			return err
		}
		r.reload(&r.refused)
		return r.configure(nil)
	case "add":
		r.extra = true
	case "remove":
		r.extra = false
	case "change":
		r.changed++
	}
	if err := r.configure(nil); err != nil {
		return err
	}
	r.reload(&r.reloaded)
	return nil
}

// configured notes since when the extra sink surely is in all configurations, or that it may not be any more.
func (w *World) configured(in bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.extra)
	open := n > 0 && w.extra[n-1].To.IsZero()
	switch {
	case in && !open:
		w.extra = append(w.extra, ledger.Period{From: time.Now()})
	case !in && open:
		w.extra[n-1].To = time.Now()
	default:
		return
	}
	w.ledger.Configure("extra", w.extra...)
}

// replay is an operator who has everything sent again that waits.
func (w *World) replay(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.options.Program, "parcels", "replay", "--state", "waiting", "--yes", "-c", w.relays[0].config)
	cmd.Env = w.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		w.options.Say("replay: %v: %.200s", err, out) // the relay may be down, and the store away
	}
	return nil
}

// calm ends everything that disturbs, and brings all relays to the same configuration.
func (w *World) calm(ctx context.Context) error {
	if err := w.emulator.clearFaults(ctx); err != nil {
		return err
	}
	for _, r := range w.relays {
		for _, link := range r.links {
			if err := link.Clear(); err != nil {
				return err
			}
		}
	}
	return w.reload(ctx, plan.Action{Do: plan.Reload, How: "add"})
}

// drainBeside is a drain while relays run. It is stopped by --for, or finds the queue empty for a while.
func (w *World) drainBeside(ctx context.Context, a plan.Action) error {
	r := w.relays[0]
	log := w.path("drain-beside.log")
	// Its address is the relay's, which could not start again as long as the drain had it.
	p, err := start(log, append(w.environ(), "VODRELAY_ADMIN_LISTEN="), nil, w.options.Program, "drain", "-c", r.config, "--for", a.For.String(), "-q")
	if err != nil {
		return err
	}
	code, err := p.wait(a.For + stopLimit)
	switch {
	case err != nil:
		p.kill()
		w.fail("drain", "vodrelay drain --for %s beside the relays: %v", a.For, err)
	case w.plan.Store == plan.SQLite && code == 1, w.plan.Store != plan.SQLite && (code == 3 || code == 4 || code == 0):
		// another vodrelay has the file; or it did what it could
	default:
		w.fail("drain", "vodrelay drain beside the relays ended with %d: see %s", code, log)
	}
	return ctx.Err()
}
