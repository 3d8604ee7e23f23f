package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/sink/exec"
	"github.com/vodrelay/vodrelay/pkg/sink/file"
	"github.com/vodrelay/vodrelay/pkg/sink/kafka"
	"github.com/vodrelay/vodrelay/pkg/sink/knative"
	"github.com/vodrelay/vodrelay/pkg/sink/nats"
	"github.com/vodrelay/vodrelay/pkg/sink/postgres"
	"github.com/vodrelay/vodrelay/pkg/sink/rabbitmq"
	"github.com/vodrelay/vodrelay/pkg/sink/redis"
	"github.com/vodrelay/vodrelay/pkg/sink/stdout"
	"github.com/vodrelay/vodrelay/pkg/sink/webhook"
)

// Sink is one target. In the configuration its keys, those of every sink and those of its type, stand side
// by side.
type Sink struct {
	Type                 string `mapstructure:"type" enum:"stdout,file,webhook,exec,kafka,nats,redis,rabbitmq,postgres,knative" doc:"Kind of target; it decides which other keys there are."`
	pipeline.RouteConfig `mapstructure:",squash"`

	// The type's own keys: the one field that Type names is set.
	Stdout   *stdout.Config   `mapstructure:"-"`
	File     *file.Config     `mapstructure:"-"`
	Webhook  *webhook.Config  `mapstructure:"-"`
	Exec     *exec.Config     `mapstructure:"-"`
	Kafka    *kafka.Config    `mapstructure:"-"`
	NATS     *nats.Config     `mapstructure:"-"`
	Redis    *redis.Config    `mapstructure:"-"`
	RabbitMQ *rabbitmq.Config `mapstructure:"-"`
	Postgres *postgres.Config `mapstructure:"-"`
	Knative  *knative.Config  `mapstructure:"-"`
}

// NewSink is a sink of the type with its defaults and no name. It reports whether the type exists.
func NewSink(kind string) (Sink, bool) {
	s := Sink{Type: kind, RouteConfig: pipeline.DefaultRouteConfig()}
	switch kind {
	case "stdout":
		s.Stdout = new(stdout.DefaultConfig())
	case "file":
		s.File = new(file.DefaultConfig())
	case "webhook":
		s.Webhook = new(webhook.DefaultConfig())
	case "exec":
		s.Exec = new(exec.DefaultConfig())
	case "kafka":
		s.Kafka = new(kafka.DefaultConfig())
	case "nats":
		s.NATS = new(nats.DefaultConfig())
	case "redis":
		s.Redis = new(redis.DefaultConfig())
	case "rabbitmq":
		s.RabbitMQ = new(rabbitmq.DefaultConfig())
	case "postgres":
		s.Postgres = new(postgres.DefaultConfig())
	case "knative":
		s.Knative = new(knative.DefaultConfig())
	default:
		return s, false
	}
	return s, true
}

// SinkTypes are the values of Sink.Type.
func SinkTypes() []string {
	return []string{"stdout", "file", "webhook", "exec", "kafka", "nats", "redis", "rabbitmq", "postgres", "knative"}
}

// own is the type's own part; nil if the type does not exist.
func (s *Sink) own() interface{ Validate() error } {
	switch {
	case s.Stdout != nil:
		return s.Stdout
	case s.File != nil:
		return s.File
	case s.Webhook != nil:
		return s.Webhook
	case s.Exec != nil:
		return s.Exec
	case s.Kafka != nil:
		return s.Kafka
	case s.NATS != nil:
		return s.NATS
	case s.Redis != nil:
		return s.Redis
	case s.RabbitMQ != nil:
		return s.RabbitMQ
	case s.Postgres != nil:
		return s.Postgres
	case s.Knative != nil:
		return s.Knative
	}
	return nil
}

// SameTarget reports whether both are of one type with the same keys of that type: the same sink, apart from
// how events get there.
func (s Sink) SameTarget(other Sink) bool {
	return s.Type == other.Type && reflect.DeepEqual(s.own(), other.own())
}

// Validate reports every value that makes no sense.
func (s Sink) Validate() error {
	own := s.own()
	if own == nil {
		return fmt.Errorf("type: %q: must be one of %s", s.Type, strings.Join(SinkTypes(), ", "))
	}
	return errors.Join(s.RouteConfig.Validate(), own.Validate())
}

// parts are the structs whose keys make up the section in v.
func parts(v reflect.Value) []reflect.Value {
	s, ok := v.Addr().Interface().(*Sink)
	if !ok {
		return []reflect.Value{v}
	}
	all := []reflect.Value{v}
	if own := s.own(); own != nil {
		all = append(all, reflect.ValueOf(own).Elem())
	}
	return all
}

// defaultSinks is where events go when no sink is configured: to the sink that Knative has bound the
// container to, or else to the standard output.
func defaultSinks() []Sink {
	kind := "stdout"
	if knative.Bound() {
		kind = "knative"
	}
	s, _ := NewSink(kind)
	s.Name = kind
	return []Sink{s}
}

// sink decodes one sink: first its type, which decides what the other keys are.
func (d *decoder) sink(n *yaml.Node, path string, s *Sink) {
	kind, ok := d.sinkType(n, path)
	if !ok {
		return
	}
	*s, _ = NewSink(kind)
	d.object(n, path, kind, parts(reflect.ValueOf(s).Elem())...)
	if s.Name == "" && !d.report.failed[path+".name"] {
		s.Name = kind
	}
	d.report.names[path] = s.Name
}

func (d *decoder) sinkType(n *yaml.Node, path string) (kind string, ok bool) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must hold keys with values, such as {type: stdout}")
		return "", false
	}
	quiet := decoder{report: newReport(), from: d.from} // object reports what is wrong with the entries
	var found *yaml.Node
	for _, e := range quiet.entries(n, path, nil) {
		switch v := resolve(e.value); {
		case e.key == "name" && v.Kind == yaml.ScalarNode:
			d.report.names[path] = shorten(v.Value)
		case e.key == "type" && v.ShortTag() != "!!null":
			found = v
		}
	}
	remedy := "must be one of " + strings.Join(SinkTypes(), ", ")
	switch {
	case found == nil:
		d.fail(n, path+".type", "is missing: write one of "+strings.Join(SinkTypes(), ", "))
	case found.Kind != yaml.ScalarNode:
		d.fail(found, path+".type", remedy)
	case !slices.Contains(SinkTypes(), found.Value):
		if near := Nearest(found.Value, SinkTypes()); near != "" {
			remedy = "unknown type: did you mean " + near + "?"
		}
		d.fail(found, path+".type", quote(found.Value)+": "+remedy)
	default:
		return found.Value, true
	}
	return "", false
}

func validateSinks(r *report, sinks []Sink) {
	first := map[string]int{}
	for i, s := range sinks {
		path := item("sinks", i)
		if own := s.own(); own == nil {
			r.check(path, s.Validate(), s)
		} else {
			r.check(path, s.RouteConfig.Validate(), s)
			r.check(path, own.Validate(), reflect.ValueOf(own).Elem().Interface())
		}
		if s.Name == "" {
			continue
		}
		r.names[path] = s.Name
		if other, taken := first[s.Name]; taken {
			r.add(path+".name", fmt.Sprintf("%q: sinks[%d] has this name too: give each sink a name of its own", s.Name, other))
			continue
		}
		first[s.Name] = i
	}
}
