package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Reload applies what cfg, which must be valid, changes and can be changed while the relay runs: processors,
// sinks, the limits of the relay and the level of the log. It returns what else has changed, by key, which
// needs a restart. Sinks whose configuration is the same go on as they are; the others are made anew, and
// the old ones closed when the events on their way to them have ended. After an error nothing has changed.
func (a *App) Reload(cfg *config.Config) (needRestart []string, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	have, err := a.changeable()
	if err != nil {
		return nil, err
	}
	level, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	processors, err := buildProcessors(cfg)
	if err != nil {
		return nil, err
	}
	sinks, fresh, err := a.buildSinks(cfg, have)
	if err == nil {
		err = a.swap(cfg, level, processors, sinks)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), freshTime)
		defer cancel()
		return nil, errors.Join(err, closeSinks(ctx, fresh))
	}
	for _, tell := range []chan struct{}{a.reloaded, a.sinksChanged} {
		select {
		case tell <- struct{}{}:
		default: // whoever is to look has not looked at the last one yet
		}
	}
	a.log.Info("configuration reloaded", zap.Int("sinks", len(sinks)), zap.Int("sinks_made_anew", len(fresh)), zap.Int("processors", len(processors)))
	return restartFor(a.cfg, cfg), nil
}

// changeable returns the sinks in use, or an error when it is too late for other ones.
func (a *App) changeable() ([]builtSink, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sinks, a.ending()
}

// ending is an error when a stop has begun. The caller holds mu.
func (a *App) ending() error {
	if a.closed || a.stopping.Load() {
		return errors.New("vodrelay is stopping")
	}
	return nil
}

// swap puts the new parts into their places, all of them or none: what can be refused comes first. A sink's
// lane begins after its route, and ends before it.
func (a *App) swap(cfg *config.Config, level zapcore.Level, processors []pipeline.Processor, sinks []builtSink) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ending(); err != nil { // it may have begun while sinks were built
		return err
	}
	if cfg.NoSinks && !a.unnamed { // a file that was cut off; what the daemon prints hardly anybody reads
		return retry.WithHint(errors.New("sinks: none is configured any more, so all events would be printed"),
			"name the sinks, if need be one of type stdout, and reload again")
	}
	apply, err := a.pipeline.Plan(processors, routes(sinks))
	if err != nil {
		return err
	}
	limits := cfg.Relay
	limits.RateLimit, limits.Confirm = cfg.Vod.RateLimit, a.cfg.Relay.Confirm
	if err := a.relay.Reconfigure(limits); err != nil { // the last one that can fail, and changes nothing then
		err = fmt.Errorf("relay.%w", err)
		if !reflect.DeepEqual(cfg.Vod.SubAppIDs, a.cfg.Vod.SubAppIDs) || cfg.Pulls() != a.cfg.Pulls() {
			err = retry.WithHint(err, "the applications change with a restart: restart vodrelay, or reload with limits that also suit those that run")
		}
		return err
	}
	apply()
	a.sinks, a.unnamed = sinks, cfg.NoSinks
	a.level.SetLevel(level)
	if a.observer != nil {
		a.observer.UseSinks(sinkNames(cfg)...)
	}
	if a.store != nil {
		a.store.sinks.Store(int64(len(cfg.Sinks)))
		a.scheduler.UseLanes(lanes(cfg.Sinks))
	}
	return nil
}

// restartFor are the keys that differ between two configurations and that only a restart changes.
func restartFor(running, wanted *config.Config) []string {
	var keys []string
	differ := func(key string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			keys = append(keys, key)
		}
	}
	differ("sources", running.Sources, wanted.Sources)
	differ("callback", running.Callback, wanted.Callback)
	a, b := running.Vod, wanted.Vod
	a.RateLimit, b.RateLimit = 0, 0
	differ("vod", a, b)
	differ("relay.confirm", confirmOf(running), confirmOf(wanted))
	differ("store", running.Store, wanted.Store)
	differ("admin", running.Admin, wanted.Admin)
	differ("log.format", running.Log.Format, wanted.Log.Format)
	return keys
}

func confirmOf(cfg *config.Config) string {
	if cfg.Relay.Confirm == "" {
		return relay.ConfirmHandled
	}
	return cfg.Relay.Confirm
}

// RestartHint says to a person what to do about keys that Reload could not apply.
func RestartHint(keys []string) string {
	return "restart vodrelay to apply " + strings.Join(keys, ", ") + "; everything else is in effect"
}

func sinkNames(cfg *config.Config) []string {
	names := make([]string, len(cfg.Sinks))
	for i, s := range cfg.Sinks {
		names[i] = s.Name
	}
	return names
}

func buildProcessors(cfg *config.Config) ([]pipeline.Processor, error) {
	var all []pipeline.Processor
	for i, pc := range cfg.Processors {
		p, err := pc.Processor()
		if err != nil {
			return nil, fmt.Errorf("processors[%d]: %w", i, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// buildSinks makes the sinks of cfg, or takes those in have whose configuration is the same. fresh are those
// that it made, also when it fails.
func (a *App) buildSinks(cfg *config.Config, have []builtSink) (all, fresh []builtSink, err error) {
	for _, sc := range cfg.Sinks {
		s := reuse(have, sc)
		if s.sink == nil {
			if s.sink, err = a.build(sc, a.log.With(zap.String("sink", sc.Name)), a.out); err != nil {
				return nil, fresh, fmt.Errorf("sink %s: %w", sc.Name, err)
			}
			fresh = append(fresh, s)
		}
		if s.route.Sink == nil {
			if s.route, err = sc.Route(s.sink); err != nil {
				return nil, fresh, fmt.Errorf("sink %s: %w", sc.Name, err)
			}
		}
		all = append(all, s)
	}
	return all, fresh, nil
}

// reuse is what of the sinks in have can go on under sc: the sink if its target is the same, and the route if
// all is.
func reuse(have []builtSink, sc config.Sink) builtSink {
	s := builtSink{cfg: sc}
	for _, old := range have {
		if old.cfg.Name == sc.Name && old.cfg.SameTarget(sc) {
			s.sink = old.sink
			if reflect.DeepEqual(old.cfg, sc) {
				s.route = old.route
			}
		}
	}
	return s
}

func routes(sinks []builtSink) []pipeline.Route {
	all := make([]pipeline.Route, len(sinks))
	for i, s := range sinks {
		all[i] = s.route
	}
	return all
}

// freshTime bounds the closing of sinks that were made and not used.
const freshTime = 2 * time.Second

// closeSinks closes sinks whether they have a route or not.
func closeSinks(ctx context.Context, sinks []builtSink) error {
	all := make([]pipeline.Route, len(sinks))
	for i, s := range sinks {
		all[i] = pipeline.Route{Name: s.cfg.Name, Sink: s.sink}
	}
	return pipeline.CloseSinks(ctx, all...)
}
