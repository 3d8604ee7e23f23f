//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// running is a vodrelay with a configuration file of its own.
type running struct {
	*process
	address, path string
	environ       []string
}

// startDaemon runs one with the configuration, which needs no admin section, and waits until it is ready.
func startDaemon(t *testing.T, environ []string, configuration string) *running {
	t.Helper()
	d := launch(t, environ, configuration)
	eventually(t, "it is ready", func() bool { code, _ := d.try("/readyz"); return code == http.StatusOK })
	return d
}

// launch runs one.
func launch(t *testing.T, environ []string, configuration string) *running {
	t.Helper()
	d := configured(t, environ, configuration)
	d.process = start(t, d.environ, "run", "-c", d.path)
	return d
}

// startDaemonWith is startDaemon of a process that change has changed before.
func startDaemonWith(t *testing.T, environ []string, configuration string, change func(*exec.Cmd)) *running {
	t.Helper()
	d := configured(t, environ, configuration)
	d.process = startWith(t, d.environ, change, "run", "-c", d.path)
	eventually(t, "it is ready", func() bool { code, _ := d.try("/readyz"); return code == http.StatusOK })
	return d
}

// configured is one that has still to be started.
func configured(t *testing.T, environ []string, configuration string) *running {
	t.Helper()
	environ = slices.DeleteFunc(environ, func(s string) bool { return strings.HasPrefix(s, "VODRELAY_ADMIN_LISTEN=") })
	d := &running{address: programtest.FreeAddress(t), path: filepath.Join(t.TempDir(), "vodrelay.yaml"), environ: environ}
	d.configure(t, configuration)
	return d
}

func (d *running) configure(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(d.path, fmt.Appendf(nil, "admin: {listen: %q}\n%s", d.address, text), 0o600))
}

func (d *running) reload(t *testing.T, text, wait string) {
	t.Helper()
	d.configure(t, text)
	before := strings.Count(d.stderr.String(), wait)
	d.signal(syscall.SIGHUP)
	eventually(t, wait, func() bool { return strings.Count(d.stderr.String(), wait) > before })
}

func (d *running) try(path string) (int, string) {
	resp, err := http.Get("http://" + d.address + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(body)
}

func (d *running) status(t *testing.T) (st admin.Status) {
	t.Helper()
	code, body := d.try("/status")
	require.Equal(t, http.StatusOK, code)
	require.NoError(t, json.Unmarshal([]byte(body), &st))
	return st
}

// count is how many lines a file has.
func count(path string) int {
	data, _ := os.ReadFile(path)
	return bytes.Count(data, []byte("\n"))
}

func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	dir := t.TempDir()
	first, second, third := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "3")
	sink := func(name, path string) string {
		return fmt.Sprintf("  - {name: %s, type: file, path: %s}\n", name, path)
	}
	store := fmt.Sprintf("store: {path: %s}\n", filepath.Join(dir, "s.db"))
	d := startDaemon(t, environ, store+"sinks:\n"+sink("a", first)+sink("b", second))
	stopped := make(chan struct{})
	published := make(chan int)
	go func() { // a load that goes on
		n := 0
		defer func() { published <- n }()
		for {
			select {
			case <-stopped:
				return
			case <-time.After(2 * time.Millisecond):
				cloud.Publish(testApp, emulator.GenerateUploads(5, uint64(n+1))...)
				n += 5
			}
		}
	}()
	eventually(t, "events arrive", func() bool { return count(first) > 50 })
	d.reload(t, store+"relay: {max_in_hand: 64}\nlog: {level: debug}\nsinks:\n"+sink("a", first)+sink("c", third), "configuration reloaded")
	eventually(t, "events arrive at the new sink", func() bool { return count(third) > 50 })
	before := count(second)
	require.Equal(t, 64, d.status(t).MaxInHand)
	require.Equal(t, []string{"a", "c"}, []string{d.status(t).Sinks[0].Name, d.status(t).Sinks[1].Name})
	require.Contains(t, d.stderr.String(), `"level":"debug"`)

	d.reload(t, store+"sinks: [{type: nonsense}]", "the configuration was not reloaded")
	d.reload(t, store+"relay: {max_in_hand: 64, confirm: stored}\nsinks:\n"+sink("a", first)+sink("c", third), "some changes need a restart")
	require.Contains(t, d.stderr.String(), "restart vodrelay to apply relay.confirm; everything else is in effect")
	soon := count(third)
	eventually(t, "it goes on", func() bool { return count(third) > soon+50 })
	require.Equal(t, before, count(second), "the removed sink gets no more")
	close(stopped)
	n := <-published
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == int64(n) })
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
	require.Equal(t, n, count(first), "the sink that stayed got each event once")
	requireNothingLost(t, cloud, first)
	requireNothingLost(t, cloud, second, third)
}

