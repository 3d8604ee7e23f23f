//go:build unix

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
)

// startRabbitMQ starts a node that ends with the test, and returns its address and what runs rabbitmqctl.
func startRabbitMQ(t *testing.T) (address string, ctl func(args ...string)) {
	t.Helper()
	scripts, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
	if len(scripts) == 0 {
		const remedy = "no rabbitmq-server found: run scripts/testdeps, or install the package rabbitmq-server"
		if os.Getenv("CI") != "" {
			t.Fatal(remedy)
		}
		t.Skip("NOT TESTED: " + remedy)
	}
	dir, err := os.MkdirTemp("", "rb") // short, for the node's sockets
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address = programtest.FreeAddress(t)
	port := func(address string) string { _, port, _ := net.SplitHostPort(address); return port }
	registry := port(programtest.FreeAddress(t))
	conf := filepath.Join(dir, "rabbitmq.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "listeners.tcp.1 = %s\nlog.console = true\nlog.file = false\ndisk_free_limit.absolute = 1MB\n", address), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plugins"), []byte("[]."), 0o600))
	environ := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8", "RUNNING_UNDER_SYSTEMD=true",
		"RABBITMQ_NODENAME=stop" + port(address) + "@localhost", "RABBITMQ_DIST_PORT=" + port(programtest.FreeAddress(t)),
		"ERL_EPMD_PORT=" + registry, "ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "none"),
		"RABBITMQ_CONFIG_FILE=" + conf, "RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "plugins"),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_PID_FILE=" + filepath.Join(dir, "pid"), "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none",
	}
	run := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Env = environ
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
			if t.Failed() {
				t.Logf("%s:\n%s", name, &out)
			}
		})
	}
	run("epmd", "-port", registry, "-address", "127.0.0.1") // the node would start one and leave it behind
	run(filepath.Join(scripts[0], "rabbitmq-server"))
	require.Eventually(t, func() bool {
		conn, err := amqp.Dial("amqp://" + address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 3*time.Minute, 100*time.Millisecond, "the node takes connections")
	return address, func(args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(scripts[0], "rabbitmqctl"), args...)
		cmd.Env = environ
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

// A broker with a memory alarm reads no more from who publishes, and answers nothing.
func TestAStopWhileRabbitMQIsBlocked(t *testing.T) {
	address, ctl := startRabbitMQ(t)
	conn, err := amqp.Dial("amqp://" + address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	channel, err := conn.Channel()
	require.NoError(t, err)
	_, err = channel.QueueDeclare("vod", true, false, false, false, nil)
	require.NoError(t, err)
	stopInAnOutage(t, fmt.Sprintf("type: rabbitmq, addresses: [%q], username: guest, password: guest, routing_key: vod, timeout: 2s", address),
		func() { ctl("set_vm_memory_high_watermark", "0.000001") })
}
