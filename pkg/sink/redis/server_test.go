//go:build unix

package redis

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestMain(m *testing.M) {
	silence()
	goleak.VerifyTestMain(m)
}

const stream = "vod-events"

// server is a real Redis server that one test owns, with what it wrote in a directory of its own.
type server struct {
	t       *testing.T
	args    []string
	port    int
	socket  string
	process *exec.Cmd
	out     bytes.Buffer
}

// startServer runs redis-server until the test ends. Without one on the machine the test is skipped, or
// fails where CI is set.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	needServer(t)
	// Not t.TempDir: the path of a socket must be short.
	dir, err := os.MkdirTemp("", "rd")
	require.NoError(t, err)
	s := &server{t: t, port: freePort(t), socket: filepath.Join(dir, "s")}
	s.args = append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--unixsocket", s.socket, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0",
	}, args...)
	t.Cleanup(func() {
		s.kill()
		require.NoError(t, os.RemoveAll(dir))
	})
	s.run()
	return s
}

func needServer(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		const remedy = "no redis-server in PATH: run scripts/testdeps, or install the package redis-server"
		if os.Getenv("CI") != "" {
			t.Fatal(remedy)
		}
		t.Skip("NOT TESTED: " + remedy)
	}
}

// freePort is one with another free one 10000 above, for a cluster's bus. Both are below those that the system
// gives to connections, which would take them before the server does.
func freePort(t *testing.T) int {
	t.Helper()
	free := func(port int) bool {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return err == nil && l.Close() == nil
	}
	for range 1000 {
		if port := 10_000 + rand.IntN(12_000); free(port) && free(port+10_000) {
			return port
		}
	}
	t.Fatal("no port of 10000 to 22000 is free")
	return 0
}

// run starts the server on what it has written, and waits until it answers.
func (s *server) run() {
	s.t.Helper()
	s.runAt(s.socket)
}

func (s *server) runAt(address string) {
	s.t.Helper()
	s.process = exec.Command("redis-server", s.args...)
	s.process.Stdout, s.process.Stderr = &s.out, &s.out
	require.NoError(s.t, s.process.Start())
	client := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DialerRetries: 1}) // knows a socket by its slash
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	often := retry.Policy{Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	err := often.Do(ctx, func(ctx context.Context) error {
		err := client.Ping(ctx).Err()
		if redis.HasErrorPrefix(err, "NOAUTH") {
			return nil
		}
		return err
	})
	if err != nil {
		s.kill()
		s.t.Fatalf("redis-server: %v\n%s", err, &s.out)
	}
}

// kill is a crash.
func (s *server) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

func (s *server) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// client is Redis's own, for the side that reads.
func (s *server) client(change ...func(*redis.Options)) *redis.Client {
	opts := &redis.Options{Addr: s.address()}
	for _, f := range change {
		f(opts)
	}
	client := redis.NewClient(opts)
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// entries are all of the stream, read as a consumer group does.
func entries(t *testing.T, client redis.Cmdable, key string) []map[string]any {
	t.Helper()
	group := "g" + strconv.FormatInt(time.Now().UnixNano(), 36)
	require.NoError(t, client.XGroupCreateMkStream(t.Context(), key, group, "0").Err())
	var all []map[string]any
	for {
		read, err := client.XReadGroup(t.Context(), &redis.XReadGroupArgs{
			Group: group, Consumer: "c", Streams: []string{key, ">"}, Count: 1000, Block: -1,
		}).Result()
		if errors.Is(err, redis.Nil) {
			return all
		}
		require.NoError(t, err)
		for _, entry := range read[0].Messages {
			all = append(all, entry.Values)
			require.NoError(t, client.XAck(t.Context(), key, group, entry.ID).Err())
		}
	}
}

func bodies(entries []map[string]any) [][]byte {
	var all [][]byte
	for _, entry := range entries {
		all = append(all, []byte(entry[FieldData].(string)))
	}
	return all
}

// open makes a sink that is closed with the test.
func open(t *testing.T, address string, change ...func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Addresses = []string{address}
	cfg.Key = stream
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
