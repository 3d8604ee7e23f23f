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

// An expression that fails, or that its context ends, says nothing about the target: the breaker stays closed, and the
// event is not sent again and again while its lease lasts.
func TestExpressionsDoNotCountForTheBreaker(t *testing.T) {
	x, err := expression.Compile(`repeat("x", payload.N)`)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context
		times string // 1 MiB is the most, and beyond 256 KiB the context is asked
		fault bool
	}{
		"the event's fault": {ctx: t.Context(), times: "2000000", fault: true},
		"nobody's fault":    {ctx: ended, times: "500000"},
	} {
		sends := 0
		p := build(t, nil, Route{Name: "a", Breaker: BreakerConfig{Failures: 1, Open: 1 << 40}, Sink: SinkFunc(func(_ context.Context, e event.Event) error {
			sends++
			_, err := x.Text(c.ctx, e)
			require.Equal(t, c.fault, retry.IsPermanent(err), "%s: %v", name, err)
			return err
		})})
		d := delivery(t, `{"EventType":"t","P":{"N":`+c.times+`}}`)
		for range 3 * rush {
			require.Error(t, p.Handle(t.Context(), d), name)
		}
		require.True(t, p.Available("a"), name)
		require.Equal(t, 3*rush, sends, name)
	}
}

// The values of one template are bounded together: each of them may be as large as the event.
func TestTemplateBoundsItsValues(t *testing.T) {
	e := event.Event{ID: "1", Type: "t", Raw: json.RawMessage(`{"EventType":"t","P":{"x":"` + strings.Repeat("x", 5<<20-2) + `","y":"` + strings.Repeat("y", 1<<20-2) + `"}}`)}
	most := []Field{{"a", "payload.x"}, {"b", "payload.x"}, {"c", "payload.x"}, {"d", "payload.y"}}
	p, err := Set(most...)
	require.NoError(t, err)
	_, err = p.Process(t.Context(), e)
	require.NoError(t, err, "they are as many bytes as there may be")
	p, err = Set(append(most, Field{"e", "type"})...)
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
