//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// elsewhere is a listener that says that it listens on another address.
type elsewhere struct {
	net.Listener
	addr net.Addr
}

func (e elsewhere) Addr() net.Addr { return e.addr }

// TestTheAddressThatFailedIsNamed has a broker at the configured address that advertises another one, where nobody listens.
// check goes there, and run says the same: what was dialled, who named it, and what to correct.
func TestTheAddressThatFailedIsNamed(t *testing.T) {
	t.Parallel()
	dead, err := net.ResolveTCPAddr("tcp", programtest.FreeAddress(t))
	require.NoError(t, err)
	var configuredAt string
	brokers, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "vod-events"),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			if err != nil {
				return nil, err
			}
			configuredAt = l.Addr().String()
			return elsewhere{l, dead}, nil
		}))
	require.NoError(t, err)
	defer brokers.Close()
	cloud, environ := startEmulator(t, emulator.Options{})
	d := configured(t, environ, fmt.Sprintf(`store: {driver: none}
sinks: [{name: stream, type: kafka, brokers: [%q], topic: vod-events, timeout: 3s}]
`, configuredAt))
	want := fmt.Sprintf("%s, advertised by %s: connection refused", dead, configuredAt)
	const hint = "nothing listens there: start the broker, or correct the host and port in advertised.listeners of the broker"

	code, out, log := command(t, d.environ, "check", "-o", "json", "-c", d.path)
	require.Equal(t, exitFailed, code, log)
	var report app.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	last := report.Findings[len(report.Findings)-1]
	require.Equal(t, app.Finding{Name: "sink stream (kafka)", Status: app.Failed, Detail: want, Hint: hint}, last)

	d.process = start(t, d.environ, "run", "-c", d.path)
	eventually(t, "it is up", func() bool { code, _ := d.try("/livez"); return code == http.StatusOK })
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	eventually(t, "the log has the reason", func() bool {
		log := d.stderr.String()
		return strings.Contains(log, want) && strings.Contains(log, hint)
	})
	d.signal(syscall.SIGTERM)
	d.waitFor(2 * patient)
}
