package relay_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// numbered is an error of a request that has an ID.
type numbered struct{ id string }

func (n numbered) Error() string     { return "refused" }
func (n numbered) RequestID() string { return n.id }

func TestARepeatedErrorIsToldWhenItStartsChangesAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		q := &relaytest.Queue{Hold: time.Second, OnPull: func(call int) error {
			switch {
			case call <= 10:
				return retry.WithHint(numbered{fmt.Sprint("request-", call)}, "look there")
			case call <= 15:
				return errDown
			}
			return nil
		}}
		r, err := relay.New(relay.DefaultConfig(), zap.New(core), newRecorder(nil), q)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		require.NoError(t, r.Run(ctx))

		told := logs.FilterMessage("cannot pull events; trying again").All()
		require.Len(t, told, 2)
		require.Equal(t, map[string]any{"error": "refused", "hint": "look there", "request_id": "request-1"}, told[0].ContextMap())
		require.Equal(t, map[string]any{"error": "target is down"}, told[1].ContextMap())
		ended := logs.FilterMessage("pulling again").All()
		require.Len(t, ended, 1)
		require.EqualValues(t, 15, ended[0].ContextMap()["failures"])
	})
}
