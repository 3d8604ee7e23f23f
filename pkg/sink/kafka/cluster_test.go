package kafka

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "vod-events"

// cluster is one broker that can be stopped and started again on its port with what it held, and whose
// connections can be cut.
type cluster struct {
	*kfake.Cluster
	opts []kfake.Opt
	port int

	mu    sync.Mutex
	conns []net.Conn
	hold  chan struct{} // replies wait for it; nil: they do not
	lose  int           // so many replies are lost with their connection
	lost  int           // so many connections, the oldest, get no replies any more
	all   int           // connections that there ever were
}

func startCluster(t testing.TB, opts ...kfake.Opt) *cluster {
	t.Helper()
	c := &cluster{port: freePort(t)}
	c.opts = append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(c.port), kfake.DataDir(t.TempDir()), kfake.SeedTopics(3, topic), kfake.ListenFn(c.listen),
	}, opts...)
	c.start(t)
	t.Cleanup(func() { c.stop(t) })
	return c
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (c *cluster) start(t testing.TB) {
	var err error
	c.Cluster, err = kfake.NewCluster(c.opts...)
	require.NoError(t, err)
}

func (c *cluster) stop(testing.TB) {
	c.Close()
	c.cut()
}

func (c *cluster) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// listen is net.Listen, but remembers the connections.
func (c *cluster) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return listener{l, c}, err
}

type listener struct {
	net.Listener
	c *cluster
}

func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.c.conns = append(l.c.conns, accepted)
	l.c.all++
	return conn{accepted, l.c, l.c.all}, nil
}

// cut ends every connection, whatever is under way on it.
func (c *cluster) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// stall has the broker work on what it is sent, but not answer until resume is called.
func (c *cluster) stall() (resume func()) {
	hold := make(chan struct{})
	set := func(hold chan struct{}) { c.mu.Lock(); defer c.mu.Unlock(); c.hold = hold }
	set(hold)
	return func() { set(nil); close(hold) }
}

// strand leaves the connections that there are without replies and without an end.
func (c *cluster) strand() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = c.all
}

func (c *cluster) loseReplies(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose = n
}

// conn is the broker's side of a connection.
type conn struct {
	net.Conn
	c  *cluster
	no int
}

func (c conn) Write(reply []byte) (int, error) {
	c.c.mu.Lock()
	hold, lose, lost := c.c.hold, c.c.lose > 0, c.no <= c.c.lost
	if lose {
		c.c.lose--
	}
	c.c.mu.Unlock()
	if lose {
		return 0, c.Close()
	}
	if hold != nil {
		<-hold
	}
	if lost {
		return len(reply), nil
	}
	return c.Conn.Write(reply)
}

// records reads everything that the topic holds, with Kafka's own client.
func (c *cluster) records(t *testing.T, name string, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	total := 0
	for _, p := range c.PartitionInfos(name) {
		total += int(p.HighWatermark - p.LogStartOffset)
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.address()), kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(50 << 20), kgo.FetchMaxWait(50 * time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < total {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func (c *cluster) bodies(t *testing.T, opts ...kgo.Opt) [][]byte {
	var all [][]byte
	for _, r := range c.records(t, topic, opts...) {
		all = append(all, r.Value)
	}
	return all
}

// open makes a sink for c that is closed with the test.
func open(t testing.TB, c *cluster, change ...func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Brokers = []string{c.address()}
	cfg.Topic = topic
	cfg.ConnectTimeout = time.Second
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

func send(t *testing.T, s *Sink, e event.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Send(ctx, e)
}
