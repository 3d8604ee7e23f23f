package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Filter passes on the events that cond matches and drops the others with ErrSkip.
func Filter(cond *Condition) Processor {
	return ProcessorFunc(func(ctx context.Context, e event.Event) (event.Event, error) {
		matched, err := cond.Match(ctx, e)
		if err == nil && !matched {
			err = ErrSkip
		}
		return e, err
	})
}

// Project replaces the event's content with the fields and nothing else, in their order; ID, Type and
// SubAppID stay. What reads the type from the content needs it as a field: EventType: type. The error
// names every field that does not compile.
func Project(fields ...Field) (Processor, error) {
	t, err := newTemplate(fields)
	if err != nil {
		return nil, err
	}
	return ProcessorFunc(func(ctx context.Context, e event.Event) (event.Event, error) {
		return changed(ctx, e, t, json.RawMessage("{}"))
	}), nil
}

// Set writes the fields into the event's content and keeps everything else byte for byte; ID, Type and
// SubAppID stay. A field whose value is null is removed. Every expression sees the event as it came. An
// event in which a key leads through something that is not an object is a permanent error. The error
// names every field that does not compile.
func Set(fields ...Field) (Processor, error) {
	t, err := newTemplate(fields)
	if err != nil {
		return nil, err
	}
	return ProcessorFunc(func(ctx context.Context, e event.Event) (event.Event, error) {
		return changed(ctx, e, t, e.Raw)
	}), nil
}

func changed(ctx context.Context, e event.Event, t *template, onto json.RawMessage) (event.Event, error) {
	raw, err := t.apply(ctx, e, onto)
	if err != nil {
		return e, err
	}
	e.Raw = raw
	return e, nil
}

// Chain runs processors one after the other, each on what the one before it returned, up to the first
// error. A panic is an error of that event, a *PanicError.
func Chain(processors ...Processor) Processor {
	return ProcessorFunc(func(ctx context.Context, e event.Event) (event.Event, error) {
		for i, p := range processors {
			next, err := protected(ctx, p, e)
			if errors.Is(err, ErrSkip) {
				return e, ErrSkip
			}
			if err != nil {
				return e, fmt.Errorf("processor %d: %w", i+1, err)
			}
			e = next
		}
		return e, nil
	})
}

func protected(ctx context.Context, p Processor, e event.Event) (_ event.Event, err error) {
	defer recoverTo(&err)
	return p.Process(ctx, e)
}

// PanicError is a panic of a processor or a sink, made an error of the event that it happened on. It does
// not unwrap to what was passed to panic: a panic with ErrSkip is no way to drop an event.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // where, as debug.Stack writes it; not part of the text
}

// Error is the same text for the same panic.
func (p *PanicError) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

func recoverTo(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
