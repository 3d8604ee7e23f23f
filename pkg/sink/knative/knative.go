// Package knative is the sink that sends each event as a CloudEvent to the address that Knative puts into a container's
// environment, so that vodrelay works as a ContainerSource or under a SinkBinding without any configuration. It is the
// webhook sink, with the environment as its configuration and Knative's rules for answers.
package knative

import (
	"net/http"
	"os"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/sink/webhook"
)

// Sink is the webhook sink.
type Sink struct{ *webhook.Sink }

// transient are the answers after which Knative's contract wants another attempt: 404 is a sink that is not ready, 409
// one that works on the event. Source: https://github.com/knative/specs/blob/main/specs/eventing/data-plane.md. A token
// is renewed, so its refusal (401) ends by itself too.
var transient = []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict}

// New makes the sink. It reads the files and the environment but does not connect.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	r, err := cfg.resolve(os.Getenv)
	if err != nil {
		return nil, err
	}
	options := []webhook.Option{webhook.WithExtensions(r.extensions...), webhook.WithRetry(transient...)}
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
