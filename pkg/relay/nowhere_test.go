package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// A queue that does not exist may look like an empty one.
func TestADrainOfAQueueThatMayNotExistIsNotEmpty(t *testing.T) {
	refused := retry.Permanent(errors.New("no such application"))
	for _, c := range []struct {
		name   string
		events int
		err    error
		fails  bool
	}{
		{"refused", 0, refused, true},
		{"it had events", 1, refused, false},
		{"no right to ask", 0, retry.Doubtful(refused), false},
		{"a failure of the moment", 0, errDown, false},
	} {
		bubble(t, c.name, func(t *testing.T) {
			q := &relaytest.Queue{Hold: 5 * time.Second}
			q.PublishUploads(c.events)
			opts := relay.DefaultDrain()
			opts.Depth = func(context.Context, uint64) (uint64, error) { return 0, c.err }
			sum, _, _, err := drainWith(t, t.Context(), opts, newRecorder(nil), q)
			require.Equal(t, !c.fails, sum.Empty)
			if c.fails {
				require.EqualError(t, err, "the queue looks empty, but may be one that does not exist: no such application")
				require.True(t, retry.IsPermanent(err))
			} else {
				require.NoError(t, err)
			}
		})
	}
}