// What a reload cannot do it refuses before anything changes: the sinks go on, also one that it was to remove.
func TestAReloadThatIsRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	environ = slices.DeleteFunc(environ, func(s string) bool { return strings.HasPrefix(s, "VODRELAY_VOD_SUB_APP_IDS=") })
	dir := t.TempDir()
	config := func(apps string, places int, sinks ...string) string {
		text := fmt.Sprintf("vod: {sub_app_ids: %s}\nrelay: {max_in_hand: %d}\nsinks:\n", apps, places)
		for _, name := range sinks {
			text += fmt.Sprintf("  - {name: %s, type: file, path: %s}\n", name, filepath.Join(dir, name))
		}
		return text
	}
	d := startDaemon(t, environ, config("[1500000001, 1500000002, 1500000003]", 96, "a", "b"))
	d.reload(t, config("[1500000001]", 32, "a"), "the configuration was not reloaded")
	require.Contains(t, d.stderr.String(), "relay.max_in_hand: 32: must be at least 96: 32 for each of 3 applications")
	require.Contains(t, d.stderr.String(), "the applications change with a restart")
	for i := range uint64(3) {
		cloud.Publish(testApp+i, emulator.GenerateUploads(10, 1+i)...)
	}
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == 30 })
	require.Equal(t, []int{30, 30}, []int{count(filepath.Join(dir, "a")), count(filepath.Join(dir, "b"))})
	require.Zero(t, d.status(t).Unsettled)
	d.reload(t, config("[1500000001]", 96, "a"), "some changes need a restart")
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}

// The commands about parcels ask the daemon that has the store, and only that one.
func TestParcelsThroughTheDaemon(t *testing.T) {
	t.Parallel()
	tg := newTarget(t, http.StatusUnprocessableEntity)
	cloud, environ := startEmulator(t, emulator.Options{})
	dir := t.TempDir()
	d := startDaemon(t, environ, fmt.Sprintf("store: {path: %s}\nsinks: [{name: site, type: webhook, url: %q}]\n", filepath.Join(dir, "s.db"), tg.URL))
	cloud.Publish(testApp, emulator.GenerateUploads(30, 1)...)
	eventually(t, "all are dead", func() bool { st := d.status(t); return st.Parcels != nil && st.Parcels.Dead == 30 })
	run := func(args ...string) (int, string, string) {
		return command(t, d.environ, append(args, "-c", d.path)...)
	}
	code, out, log := run("parcels", "list", "-o", "json", "--limit", "7", "--state", "dead")
	require.Zero(t, code, log)
	var listed []admin.Parcel
	require.NoError(t, json.Unmarshal([]byte(out), &listed))
	require.Len(t, listed, 7)
	require.Contains(t, log, "7 shown; in all 0 waiting, 30 dead")
	code, out, log = run("parcels", "show", listed[0].ID)
	require.Zero(t, code, log)
	require.Contains(t, out, `"FileUploadEvent"`)
	code, _, log = run("parcels", "show", "0123456789abcdef")
	require.Equal(t, 1, code)
	require.Contains(t, log, "no parcel of an event whose ID begins with 0123456789abcdef")
	code, _, log = run("parcels", "drop", "-y", listed[0].ID)
	require.Zero(t, code, log)
	require.Contains(t, log, "1 parcel is deleted")

	tg.answer(http.StatusOK)
	began := time.Now()
	code, _, log = run("parcels", "replay", "--all", "--yes")
	require.Zero(t, code, log)
	require.Contains(t, log, "29 parcels are due now")
	eventually(t, "they are sent", func() bool { return len(tg.accepted()) == 29 })
	require.Less(t, time.Since(began), 20*time.Second, "at once, not when a lane happens to look")
	require.Equal(t, 3, strings.Count(d.stderr.String(), "parcels changed through the admin server")+1, "the daemon did it")

	// Another store than the daemon's is not the daemon's business.
	code, _, log = run("parcels", "list", "--set", "store.path="+filepath.Join(dir, "other.db"))
	require.NotZero(t, code)
	require.Contains(t, log, "other.db")
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
	code, _, log = run("parcels", "list") // without a daemon
	require.Zero(t, code, log)
	require.Contains(t, log, "0 shown")
}

func TestTheAdminAddressIsTaken(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	environ = append(environ, "VODRELAY_ADMIN_LISTEN="+l.Addr().String())
	cloud.Publish(testApp, emulator.GenerateUploads(3, 1)...)
	code, out, log := command(t, environ, "run")
	require.Equal(t, 1, code)
	require.Empty(t, out, "no event is pulled")
	require.Contains(t, log, "set admin.listen to a free address")
	code, out, log = command(t, environ, "drain", "--quiet-for", "0")
	require.Zero(t, code, log)
	require.Equal(t, 3, strings.Count(out, "\n"))
	require.Contains(t, log, "no admin server: its address is taken")
}

func TestReadinessFollowsTheRelay(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	started := filepath.Join(t.TempDir(), "started")
	d := startDaemon(t, environ, fmt.Sprintf("sinks: [{type: exec, timeout: 25s, command: [sh, -c, %q]}]", "touch "+started+"; sleep 3"))
	code, body := d.try("/readyz?verbose")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "[+]authenticated ok")
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	eventually(t, "the command runs", func() bool { _, err := os.Stat(started); return err == nil })
	d.signal(syscall.SIGTERM)
	eventually(t, "it is not ready", func() bool { code, _ := d.try("/readyz"); return code == http.StatusServiceUnavailable })
	code, _ = d.try("/livez")
	require.Equal(t, http.StatusOK, code, "a stop is no reason to kill it")
	require.Zero(t, d.wait())
	require.EqualValues(t, 1, cloud.Counts().Confirmed)
}

func TestATimeoutCoversTheWaitForTheStore(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	environ = append(environ, "VODRELAY_STORE_DRIVER=postgres", "VODRELAY_STORE_URL=postgres://u@"+programtest.FreeAddress(t)+"/d")
	code, _, log := command(t, environ, "drain", "--for", "1s")
	require.Equal(t, exitLeft, code)
	require.Contains(t, log, "stopped as --for says")
}
