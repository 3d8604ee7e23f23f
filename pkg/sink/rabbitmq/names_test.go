package rabbitmq

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// An event cannot choose an exchange or a queue that the broker made; who configures one may mean it.
func TestAnEventCannotChooseWhatTheBrokerMade(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, nil)
	named := func(exchange, key string) event.Event {
		raw, err := json.Marshal(map[string]any{"EventType": "t", "P": map[string]string{"x": exchange, "k": key}})
		require.NoError(t, err)
		e, _, err := event.Decode(raw, 1)
		require.NoError(t, err)
		return e
	}
	refused := func(sink *Sink, e event.Event, want string) {
		t.Helper()
		err := send(t, sink, e)
		require.ErrorContains(t, err, want)
		require.True(t, retry.IsPermanent(err), "a dead letter")
		require.NotEmpty(t, retry.Hint(err))
	}
	exchange := open(t, s.address(), queue, func(c *Config) { c.ExchangeExpression = "payload.x" })
	for name, want := range map[string]string{
		"":                       "exchange_expression: gives no exchange", // the default one
		"amq.rabbitmq.trace":     "exchange_expression: \"amq.rabbitmq.trace\": begins with amq., which RabbitMQ keeps for itself",
		"amq.topic":              "begins with amq., which RabbitMQ keeps for itself",
		"vod\x00":                "characters that cannot be seen",
		strings.Repeat("x", 256): "256 bytes: 255 are possible",
	} {
		refused(exchange, named(name, "k"), want)
	}
	key := open(t, s.address(), "", func(c *Config) { c.RoutingKeyExpression = "payload.k" })
	for name, want := range map[string]string{
		"":                       "routing_key_expression: gives no routing key", // of the default exchange
		"amq.rabbitmq.reply-to":  "begins with amq., which RabbitMQ keeps for itself",
		"amq.gen-abc":            "begins with amq., which RabbitMQ keeps for itself",
		"vod\n":                  "characters that cannot be seen",
		strings.Repeat("x", 256): "256 bytes: 255 are possible",
	} {
		refused(key, named("", name), want)
	}
	require.NoError(t, send(t, key, named("", queue)))
	require.Len(t, r.all(t, queue), 1)

	fanout := open(t, s.address(), "", func(c *Config) { c.Exchange, c.RoutingKeyExpression = "amq.fanout", "payload.k" })
	require.NoError(t, r.QueueBind(queue, "", "amq.fanout", false, nil))
	require.NoError(t, send(t, fanout, named("", "")), "an exchange that looks at no key needs none")
	require.Len(t, r.all(t, queue), 2)
}
