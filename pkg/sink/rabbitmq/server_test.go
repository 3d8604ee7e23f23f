//go:build unix

package rabbitmq

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	startLimit = 3 * time.Minute // a node takes 10s on a machine that has nothing else to do
	maxMessage = 5_500_000
)

// node is a real RabbitMQ node with what it wrote in a directory of its own. It takes long to start, so the
// tests share one; each has exchanges and queues of its own, and none runs beside another.
var node server

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests end the node before goroutines are counted.
type tests struct{ *testing.M }

func (t tests) Run() int {
	defer node.remove()
	return t.M.Run()
}

type server struct {
	dir         string
	port, epmds int
	tlsPort     int
	epmd        *exec.Cmd // the nodes' register of names, which a node would start and leave behind
	process     *exec.Cmd
	exited      chan struct{}
	out         bytes.Buffer
	queues      int
}

// need starts the node. Without RabbitMQ on the machine the test is skipped, or fails where CI is set.
func need(t *testing.T) *server {
	t.Helper()
	s := &node
	if s.process != nil {
		return s
	}
	script := findScript()
	if script == "" {
		const remedy = "no rabbitmq-server found: run scripts/testdeps, or install the package rabbitmq-server"
		if os.Getenv("CI") != "" {
			t.Fatal(remedy)
		}
		t.Skip("NOT TESTED: " + remedy)
	}
	if s.dir == "" {
		var err error
		s.dir, err = os.MkdirTemp("", "rb")
		require.NoError(t, err)
		s.port, s.epmds, s.tlsPort = freePort(t), freePort(t), freePort(t)
		ca, cert, key := certificate(t, s.dir)
		s.write(t, "rabbitmq.conf", fmt.Sprintf(`listeners.tcp.1 = 127.0.0.1:%d
listeners.ssl.1 = 127.0.0.1:%d
ssl_options.cacertfile = %s
ssl_options.certfile = %s
ssl_options.keyfile = %s
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = PLAIN
default_user = vod
default_pass = hunter2
max_message_size = %d
log.console = true
log.file = false
disk_free_limit.absolute = 1MB
`, s.port, s.tlsPort, ca, cert, key, maxMessage))
		s.write(t, "enabled_plugins", "[].")
		require.NoError(t, os.Mkdir(filepath.Join(s.dir, "home"), 0o700))
		s.epmd = exec.Command("epmd", "-port", strconv.Itoa(s.epmds), "-address", "127.0.0.1")
		require.NoError(t, s.epmd.Start())
	}
	s.process = exec.Command(script)
	path := func(name string) string { return filepath.Join(s.dir, name) }
	s.process.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + path("home"), "LC_ALL=C.UTF-8",
		"RUNNING_UNDER_SYSTEMD=true", // the script becomes the node, and does not watch over it
		"RABBITMQ_NODENAME=vodrelay" + strconv.Itoa(s.port) + "@localhost",
		"RABBITMQ_DIST_PORT=" + strconv.Itoa(freePort(t)), "ERL_EPMD_PORT=" + strconv.Itoa(s.epmds), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_CONF_ENV_FILE=" + path("none"), "RABBITMQ_CONFIG_FILE=" + path("rabbitmq.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + path("enabled_plugins"), "RABBITMQ_MNESIA_BASE=" + path("mnesia"),
		"RABBITMQ_LOG_BASE=" + path("log"), "RABBITMQ_PID_FILE=" + path("pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none",
	}
	s.process.Stdout, s.process.Stderr = &s.out, &s.out
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, s.process.Start())
	s.exited = make(chan struct{})
	go func(process *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = process.Wait()
	}(s.process, s.exited)
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	for {
		conn, err := amqp.Dial(s.url())
		if err == nil {
			_ = conn.Close()
			return s
		}
		select {
		case <-s.exited:
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
			continue
		}
		s.kill()
		t.Fatalf("rabbitmq-server: %v\n%s", err, &s.out)
	}
}

// findScript finds what the package's wrapper runs, which unlike it works for every user.
func findScript() string {
	found, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	for _, path := range append(found, "/opt/rabbitmq/sbin/rabbitmq-server") {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

func (s *server) write(t *testing.T, name, text string) {
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// kill is a crash.
func (s *server) kill() {
	if s.process != nil {
		_ = syscall.Kill(-s.process.Process.Pid, syscall.SIGKILL)
		<-s.exited
		s.process = nil
	}
}

func (s *server) remove() {
	s.kill()
	if s.epmd != nil {
		_ = s.epmd.Process.Kill()
		_ = s.epmd.Wait()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

func (s *server) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }
func (s *server) url() string     { return "amqp://vod:hunter2@" + s.address() }

// ctl runs rabbitmqctl.
func (s *server) ctl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(filepath.Dir(findScript()), "rabbitmqctl"), args...)
	cmd.Env = s.process.Env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// reader is RabbitMQ's own client, for the side that reads.
type reader struct {
	*amqp.Channel
	read []amqp.Delivery
}

func (s *server) reader(t *testing.T) *reader {
	t.Helper()
	conn, err := amqp.Dial(s.url())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	channel, err := conn.Channel()
	require.NoError(t, err)
	return &reader{Channel: channel}
}

// queue declares a durable queue with a name of its own.
func (s *server) queue(t *testing.T, r *reader, args amqp.Table) string {
	t.Helper()
	s.queues++
	q, err := r.QueueDeclare("vod-events-"+strconv.Itoa(s.queues), true, false, false, false, args)
	require.NoError(t, err)
	return q.Name
}

// all is every message that was ever in the queue.
func (r *reader) all(t *testing.T, queue string) []amqp.Delivery {
	t.Helper()
	for {
		d, ok, err := r.Get(queue, false)
		require.NoError(t, err)
		if !ok {
			return r.read
		}
		require.NoError(t, d.Ack(false))
		r.read = append(r.read, d)
	}
}

func bodies(deliveries []amqp.Delivery) [][]byte {
	var all [][]byte
	for _, d := range deliveries {
		all = append(all, d.Body)
	}
	return all
}

// open makes a sink that is closed with the test.
func open(t *testing.T, address, queue string, change ...func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Addresses = []string{address}
	cfg.Username, cfg.Password = "vod", "hunter2"
	cfg.RoutingKey = queue
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

// requireRefused checks the error of a Send, twice the same, for which the event is not to blame.
func requireRefused(t *testing.T, s *Sink, e event.Event, text, hint string) {
	t.Helper()
	for range 2 {
		err := send(t, s, e)
		require.EqualError(t, err, s.brokers+": "+text)
		require.False(t, retry.IsPermanent(err), err)
		require.Contains(t, retry.Hint(err), hint)
	}
}

// listen takes connections and says nothing.
func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
