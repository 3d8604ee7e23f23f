package event_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func TestParcelError(t *testing.T) {
	require.Empty(t, event.ParcelError(nil))
	require.Equal(t, "target down", event.ParcelError(errors.New("target down")))
	require.Equal(t, "a\\u0000b\uFFFDc", event.ParcelError(errors.New("a\x00b\xffc")), "what PostgreSQL refuses in a text")
	exact := strings.Repeat("x", event.MaxParcelError)
	require.Equal(t, exact, event.ParcelError(errors.New(exact)))
	for pad := range 4 { // wherever a character would be cut
		text := event.ParcelError(errors.New(strings.Repeat("x", pad) + strings.Repeat("点", event.MaxParcelError)))
		require.True(t, utf8.ValidString(text))
		require.LessOrEqual(t, len(text), event.MaxParcelError)
		require.Greater(t, len(text), event.MaxParcelError-6)
		require.True(t, strings.HasSuffix(text, "点..."))
	}
}
