package world

import (
	"context"
	"fmt"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/proxy"
)

// faults are the plan's disturbances of a link.
var faults = map[string]proxy.Fault{
	"slow":             {Request: proxy.Direction{Latency: 100 * time.Millisecond, Jitter: 400 * time.Millisecond}, Reply: proxy.Direction{Latency: 100 * time.Millisecond, Jitter: 400 * time.Millisecond}},
	"loss":             {Request: proxy.Direction{Loss: 0.1}, Reply: proxy.Direction{Loss: 0.1}},
	"reset":            {Reset: 0.1},
	"lost replies":     {LostReply: 0.3},
	"half-open":        {HalfOpen: true},
	"hang":             {Hang: true},
	"refuse":           {Refuse: true},
	"requests blocked": {Request: proxy.Direction{Block: true}},
	"replies blocked":  {Reply: proxy.Direction{Block: true}},
	"narrow":           {Request: proxy.Direction{Bandwidth: 4 << 10}, Reply: proxy.Direction{Bandwidth: 4 << 10}},
	"cut":              {Refuse: true, HalfOpen: true},
}

// disturb spoils a link for a while.
func (w *World) disturb(ctx context.Context, a plan.Action) error {
	link, f := w.relays[a.Relay].links[a.Of], faults[a.How]
	if link == nil {
		return fmt.Errorf("there is no such link")
	}
	kind, of := deedOn(a.Of)
	began := time.Now()
	if err := link.Set(f); err != nil {
		return err
	}
	pause(ctx, a.For)
	err := link.Clear()
	w.did(kind, of, a.String(), began, time.Now())
	return err
}

// interrupt kills or stops a server for a while.
func interrupt(ctx context.Context, a plan.Action, s server) error {
	if a.Do == plan.TargetStop || a.Do == plan.StoreStop {
		s.Freeze()
		pause(ctx, a.For)
		s.Thaw()
		return nil
	}
	s.Kill()
	pause(ctx, a.For)
	return s.Start(context.WithoutCancel(ctx))
}

// loseDisk takes from the disk what was not synced, as a power cut does, and repairs it.
func (w *World) loseDisk(ctx context.Context) error {
	if w.volume == nil {
		return nil
	}
	if !w.volume.Faulty() {
		if err := w.volume.Fail(); err != nil {
			return err
		}
	}
	return w.volume.Repair(context.WithoutCancel(ctx))
}

// disturbStore spoils the store's server or disk for a while.
func (w *World) disturbStore(ctx context.Context, a plan.Action) error {
	w.storing.Lock()
	defer w.storing.Unlock()
	after := context.WithoutCancel(ctx)
	if s, ok := w.store.(pgStore); ok {
		if a.Do != plan.ReadOnly {
			return interrupt(ctx, a, s)
		}
		if err := s.ReadOnly(ctx, true); err != nil {
			return err
		}
		pause(ctx, a.For)
		return s.ReadOnly(after, false)
	}
	began := time.Now()
	defer func() { // files are on the same disk
		for _, s := range w.plan.Sinks {
			if s.Type == "file" {
				w.did(ledger.Target, s.Name, a.String(), began, time.Now())
			}
		}
	}()
	if a.Do == plan.DiskFull {
		if err := w.volume.Fill(); err != nil {
			return err
		}
		pause(ctx, a.For)
		return w.volume.Free()
	}
	fault := w.volume.ReadOnly
	if a.Do == plan.DiskFails {
		fault = w.volume.Fail
	}
	if err := fault(); err != nil {
		return err
	}
	pause(ctx, a.For)
	return w.cut(after, plan.Action{At: a.At, Do: plan.PowerCut, How: "to repair the disk"}, true)
}

// changeKey has the API take another key. An expired one is refused before the relays can have the new one.
func (w *World) changeKey(ctx context.Context, a plan.Action) error {
	after := context.WithoutCancel(ctx)
	old, _ := w.key()
	w.mu.Lock()
	w.keyNumber++
	next := [2]string{fmt.Sprintf("chaos-id-%d", w.keyNumber), fmt.Sprintf("chaos-key-%d", w.keyNumber)}
	w.mu.Unlock()
	steps := []func() error{
		func() error { return w.emulator.addKey(after, next[0], next[1]) },
		func() error {
			w.mu.Lock()
			w.keys = next
			w.mu.Unlock()
			return w.writeKey()
		},
		func() error { return w.emulator.removeKey(after, old) },
	}
	if a.How == "expire" {
		steps[0], steps[1], steps[2] = steps[2], steps[0], steps[1]
	}
	for i, step := range steps {
		if i > 0 {
			pause(ctx, a.For/2)
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
