package eventname

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

var rule = Rule{Key: "topic_expression", What: "topic", MaxBytes: 20, Reserved: []string{"$", "_INBOX."}, By: "the broker"}

func named(t testing.TB, name string) event.Event {
	raw, err := json.Marshal(map[string]any{"EventType": "t", "P": map[string]string{"name": name}})
	require.NoError(t, err)
	return event.Event{ID: "1", Type: "t", Raw: raw}
}

func TestOf(t *testing.T) {
	x, err := expression.Compile("payload.name")
	require.NoError(t, err)
	for name, want := range map[string]string{
		"vod.uploads":           "",
		"视频 1":                  "",
		"a$_INBOX.":             "",
		"":                      "topic_expression: gives no topic",
		"$JS.API":               `topic_expression: "$JS.API": begins with $, which the broker keeps for itself`,
		"_INBOX.x":              `topic_expression: "_INBOX.x": begins with _INBOX., which the broker keeps for itself`,
		strings.Repeat("x", 21): "topic_expression: gives a topic of 21 bytes: 20 are possible",
		"a\r\nb":                `topic_expression: "a\r\nb": has characters that cannot be seen, which an event may not put into a topic`,
		"a\u202eb":              `topic_expression: "a\u202eb": has characters that cannot be seen, which an event may not put into a topic`,
		"a\u200bb":              `topic_expression: "a\u200bb": has characters that cannot be seen, which an event may not put into a topic`,
		"a\u0085":               `topic_expression: "a\u0085": has characters that cannot be seen, which an event may not put into a topic`,
		"a\ufffd":               `topic_expression: "a�": has characters that cannot be seen, which an event may not put into a topic`,
		"\x00":                  `topic_expression: "\x00": has characters that cannot be seen, which an event may not put into a topic`,
	} {
		got, err := rule.Of(t.Context(), x, named(t, name))
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, name, got)
			continue
		}
		require.EqualError(t, err, want)
		require.True(t, retry.IsPermanent(err), "the event's own fault")
		require.NotEmpty(t, retry.Hint(err))
	}

	lacking := rule
	lacking.MayLack, lacking.Check = true, func(string) error { return errors.New("never") }
	_, err = lacking.Of(t.Context(), x, named(t, ""))
	require.NoError(t, err)
	_, err = lacking.Of(t.Context(), x, named(t, "a"))
	require.EqualError(t, err, "topic_expression: never")

	// What the expression cannot do is the event's fault; what its context ended is not.
	number, err := expression.Compile("payload.name + 1")
	require.NoError(t, err)
	_, err = rule.Of(t.Context(), number, named(t, "a"))
	require.ErrorContains(t, err, "topic_expression: expression")
	require.True(t, retry.IsPermanent(err))
	long, err := expression.Compile("string(len(event))")
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = rule.Of(ended, long, named(t, strings.Repeat("x", 1<<20)))
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, retry.IsPermanent(err))
}

func FuzzOf(f *testing.F) {
	for _, name := range []string{"vod.a", "$SYS", "_INBOX.1", "\x7f", "\xff", "a b", "\u2028"} {
		f.Add(name)
	}
	x, err := expression.Compile("payload.name")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, name string) {
		got, err := rule.Of(t.Context(), x, named(t, name))
		if err != nil {
			require.True(t, retry.IsPermanent(err))
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.True(t, utf8.ValidString(got))
		require.False(t, strings.HasPrefix(got, "$") || strings.HasPrefix(got, "_INBOX."))
		require.LessOrEqual(t, len(got), 20)
		require.NotContains(t, got, "\n")
	})
}
