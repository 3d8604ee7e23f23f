//go:build unix

package mistakes

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// servers are those that the entries share, each started when the first entry needs it. An entry has a database, queue
// or key of its own in them, and stops none.
type servers struct {
	postgres func() *pgtest.Server
	redis    func() *redis.Client
	rabbitmq func() string // its address; the user is guest
}

func newServers(t *testing.T) *servers {
	return &servers{
		postgres: sync.OnceValue(func() *pgtest.Server { return pgtest.Start(t) }),
		redis:    sync.OnceValue(func() *redis.Client { return startRedis(t) }),
		rabbitmq: sync.OnceValue(func() string { return startRabbitMQ(t) }),
	}
}

// need skips the test without a program, or fails it where CI is set.
func need(t *testing.T, found bool, program string) {
	t.Helper()
	remedy := "no " + program + ": run scripts/testdeps, or install its package"
	switch {
	case found:
	case os.Getenv("CI") != "":
		t.Fatal(remedy)
	default:
		t.Skip("NOT TESTED: " + remedy)
	}
}

// serve runs a server's program until the test ends.
func serve(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// scratch is a directory with a short name, as the paths of sockets must be.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "m")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func startRedis(t *testing.T) *redis.Client {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	need(t, err == nil, "redis-server")
	address := programtest.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	serve(t, exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", scratch(t), "--save", "", "--databases", "2"))
	client := redis.NewClient(&redis.Options{Addr: address})
	t.Cleanup(func() { _ = client.Close() })
	require.Eventually(t, func() bool { return client.Ping(context.Background()).Err() == nil }, patient, 20*time.Millisecond, "redis-server answers")
	return client
}

func startRabbitMQ(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	need(t, len(found) > 0, "rabbitmq-server")
	dir, address := scratch(t), programtest.FreeAddress(t)
	port := func(address string) string { _, port, _ := net.SplitHostPort(address); return port }
	registry := port(programtest.FreeAddress(t))
	path := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(path("rabbitmq.conf"), fmt.Appendf(nil, "listeners.tcp.1 = %s\nlog.console = true\nlog.file = false\ndisk_free_limit.absolute = 1MB\n", address), 0o600))
	require.NoError(t, os.WriteFile(path("plugins"), []byte("[]."), 0o600))
	serve(t, exec.Command("epmd", "-port", registry, "-address", "127.0.0.1")) // the node would start one and leave it behind
	node := exec.Command(found[0])
	node.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8", "RUNNING_UNDER_SYSTEMD=true",
		"RABBITMQ_NODENAME=mistakes" + port(address) + "@localhost", "RABBITMQ_DIST_PORT=" + port(programtest.FreeAddress(t)),
		"ERL_EPMD_PORT=" + registry, "ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_CONF_ENV_FILE=" + path("none"),
		"RABBITMQ_CONFIG_FILE=" + path("rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + path("plugins"),
		"RABBITMQ_MNESIA_BASE=" + path("mnesia"), "RABBITMQ_LOG_BASE=" + path("log"), "RABBITMQ_PID_FILE=" + path("pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none",
	}
	serve(t, node)
	require.Eventually(t, func() bool {
		conn, err := amqp.Dial("amqp://" + address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 3*time.Minute, 100*time.Millisecond, "the node takes connections")
	return address
}

// order runs statements in a database.
func (w *world) order(database string, statements ...string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), database)
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, statement := range statements {
		_, err := conn.Exec(w.t.Context(), statement)
		require.NoError(w.t, err, statement)
	}
}
