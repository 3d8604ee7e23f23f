// Package knative is the sink that sends each event as a CloudEvent to the address that Knative puts into a container's
// environment, so that vodrelay works as a ContainerSource or under a SinkBinding without any configuration. It is the
// webhook sink, with the environment as its configuration.
//
// Knative's contract wants another attempt after 404, a sink that is not ready, and 409, one that works on the event; the
// webhook sink makes one after both. Source: https://github.com/knative/specs/blob/main/specs/eventing/data-plane.md.
package knative

import (
	"os"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/sink/webhook"
)

// Sink is the webhook sink.
type Sink struct{ *webhook.Sink }

// New makes the sink. It reads the files and the environment but does not connect.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	r, err := cfg.resolve(os.Getenv)
	if err != nil {
		return nil, err
	}
	options := []webhook.Option{webhook.WithExtensions(r.extensions...)}
	if r.roots != nil {
		options = append(options, webhook.WithRoots(r.roots))
	}
	if r.token != nil {
		options = append(options, webhook.WithBearer(r.token.Get))
	}
	sink, err := webhook.New(r.webhook, log, options...)
	if err != nil {
		return nil, err
	}
	return &Sink{sink}, nil
}
