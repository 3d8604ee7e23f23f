package nats

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// An event cannot address the server's own APIs, nor end the connection that others use; a configured subject can.
func TestAnEventCannotAddressTheServer(t *testing.T) {
	b := startServer(t)
	b.addStream(t)
	s := open(t, b, func(cfg *Config) {
		cfg.Subject, cfg.SubjectExpression, cfg.Stream, cfg.InboxPrefix = "", "payload.s", "", "answers"
	})
	named := func(subject string) event.Event {
		raw, err := json.Marshal(map[string]any{"EventType": "t", "P": map[string]string{"s": subject}})
		require.NoError(t, err)
		e, _, err := event.Decode(raw, 1)
		require.NoError(t, err)
		return e
	}
	require.NoError(t, send(t, s, named("vod.before")))
	for subject, want := range map[string]string{
		"$JS.API.STREAM.DELETE." + stream:  "begins with $, which NATS keeps for itself",
		"$JS.API.STREAM.PURGE." + stream:   "begins with $, which NATS keeps for itself",
		"$SYS.REQ.SERVER.PING":             "begins with $, which NATS keeps for itself",
		"$KV.bucket.key":                   "begins with $, which NATS keeps for itself",
		"_INBOX.abc.1":                     "begins with _INBOX., which NATS keeps for itself",
		"answers.abc.1":                    "begins with answers., which NATS keeps for itself",
		"_R_.1":                            "begins with _R_., which NATS keeps for itself",
		"vod.>":                            "is not a subject",
		"vod.*.x":                          "is not a subject",
		"vod..x":                           "is not a subject",
		".vod":                             "is not a subject",
		"vod x":                            "is not a subject",
		"vod.x\r\nPUB $JS.API.INFO 0\r\n":  "characters that cannot be seen",
		"vod.\u202ex":                      "characters that cannot be seen",
		"vod." + strings.Repeat("x", 5000): "5004 bytes: 1024 are possible",
		"":                                 "gives no subject",
	} {
		err := send(t, s, named(subject))
		require.ErrorContains(t, err, want, subject)
		require.ErrorContains(t, err, "subject_expression: ")
		require.True(t, retry.IsPermanent(err), "a dead letter")
		require.NotEmpty(t, retry.Hint(err))
	}
	require.NoError(t, send(t, s, named("vod.after")), "the connection and the stream are there")
	require.Len(t, b.messages(t), 2)

	cfg := DefaultConfig()
	cfg.Servers, cfg.Subject = []string{b.url()}, "$MQTT.msgs.vod"
	require.NoError(t, cfg.Validate(), "who configures it may mean it")
}
