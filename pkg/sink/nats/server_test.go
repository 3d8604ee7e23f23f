package nats

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	subject = "vod.events"
	stream  = "VOD"
)

// broker is a real server in this process that can be stopped and started again on its port with what it
// stored, behind a wire that can be cut.
type broker struct {
	opts    *server.Options
	running *server.Server
	wire    *wire.Wire
}

func startServer(t testing.TB, change ...func(*server.Options)) *broker {
	t.Helper()
	b := &broker{opts: &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true, SyncAlways: true,
	}}
	for _, f := range change {
		f(b.opts)
	}
	b.start(t)
	b.opts.Port = b.running.Addr().(*net.TCPAddr).Port
	b.wire = wire.New(t, b.running.Addr().String())
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *broker) start(t testing.TB) {
	opts := b.opts.Clone()
	running, err := server.NewServer(opts)
	require.NoError(t, err)
	running.Start()
	require.True(t, running.ReadyForConnections(10*time.Second))
	b.running = running
}

func (b *broker) stop(testing.TB) {
	b.running.Shutdown()
	b.running.WaitForShutdown()
}

// connect is a client beside the sink, not through the wire.
func (b *broker) connect(t testing.TB, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(b.running.ClientURL(), opts...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

var streamConfig = jetstream.StreamConfig{Name: stream, Subjects: []string{"vod.>"}, Duplicates: time.Hour, MaxMsgSize: -1}

func (b *broker) addStream(t testing.TB, opts ...nats.Option) {
	t.Helper()
	_, err := b.connect(t, opts...).CreateStream(t.Context(), streamConfig)
	require.NoError(t, err)
}

func (b *broker) updateStream(t testing.TB, change func(*jetstream.StreamConfig), opts ...nats.Option) {
	t.Helper()
	config := streamConfig
	change(&config)
	_, err := b.connect(t, opts...).UpdateStream(t.Context(), config)
	require.NoError(t, err)
}

// reload gives the running server other users, as its operator does with a signal.
func (b *broker) reload(t testing.TB, users []*server.User) {
	t.Helper()
	b.opts.Users = users
	require.NoError(t, b.running.ReloadOptions(b.opts.Clone()))
}

// messages reads everything that the stream holds, with NATS's own client.
func (b *broker) messages(t *testing.T, opts ...nats.Option) []jetstream.Msg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	nc, err := nats.Connect(b.running.ClientURL(), opts...)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	s, err := js.Stream(ctx, stream)
	require.NoError(t, err)
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	require.NoError(t, err)
	var all []jetstream.Msg
	for total := int(s.CachedInfo().State.Msgs); len(all) < total; {
		m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		require.NoError(t, err)
		all = append(all, m)
	}
	return all
}

func (b *broker) bodies(t *testing.T, opts ...nats.Option) [][]byte {
	var all [][]byte
	for _, m := range b.messages(t, opts...) {
		all = append(all, m.Data())
	}
	return all
}

func (b *broker) url() string { return "nats://" + b.wire.Address() }

// open makes a sink for b, through its wire, that is closed with the test.
func open(t testing.TB, b *broker, change ...func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Servers = []string{b.url()}
	cfg.Subject = subject
	cfg.ConnectTimeout = 2 * time.Second
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func send(t *testing.T, s *Sink, e event.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Send(ctx, e)
}
