package app

import (
	"context"
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
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

// sink is a pipeline's sink that can also be checked without an event.
type sink interface {
	pipeline.Sink
	// Check returns the error that an event would meet, as far as that can be known without one. It is marked with
	// retry.Doubtful where an event may succeed all the same.
	Check(ctx context.Context) error
	// Untested is what Check cannot know, such as "whether the user may publish"; "": nothing.
	Untested() string
}

type builtSink struct {
	cfg   config.Sink
	sink  sink
	route pipeline.Route
}

// builder makes the sink that cfg describes; out is where one of the type stdout prints.
type builder func(cfg config.Sink, log *zap.Logger, out io.Writer) (sink, error)

func buildSink(cfg config.Sink, log *zap.Logger, out io.Writer) (sink, error) {
	switch {
	case cfg.Stdout != nil:
		return stdout.New(*cfg.Stdout, out, log)
	case cfg.File != nil:
		return file.New(*cfg.File, log)
	case cfg.Webhook != nil:
		return webhook.New(*cfg.Webhook, log)
	case cfg.Exec != nil:
		return exec.New(*cfg.Exec, log)
	case cfg.Kafka != nil:
		return kafka.New(*cfg.Kafka, log)
	case cfg.NATS != nil:
		return nats.New(*cfg.NATS, log)
	case cfg.Redis != nil:
		return redis.New(*cfg.Redis, log)
	case cfg.RabbitMQ != nil:
		return rabbitmq.New(*cfg.RabbitMQ, log)
	case cfg.Postgres != nil:
		return postgres.New(*cfg.Postgres, log)
	case cfg.Knative != nil:
		return knative.New(*cfg.Knative, log)
	}
	return nil, fmt.Errorf("type: %q: is not a type of sink", cfg.Type)
}
