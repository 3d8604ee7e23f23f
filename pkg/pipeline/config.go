package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// ProcessorConfig is one step on every event: exactly one of its fields is set.
//
// The keys of Project and Set are names in the event, so their letter case matters: whoever decodes a
// configuration must keep it. A map has no order; the fields are written in the order of their keys.
type ProcessorConfig struct {
	Filter  string            `mapstructure:"filter" doc:"Expression: events for which it is not true are dropped, such as type == \"NewFileUpload\"."`
	Project map[string]string `mapstructure:"project" doc:"Replaces the event's content: each key, such as FileId, with the expression of its value, such as payload.FileId. Letter case matters; a value of null leaves the key out."`
	Set     map[string]string `mapstructure:"set" doc:"Changes the event's content: each key, such as FileUploadEvent.MediaBasicInfo.Name, with the expression of its value. Letter case matters; a value of null removes the key."`
}

// Validate compiles the expressions, and reports every one that does not compile.
func (c ProcessorConfig) Validate() error {
	_, err := c.Processor()
	return err
}

// Processor makes the processor. It fails as Validate does.
func (c ProcessorConfig) Processor() (Processor, error) {
	kinds := 0
	for _, given := range []bool{c.Filter != "", len(c.Project) > 0, len(c.Set) > 0} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, fmt.Errorf("%d of filter, project and set are given: write exactly one in each processor", kinds)
	}
	switch {
	case len(c.Project) > 0:
		p, err := Project(sorted(c.Project)...)
		return p, prefixed("project.", err)
	case len(c.Set) > 0:
		p, err := Set(sorted(c.Set)...)
		return p, prefixed("set.", err)
	}
	cond, err := CompileCondition(c.Filter)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return Filter(cond), nil
}

func sorted(expressions map[string]string) []Field {
	fields := make([]Field, 0, len(expressions))
	for _, key := range slices.Sorted(maps.Keys(expressions)) {
		fields = append(fields, Field{key, expressions[key]})
	}
	return fields
}

// RouteConfig is what every sink has, whatever its kind.
type RouteConfig struct {
	Name        string        `mapstructure:"name" doc:"Name of the sink in logs, metrics and errors: 1 to 63 letters, digits, dots, dashes and underscores. Each sink has its own."`
	When        string        `mapstructure:"when" doc:"Expression: only events for which it is true are sent, such as type == \"NewFileUpload\". Empty: all."`
	Timeout     time.Duration `mapstructure:"timeout" default:"10s" doc:"Longest time for one attempt to send, such as 10s. More than 0; retries need several of them within the 30s that VOD waits."`
	Concurrency int           `mapstructure:"concurrency" default:"64" doc:"Most events that are being sent at a time, from 1."`
	// Retry stays the last one: the reference of the configuration counts on it.
	Breaker BreakerConfig  `mapstructure:"breaker" doc:"When the target counts as down."`
	Parcels retry.Schedule `mapstructure:"parcels" doc:"How an event that is stored is tried again."`
	Retry   retry.Policy   `mapstructure:"retry" doc:"How an attempt that failed is repeated at once, as long as the event's lease lasts. With a store, and max_attempts 0, at most 3 attempts within 5s are made before the event is stored."`
}

// DefaultRouteConfig suits a target that answers within seconds.
func DefaultRouteConfig() RouteConfig {
	return RouteConfig{
		Timeout: 10 * time.Second, Concurrency: 64,
		Breaker: DefaultBreakerConfig(), Parcels: retry.DefaultSchedule(), Retry: retry.DefaultPolicy(),
	}
}

// maxSinkName is the longest name of a sink, in bytes. It is no part of the expression, which would take
// long to compile at every start.
const maxSinkName = 63

var sinkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Validate reports every value that makes no sense.
func (c RouteConfig) Validate() error {
	var errs []error
	if len(c.Name) > maxSinkName || !sinkName.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("name: %q: write 1 to 63 letters, digits, dots, dashes and underscores, the first one a letter or a digit", c.Name))
	}
	if _, err := c.condition(); err != nil {
		errs = append(errs, err)
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: %s: must be more than 0, such as 10s", c.Timeout))
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("concurrency: %d: must be 1 or more", c.Concurrency))
	}
	errs = append(errs, prefixed("breaker.", c.Breaker.Validate()), prefixed("parcels.", c.Parcels.Validate()), prefixed("retry.", c.Retry.Validate()))
	return errors.Join(errs...)
}

// Route makes the route to s. It fails for a when that does not compile; Validate reports the rest.
func (c RouteConfig) Route(s Sink) (Route, error) {
	cond, err := c.condition()
	if err != nil {
		return Route{}, err
	}
	return Route{Name: c.Name, When: cond, Sink: s, Timeout: c.Timeout, Concurrency: c.Concurrency, Retry: c.Retry, Breaker: c.Breaker, Parcels: c.Parcels}, nil
}

func (c RouteConfig) condition() (*Condition, error) {
	if c.When == "" {
		return nil, nil
	}
	cond, err := CompileCondition(c.When)
	if err != nil {
		return nil, fmt.Errorf("when: %w", err)
	}
	return cond, nil
}

// prefixed puts the key of the enclosing section before each of the joined errors.
func prefixed(prefix string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s%w", prefix, err)
	}
	errs := make([]error, 0, len(joined.Unwrap()))
	for _, e := range joined.Unwrap() {
		errs = append(errs, fmt.Errorf("%s%w", prefix, e))
	}
	return errors.Join(errs...)
}
