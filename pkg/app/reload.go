package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
)

// Reload applies what cfg, which must be valid, changes and can be changed while the relay runs: processors,
// sinks, the limits of the relay and the level of the log. It returns what else has changed, by key, which
// needs a restart. Sinks whose configuration is the same go on as they are; the others are made anew, and
// the old ones closed when the events on their way to them have ended. After an error nothing has changed.
func (a *App) Reload(cfg *config.Config) (needRestart []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.stopping.Load() {
		return nil, errors.New("vodrelay is stopping")
	}
	processors, err := buildProcessors(cfg)
	if err != nil {
		return nil, err
	}
	sinks, err := a.buildSinks(cfg, a.sinks)
	if err != nil {
		return nil, err
	}
	fresh := slices.DeleteFunc(slices.Clone(sinks), func(s builtSink) bool {
		return slices.ContainsFunc(a.sinks, func(old builtSink) bool { return old.sink == s.sink })
	})
	if err := a.swap(cfg, processors, sinks); err != nil {
		return nil, errors.Join(err, closeSinks(context.Background(), fresh))
	}
	level, _ := zapcore.ParseLevel(cfg.Log.Level) // it is valid
	a.level.SetLevel(level)
	a.sinks = sinks
	select {
	case a.reloaded <- struct{}{}:
	default: // whoever is to look has not looked at the last one yet
	}
	needRestart = restartFor(a.cfg, cfg)
	a.log.Info("configuration reloaded", zap.Int("sinks", len(sinks)), zap.Int("sinks_made_anew", len(fresh)), zap.Int("processors", len(processors)))
	return needRestart, nil
}

// swap puts the new parts into their places, all of them or none. A sink's lane begins after its route, and
// ends before it.
func (a *App) swap(cfg *config.Config, processors []pipeline.Processor, sinks []builtSink) error {
	limits := cfg.Relay
	limits.RateLimit, limits.Confirm = cfg.Vod.RateLimit, a.cfg.Relay.Confirm
	if err := a.pipeline.Replace(processors, routes(sinks)); err != nil {
		return err
	}
	if err := a.relay.Reconfigure(limits); err != nil { // of two valid configurations this never happens
		return errors.Join(err, a.pipeline.Replace(a.processors, routes(a.sinks)))
	}
	a.processors = processors
	if a.observer != nil {
		a.observer.UseSinks(sinkNames(cfg)...)
	}
	if a.scheduler != nil {
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

// buildSinks makes the sinks of cfg, or takes those in have whose configuration is the same. After an error
// those that it made are closed.
func (a *App) buildSinks(cfg *config.Config, have []builtSink) (all []builtSink, err error) {
	var made []builtSink
	defer func() {
		if err != nil {
			err = errors.Join(err, closeSinks(context.Background(), made))
		}
	}()
	for _, sc := range cfg.Sinks {
		s := builtSink{cfg: sc}
		for _, old := range have {
			if old.cfg.Name == sc.Name && old.cfg.SameTarget(sc) {
				s.sink = old.sink
				if reflect.DeepEqual(old.cfg, sc) {
					s.route = old.route
				}
			}
		}
		if s.sink == nil {
			if s.sink, err = buildSink(sc, a.log.With(zap.String("sink", sc.Name)), a.out); err != nil {
				return nil, fmt.Errorf("sink %s: %w", sc.Name, err)
			}
			made = append(made, s)
		}
		if s.route == (pipeline.Route{}) {
			if s.route, err = sc.Route(s.sink); err != nil {
				return nil, fmt.Errorf("sink %s: %w", sc.Name, err)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

func routes(sinks []builtSink) []pipeline.Route {
	all := make([]pipeline.Route, len(sinks))
	for i, s := range sinks {
		all[i] = s.route
	}
	return all
}

func closeSinks(ctx context.Context, sinks []builtSink) error {
	var errs []error
	for _, s := range sinks {
		errs = append(errs, s.sink.Close(ctx))
	}
	return errors.Join(errs...)
}
