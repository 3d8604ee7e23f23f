package renew

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestLasts(t *testing.T) {
	down := errors.New("down")
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		require.False(t, w.Lasts(down))
		time.Sleep(After - time.Millisecond)
		require.False(t, w.Lasts(down))
		time.Sleep(time.Millisecond)
		require.True(t, w.Lasts(down))
		require.False(t, w.Lasts(down), "the new client gets as long")
		time.Sleep(After)
		require.False(t, w.Lasts(retry.Permanent(down)), "that is the event's fault")
		require.False(t, w.Lasts(context.Canceled))
		require.True(t, w.Lasts(down))

		time.Sleep(After - time.Millisecond)
		require.False(t, w.Lasts(nil))
		require.False(t, w.Lasts(down), "failures count from the latest success")
		time.Sleep(After)
		require.True(t, w.Lasts(down))
	})
}
