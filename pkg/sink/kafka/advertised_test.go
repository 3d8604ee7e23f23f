package kafka

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// elsewhere is a listener that says that it listens on another address.
type elsewhere struct {
	net.Listener
	addr net.Addr
}

func (e elsewhere) Addr() net.Addr { return e.addr }

// TestAdvertised has a broker that answers at the configured address and advertises another one, where nobody listens.
func TestAdvertised(t *testing.T) {
	real, advertised := freePort(t), freePort(t)
	cluster := &cluster{port: real}
	cluster.opts = []kfake.Opt{kfake.NumBrokers(1), kfake.Ports(real), kfake.SeedTopics(3, topic),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := cluster.listen(network, address)
			return elsewhere{l, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: advertised}}, err
		})}
	cluster.start(t)
	t.Cleanup(func() { cluster.stop(t) })
	dialled := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: advertised}).String()
	look := func(err error) {
		t.Helper()
		require.EqualError(t, err, dialled+", advertised by "+cluster.address()+": connection refused")
		require.Contains(t, retry.Hint(err), "advertised.listeners of the broker")
		require.NotContains(t, retry.Hint(err), "in brokers")
	}
	for _, change := range []func(*Config){
		func(*Config) {}, func(c *Config) { c.Idempotent = false }, func(c *Config) { c.Topic, c.TopicExpression = "", `"vod-events"` },
	} {
		s := open(t, cluster, change)
		look(s.Check(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		look(s.Send(ctx, sinktest.Upload(0)))
		cancel()
	}
}
