//go:build unix

package redis

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestAnnounced has a cluster and a sentinel that are where the configuration says, and name a server where nobody
// listens: that address is in the error, and what named it in the hint.
func TestAnnounced(t *testing.T) {
	dead := freePort(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(dead))

	node := startServer(t, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", strconv.Itoa(dead))
	require.NoError(t, node.client().Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err())

	file, port := filepath.Join(t.TempDir(), "sentinel.conf"), freePort(t)
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "port %d\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 %d 1\n", port, dead), 0o600))
	sentinel := &server{t: t, port: port, args: []string{file, "--sentinel"}}
	t.Cleanup(sentinel.kill)
	sentinel.runAt(sentinel.address())

	for _, tt := range []struct {
		sink       *Sink
		from, hint string
	}{
		{open(t, node.address(), func(c *Config) { c.Mode = modeCluster }), "named by the cluster at " + node.address(), "cluster-announce-port"},
		{open(t, sentinel.address(), func(c *Config) { c.Mode, c.MasterName = modeSentinel, "mymaster" }), "named by the sentinels at " + sentinel.address(), "sentinel monitor"},
	} {
		for _, err := range []error{tt.sink.Check(t.Context()), send(t, tt.sink, sinktest.Upload(0))} {
			require.EqualError(t, err, address+", "+tt.from+": connection refused")
			require.False(t, retry.IsPermanent(err))
			require.Contains(t, retry.Hint(err), tt.hint)
			require.NotContains(t, retry.Hint(err), "in addresses")
		}
	}
}
