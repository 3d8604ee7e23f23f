// Package pipeline is what happens to one event between the queue and its targets: processors that pass
// it on, change it or drop it, and sinks that accept it durably, composed from small wrappers.
package pipeline

import (
	"context"
	"errors"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// ErrSkip is returned by a Processor that drops the event: it counts as settled, and no sink sees it.
var ErrSkip = errors.New("event dropped by a processor")

// Processor is a pure step on an event: it returns the event as it came, a changed one, or ErrSkip. Any
// other error leaves the event unsettled. It must be safe for concurrent use.
type Processor interface {
	Process(ctx context.Context, e event.Event) (event.Event, error)
}

// Sink is a target.
type Sink interface {
	// Send returns nil only when the target has durably accepted the event. It must honour ctx and be safe
	// for concurrent use; the same event may be sent again.
	//
	// An error is marked with retry.Permanent only if the event itself is to blame: it is too large or
	// malformed, the target's validation refuses it, or an expression chose for this one event a target that
	// cannot exist. Such an event becomes a dead letter. Everything else is trouble of the target, of the way
	// there or of an operator, such as a right, a path, a topic, a table, a password, a certificate: it has a
	// hint (retry.WithHint), and the same event is accepted within 30 s of the correction, by the same sink.
	// An error is marked with retry.After when the target named a time.
	Send(ctx context.Context, e event.Event) error
	// Close ends the sink after the last Send has returned. What it could not write out is an error.
	Close(ctx context.Context) error
}

// ProcessorFunc makes a function a Processor.
type ProcessorFunc func(ctx context.Context, e event.Event) (event.Event, error)

// Process calls f.
func (f ProcessorFunc) Process(ctx context.Context, e event.Event) (event.Event, error) {
	return f(ctx, e)
}

// SinkFunc makes a function a Sink that has nothing to close.
type SinkFunc func(ctx context.Context, e event.Event) error

// Send calls f.
func (f SinkFunc) Send(ctx context.Context, e event.Event) error { return f(ctx, e) }

// Close does nothing.
func (f SinkFunc) Close(context.Context) error { return nil }
