package kafka

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// An event cannot write to internal topics; a configured topic can be any.
func TestAnEventCannotChooseAnInternalTopic(t *testing.T) {
	c := startCluster(t, kfake.SeedTopics(1, "uploads", "__consumer_offsets", "_schemas"))
	s := open(t, c, func(cfg *Config) { cfg.Topic, cfg.TopicExpression = "", "payload.t" })
	named := func(topic string) event.Event {
		raw, err := json.Marshal(map[string]any{"EventType": "t", "P": map[string]string{"t": topic}})
		require.NoError(t, err)
		e, _, err := event.Decode(raw, 1)
		require.NoError(t, err)
		return e
	}
	for topic, want := range map[string]string{
		"__consumer_offsets":     "begins with _, which Kafka keeps for itself",
		"__transaction_state":    "begins with _, which Kafka keeps for itself",
		"_schemas":               "begins with _, which Kafka keeps for itself",
		"up/loads":               "is not a topic",
		"..":                     "is not a topic",
		"up\x00loads":            "characters that cannot be seen",
		strings.Repeat("x", 250): "is not a topic",
		"":                       "gives no topic",
	} {
		err := send(t, s, named(topic))
		require.ErrorContains(t, err, want, topic)
		require.True(t, retry.IsPermanent(err), "a dead letter")
		require.NotEmpty(t, retry.Hint(err))
	}
	require.NoError(t, send(t, s, named("uploads")))
	require.Len(t, c.records(t, "uploads"), 1)
	require.Empty(t, c.records(t, "__consumer_offsets"))
	require.Empty(t, c.records(t, "_schemas"))
	require.NoError(t, send(t, open(t, c, func(cfg *Config) { cfg.Topic = "_schemas" }), named("")), "who configures it may mean it")
}
