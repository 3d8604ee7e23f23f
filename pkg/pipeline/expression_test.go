package pipeline

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// An expression that fails, or that its context ends, says nothing about the target: the breaker stays closed.
func TestExpressionsDoNotCountForTheBreaker(t *testing.T) {
	x, err := expression.Compile(`replace(payload.T, "x", payload.T)`)
	require.NoError(t, err)
	hostile := delivery(t, `{"EventType":"t","P":{"T":"`+strings.Repeat("x", 120_000)+`","L":[`+strings.Repeat("1,", 60_000)+`1]}}`)
	for name, under := range map[string]func(context.Context) context.Context{
		"the event's fault": func(ctx context.Context) context.Context { return ctx },
		"nobody's fault": func(ctx context.Context) context.Context {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			return ended
		},
	} {
		p := build(t, nil, Route{Name: "a", Breaker: BreakerConfig{Failures: 1, Open: 1 << 40}, Sink: SinkFunc(func(ctx context.Context, e event.Event) error {
			_, err := x.Text(under(ctx), e)
			return err
		})})
		for range 3 * rush {
			require.Error(t, p.Handle(t.Context(), hostile), name)
		}
		require.True(t, p.Available("a"), name)
	}
}

// The values of one template are bounded together: each of them may be as large as the event.
func TestTemplateBoundsItsValues(t *testing.T) {
	e := event.Event{ID: "1", Type: "t", Raw: json.RawMessage(`{"EventType":"t","P":{"x":"` + strings.Repeat("x", 5<<20) + `"}}`)}
	p, err := Set(Field{"a", "event"}, Field{"b", "event"}, Field{"c", "event"})
	require.NoError(t, err)
	_, err = p.Process(t.Context(), e)
	require.NoError(t, err)
	p, err = Set(Field{"a", "event"}, Field{"b", "event"}, Field{"c", "event"}, Field{"d", "payload.x"})
	require.NoError(t, err)
	_, err = p.Process(t.Context(), e)
	require.ErrorContains(t, err, "the values of all fields would have more than 16777216 bytes")
	require.True(t, retry.IsPermanent(err))
}

// A value that is beyond its limits is the event's fault, and one that the context ended nobody's.
func TestTemplateOfHostileContent(t *testing.T) {
	e := event.Event{ID: "1", Type: "t", Raw: json.RawMessage(`{"EventType":"t","P":{"x":"` + strings.Repeat("x", 120_000) + `","L":[` + strings.Repeat("1,", 60_000) + `1]}}`)}
	p, err := Project(Field{"a", `replace(payload.x, "x", payload.x)`})
	require.NoError(t, err)
	_, err = p.Process(t.Context(), e)
	require.ErrorContains(t, err, "replace: the text would have more than 1048576 bytes")
	require.True(t, retry.IsPermanent(err))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Process(ended, e)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, retry.IsPermanent(err))
}
