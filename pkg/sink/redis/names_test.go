package redis

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// An event can write neither the mark by which another one counts as sent, nor what Redis and Sentinel use.
func TestAnEventCannotChooseAReservedKey(t *testing.T) {
	server := startServer(t)
	named := func(key string) event.Event {
		raw, err := json.Marshal(map[string]any{"EventType": "t", "P": map[string]string{"k": key}})
		require.NoError(t, err)
		e, _, err := event.Decode(raw, 1)
		require.NoError(t, err)
		return e
	}
	victim := named("vod:a")
	for _, command := range []string{commandXAdd, commandLPush, commandPublish} {
		s := open(t, server.address(), func(c *Config) {
			c.Command, c.Key, c.KeyExpression = command, "", "payload.k"
			if command != commandPublish {
				c.DedupWindow = time.Minute
			}
		})
		for key, want := range map[string]string{
			marks + "{vod:a}:" + victim.DedupID(): "begins with vodrelay:seen:, which Redis or vodrelay keeps for itself",
			"__sentinel__:hello":                  "begins with __, which Redis or vodrelay keeps for itself",
			"__redis__:invalidate":                "begins with __, which Redis or vodrelay keeps for itself",
			"a\r\nb":                              "characters that cannot be seen",
			strings.Repeat("x", 1025):             "1025 bytes: 1024 are possible",
			"":                                    "gives no key",
		} {
			err := send(t, s, named(key))
			require.ErrorContains(t, err, "key_expression: ")
			require.ErrorContains(t, err, want, key)
			require.True(t, retry.IsPermanent(err), "a dead letter")
			require.NotEmpty(t, retry.Hint(err))
		}
	}
	s := open(t, server.address(), func(c *Config) { c.Key, c.KeyExpression, c.DedupWindow = "", "payload.k", time.Minute })
	require.NoError(t, send(t, s, victim))
	require.Len(t, entries(t, server.client(), "vod:a"), 1)
}
