package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vodrelay/vodrelay/pkg/sink/internal/renew"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// A client may keep a state that it never leaves. One that brokers answer, and that has nothing but failed for some
// seconds, is replaced, whatever the error is.
func TestAClientThatOnlyFailsIsReplaced(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	s := open(t, c)
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	first, err := s.batches.get()
	require.NoError(t, err)
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	began := time.Now()
	for now := first; now == first; time.Sleep(200 * time.Millisecond) {
		require.Less(t, time.Since(began), renew.After+20*time.Second)
		require.Error(t, send(t, s, sinktest.Upload(1)))
		now, err = s.batches.get()
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, time.Since(began), renew.After, "not for a moment's failures")
	fault.Remove()
	require.NoError(t, send(t, s, sinktest.Upload(1)))
}
