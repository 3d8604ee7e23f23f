// Package config is the whole configuration: it gathers the components' Config types, fills them from
// flags, environment, file and defaults (in this order of precedence), and reports everything that is
// wrong with them at once, with the place where each value came from.
//
// The components' struct tags are the only description of the keys: decoding, the environment's variables,
// flags, JSON Schema and what `config show` prints all follow from them. Viper lays the sources over each
// other; decoding is done here, because only the YAML nodes still know the lines, the letter case of keys
// and how a value was written.
package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/callback"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/store"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// Config is everything that can be configured. Printed or marshalled it shows no secret.
type Config struct {
	Sources    []string                   `mapstructure:"sources" doc:"Where events come from: pull (VOD's queue, the reliable callback), callback (VOD posts them, the normal callback), or both. Default: pull."`
	Vod        vod.Config                 `mapstructure:"vod" doc:"The VOD API: where it is, which applications, with which key."`
	Callback   callback.Config            `mapstructure:"callback" doc:"The receiver of VOD's normal callback, with callback in sources."`
	Relay      relay.Config               `mapstructure:"relay" doc:"The engine: how much is in hand, how long a stop may take."`
	Processors []pipeline.ProcessorConfig `mapstructure:"processors" doc:"Steps on every event, in order: each one is either filter, project or set."`
	Sinks      []Sink                     `mapstructure:"sinks" doc:"Targets; every event goes to each one whose when matches. Empty: one of type stdout."`
	Store      store.Config               `mapstructure:"store" doc:"Where events are kept that a sink has not accepted: the retry set and the dead letters."`
	Admin      admin.Config               `mapstructure:"admin" doc:"The admin server: metrics, health, status, parcels, and a page for people."`
	Log        Log                        `mapstructure:"log" doc:"What is logged, and how. Logs go to standard error."`

	// NoSinks: no sink is configured, and Sinks is what stands in for it.
	NoSinks bool `mapstructure:"-"`
	// File is the configuration file that was read; "" for none.
	File string `mapstructure:"-"`
}

// Log is what is logged, and how.
type Log struct {
	Level  string `mapstructure:"level" enum:"debug,info,warn,error" default:"info" doc:"Least level that is logged: debug, info, warn or error."`
	Format string `mapstructure:"format" enum:"auto,json,console" default:"auto" doc:"Form of the lines: json, console, or auto, which is console on a terminal and json elsewhere."`
}

// DefaultLog is for people on a terminal and for collectors elsewhere.
func DefaultLog() Log { return Log{Level: "info", Format: "auto"} }

// Validate reports every value that makes no sense.
func (l Log) Validate() error {
	var errs []error
	oneOf := func(key, value string, known ...string) {
		if !slices.Contains(known, value) {
			errs = append(errs, fmt.Errorf("%s: %q: must be one of %s", key, value, strings.Join(known, ", ")))
		}
	}
	oneOf("level", l.Level, "debug", "info", "warn", "error")
	oneOf("format", l.Format, "auto", "json", "console")
	return errors.Join(errs...)
}

// Default is the configuration when nothing is configured.
func Default() *Config {
	return &Config{
		Sources:  []string{SourcePull},
		Vod:      vod.DefaultConfig(),
		Callback: callback.DefaultConfig(),
		Relay:    relay.DefaultConfig(),
		Sinks:    defaultSinks(),
		NoSinks:  true,
		Store:    store.DefaultConfig(),
		Admin:    admin.DefaultConfig(),
		Log:      DefaultLog(),
	}
}

// The values of Config.Sources.
const (
	SourcePull     = "pull"
	SourceCallback = "callback"
)

// Pulls reports whether events come from VOD's queue.
func (c *Config) Pulls() bool { return slices.Contains(c.Sources, SourcePull) }

// Receives reports whether events come from VOD's normal callback.
func (c *Config) Receives() bool { return slices.Contains(c.Sources, SourceCallback) }

// Validate reports every value that makes no sense, in all components, as Errors. Load has done it.
func (c *Config) Validate() error {
	r := newReport()
	c.validate(r)
	return r.err()
}

func (c *Config) validate(r *report) {
	if len(c.Sources) == 0 {
		r.add("sources", "[]: name at least one of pull, callback")
	}
	for i, source := range c.Sources {
		switch {
		case source != SourcePull && source != SourceCallback:
			r.add(item("sources", i), fmt.Sprintf("%q: must be pull or callback", source))
		case slices.Contains(c.Sources[:i], source):
			r.add(item("sources", i), fmt.Sprintf("%q: is named twice", source))
		}
	}
	r.check("vod", c.Vod.Validate(), c.Vod)
	if c.Receives() {
		r.check("callback", c.Callback.Validate(), c.Callback)
		if n := len(c.Vod.SubAppIDs); n > 1 && c.Callback.SubAppID == 0 {
			r.add("callback.sub_app_id", fmt.Sprintf("0: must name one of the %d applications in vod.sub_app_ids, to which the notifications belong", n))
		}
	}
	queues := 0
	if c.Pulls() {
		queues = len(c.Vod.SubAppIDs)
	}
	r.check("relay", c.Relay.ValidateFor(queues), c.Relay)
	for i, p := range c.Processors {
		r.check(item("processors", i), p.Validate(), p)
	}
	validateSinks(r, c.Sinks)
	r.check("store", c.Store.Validate(), c.Store)
	if c.Relay.Confirm == relay.ConfirmStored && c.Store.Driver == store.DriverNone {
		r.add("relay.confirm", fmt.Sprintf("%q: needs a store: set store.driver to %s or %s", c.Relay.Confirm, store.DriverSQLite, store.DriverPostgres))
	}
	r.check("admin", c.Admin.Validate(), c.Admin)
	r.check("log", c.Log.Validate(), c.Log)
}
