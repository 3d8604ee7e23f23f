//go:build unix

package redis

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// startCluster runs two masters that share the slots.
func startCluster(t *testing.T) []*server {
	t.Helper()
	var nodes []*server
	for i, slots := range []string{"0 8191", "8192 16383"} {
		node := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		from, to, _ := strings.Cut(slots, " ")
		require.NoError(t, node.client().Do(t.Context(), "cluster", "addslotsrange", from, to).Err())
		require.NoError(t, node.client().Do(t.Context(), "cluster", "set-config-epoch", i+1).Err())
		nodes = append(nodes, node)
	}
	require.NoError(t, nodes[0].client().ClusterMeet(t.Context(), "127.0.0.1", strconv.Itoa(nodes[1].port)).Err())
	for _, node := range nodes {
		require.Eventually(t, func() bool {
			info := node.client().ClusterInfo(t.Context()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:2")
		}, 20*time.Second, 50*time.Millisecond)
	}
	return nodes
}

// TestCluster has events for keys of both servers, and a slot that moves from one to the other.
func TestCluster(t *testing.T) {
	nodes := startCluster(t)
	sink := open(t, nodes[0].address(), func(c *Config) {
		c.Mode, c.Key, c.KeyExpression, c.DedupWindow = modeCluster, "", `"vod:" + subject`, time.Hour
	})
	require.NoError(t, sink.Check(t.Context()))
	const n = 60
	for range 2 { // the second time are duplicates
		for i := range n {
			require.NoError(t, send(t, sink, sinktest.Upload(i)))
		}
	}
	ctx := context.Background()
	all := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[1].address()}})
	t.Cleanup(func() { _ = all.Close() })
	for i := range n {
		e := sinktest.Upload(i)
		found := bodies(entries(t, all, "vod:"+e.Subject()))
		require.Equal(t, []string{string(sinktest.Body(t, e))}, texts(found))
	}
	for _, node := range nodes {
		require.Positive(t, node.client().DBSize(ctx).Val())
	}

	// A slot without keys changes hands.
	fixed := open(t, nodes[0].address(), func(c *Config) { c.Mode = modeCluster })
	require.NoError(t, fixed.Check(t.Context()))
	waiting := open(t, nodes[0].address(), func(c *Config) {
		c.Mode, c.Replicas, c.ReplyTimeout, c.Key = modeCluster, 1, 500*time.Millisecond, "{"+stream+"}:waiting"
	})
	const none = ": 0 of 1 replicas hold the event"
	require.EqualError(t, send(t, waiting, sinktest.Upload(0)), nodes[0].address()+none)
	slot := nodes[0].client().ClusterKeySlot(ctx, stream).Val()
	old, now := nodes[0], nodes[1]
	if slot > 8191 {
		old, now = now, old
	}
	require.NoError(t, old.client().Del(ctx, waiting.cfg.Key).Err())
	id := now.client().Do(ctx, "cluster", "myid").String()
	id = id[strings.LastIndex(id, " ")+1:]
	for _, node := range []*server{now, old} {
		require.NoError(t, node.client().Do(ctx, "cluster", "setslot", slot, "node", id).Err())
	}
	require.NoError(t, send(t, fixed, sinktest.Upload(0)))
	require.Len(t, entries(t, now.client(), stream), 1)
	// With WAIT the first attempt only learns of it.
	require.ErrorContains(t, send(t, waiting, sinktest.Upload(0)), "is on another server of a cluster")
	require.Eventually(t, func() bool {
		return send(t, waiting, sinktest.Upload(0)).Error() == nodes[0].address()+none
	}, 5*time.Second, 50*time.Millisecond)

	// Without its other half the cluster is down.
	requireMode := open(t, nodes[1].address(), func(c *Config) { c.Key = "{" + otherKey(t, nodes[1]) + "}" })
	err := send(t, requireMode, sinktest.Upload(0))
	require.ErrorContains(t, err, "is on another server of a cluster")
	require.False(t, retry.IsPermanent(err))
	require.Contains(t, retry.Hint(err), "set mode to cluster")
	old.kill()
	require.Eventually(t, func() bool {
		err := send(t, fixed, sinktest.Upload(1))
		return err != nil && strings.HasSuffix(err.Error(), ": the cluster is down")
	}, 20*time.Second, 100*time.Millisecond)
	old.run()
	require.Eventually(t, func() bool { return send(t, fixed, sinktest.Upload(1)) == nil }, 20*time.Second, 100*time.Millisecond)
}

// otherKey is a key that node does not hold.
func otherKey(t *testing.T, node *server) string {
	for i := range 1000 {
		key := strconv.Itoa(i)
		if err := node.client().Get(t.Context(), key).Err(); redis.HasErrorPrefix(err, "MOVED") {
			return key
		}
	}
	t.Fatal("the server holds every key")
	return ""
}

func texts(bodies [][]byte) []string {
	var all []string
	for _, body := range bodies {
		all = append(all, string(body))
	}
	return all
}

// TestClusterOutage kills one of the servers in the middle of a load.
func TestClusterOutage(t *testing.T) {
	nodes := startCluster(t)
	sink := open(t, nodes[0].address(), func(c *Config) { c.Mode, c.DedupWindow = modeCluster, time.Hour })
	all := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].address(), nodes[1].address()}})
	t.Cleanup(func() { _ = all.Close() })
	duplicates := load(t, sink, all, []func(){
		func() { nodes[0].kill(); nodes[0].run() },
		func() { nodes[1].kill(); time.Sleep(500 * time.Millisecond); nodes[1].run() },
	})
	require.Zero(t, duplicates)
}

// TestSentinel has the sentinels make the replica the master.
func TestSentinel(t *testing.T) {
	master := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.port))
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	port := freePort(t)
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `port %d
bind 127.0.0.1
requirepass hunter2
sentinel monitor mymaster 127.0.0.1 %d 1
sentinel down-after-milliseconds mymaster 500
sentinel failover-timeout mymaster 2000
`, port, master.port), 0o600))
	sentinel := &server{t: t, port: port, args: []string{file, "--sentinel"}}
	t.Cleanup(sentinel.kill)
	sentinel.runAt(sentinel.address())

	secretFile := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secretFile, []byte("wrong"), 0o600))
	sink := open(t, sentinel.address(), func(c *Config) {
		c.Mode, c.MasterName, c.SentinelPasswordFile, c.DedupWindow = modeSentinel, "mymaster", secretFile, time.Hour
	})
	err := send(t, sink, sinktest.Upload(0))
	require.ErrorContains(t, err, "the login is refused")
	require.False(t, retry.IsPermanent(err))
	require.NoError(t, os.WriteFile(secretFile, []byte("hunter2"), 0o600))
	require.NoError(t, send(t, sink, sinktest.Upload(0)))
	require.NoError(t, sink.Check(t.Context()))

	unknown := open(t, sentinel.address(), func(c *Config) {
		c.Mode, c.MasterName, c.SentinelPassword = modeSentinel, "another", "hunter2"
	})
	requireRefused(t, unknown, `the sentinels do not know the master "another"`, "master_name")

	require.Eventually(t, func() bool {
		return strings.Contains(master.client().Info(t.Context(), "replication").Val(), "state=online")
	}, 20*time.Second, 50*time.Millisecond)
	time.Sleep(1500 * time.Millisecond) // the sentinel has to learn of the replica
	duplicates := load(t, sink, replica.client(), []func(){master.kill})
	require.Zero(t, duplicates)
}
