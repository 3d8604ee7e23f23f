package vod

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// How far this machine's clock is off is known from every reply, one that refuses among them: a clock that is far off
// is a reason for that.
func TestTheClockIsKnownFromEveryReply(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"accepted": okReply, "refused": apiError("AuthFailure.SignatureExpire", "no"), "not of the API": "<html>"} {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			write(w, body)
		})
		_, known := c.Clock()
		require.False(t, known, "nothing was asked yet")
		_ = c.Queue(0).Confirm(t.Context(), []string{"a"})
		clock, known := c.Clock()
		require.True(t, known, name)
		require.InDelta(t, -time.Hour.Seconds(), clock.Ahead.Seconds(), 30, name)
		require.Contains(t, clock.String(), "behind the server's", name)
	}
}

// A right that is missing is not a key that is wrong.
func TestIsDenied(t *testing.T) {
	for code, denied := range map[string]bool{
		"UnauthorizedOperation": true, "UnauthorizedOperation.CamNoAuth": true, "AuthFailure.UnauthorizedOperation": true, "FailedOperation.NoPrivileges": true,
		"AuthFailure.SignatureFailure": false, "AuthFailure.SecretIdNotFound": false, "FailedOperation": false, "InternalError": false,
	} {
		require.Equal(t, denied, IsDenied(fmt.Errorf("wrapped: %w", &Error{Code: code})), code)
	}
	require.False(t, IsDenied(nil))
}
