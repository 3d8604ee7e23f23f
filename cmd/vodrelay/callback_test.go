//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// The daemon is killed while it receives: whatever was answered with 200 is in the file in the end.
func TestCallbackThroughKillsLosesNothing(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	dir := t.TempDir()
	out, listen := filepath.Join(dir, "events.jsonl"), programtest.FreeAddress(t)
	configuration := fmt.Sprintf("sources: [callback]\ncallback: {listen: %q, path: /vod, sign_key: abc123}\nstore: {path: %s}\nsinks: [{type: file, path: %s}]\n",
		listen, filepath.Join(dir, "s.db"), out)
	environ = slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, "TENCENTCLOUD_") }) // it needs none
	environ = append(environ, signKeyVariable+"=abc123")
	d := startDaemon(t, environ, configuration)

	contents := emulator.GenerateUploads(400, 1)
	var lines []string
	for _, c := range contents {
		lines = append(lines, string(c))
	}
	file := linesFile(t, lines...)
	ended := make(chan string, 1)
	go func() {
		p := start(t, environ, "send", file, "--to", "http://"+listen+"/vod", "--rate", "100", "--tries", "50", "--timeout", "2s", "--pause", "200ms", "-o", "json")
		_ = p.wait()
		ended <- p.stdout.String()
	}()
	for range 3 {
		before := count(out)
		eventually(t, "events arrive", func() bool { return count(out) > before+40 })
		d.signal(syscall.SIGKILL)
		require.Equal(t, -1, d.wait())
		d.process = start(t, environ, "run", "-c", d.path)
	}
	var sum sendSummary
	require.NoError(t, json.Unmarshal([]byte(<-ended), &sum))
	require.EqualValues(t, 400, sum.Answers["200"], "%+v", sum)
	eventually(t, "all are written", func() bool {
		data, _ := os.ReadFile(out)
		return len(idsOfWhole(data)) == 400
	})
	require.Equal(t, http.StatusOK, func() int { code, _ := d.try("/readyz"); return code }())
	require.NotNil(t, d.status(t).Callback)
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}

// idsOfWhole are the lines that were written to their ends.
func idsOfWhole(data []byte) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if strings.HasSuffix(line, "\n") && json.Valid([]byte(line)) {
			all[line] = true
		}
	}
	return all
}

// An application moves from the normal to the reliable callback under load, by the steps that `mode pull`
// names: nothing is lost, and what comes both ways has one ID; whatever PullEvents answers before.
func TestMoveFromPushToPull(t *testing.T) {
	t.Parallel()
	for _, variant := range []string{"push-mode-empty", "push-mode-events", "push-mode-unsupported-operation"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			moveFromPushToPull(t, variant)
		})
	}
}

func moveFromPushToPull(t *testing.T, variant string) {
	listen := programtest.FreeAddress(t)
	opts := emulator.Options{Mode: "PUSH", NotificationURL: "http://" + listen + "/", SignKey: "abc123", ModeDelay: 2 * time.Second}
	require.NoError(t, opts.Choose(variant))
	cloud, environ := startEmulator(t, opts)
	dir := t.TempDir()
	out := filepath.Join(dir, "events.jsonl")
	d := startDaemon(t, environ, fmt.Sprintf("sources: [pull, callback]\ncallback: {listen: %q, sign_key: abc123}\nstore: {path: %s}\nsinks: [{type: file, path: %s}]\n",
		listen, filepath.Join(dir, "s.db"), out))
	n := 0
	publish := func(until func() bool) {
		t.Helper()
		deadline := time.Now().Add(patient)
		for !until() {
			require.Less(t, time.Now(), deadline)
			cloud.Publish(testApp, emulator.GenerateUploads(1, uint64(n+1))...)
			n++
			time.Sleep(10 * time.Millisecond)
		}
	}
	publish(func() bool { return count(out) > 50 })
	require.Zero(t, cloud.Counts().Confirmed, "all were posted")
	code, _, log := command(t, d.environ, "mode", "pull", "-c", d.path)
	require.Zero(t, code, log)
	publish(func() bool { return cloud.Counts().Confirmed > 50 })
	eventually(t, "all are written", func() bool { return count(out) >= n })
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Len(t, idsOfLines(t, data), n)
	code, log, _ = command(t, d.environ, "check", "-c", d.path)
	require.Contains(t, log, "reliable callback (PULL)")
	require.Equal(t, 3, strings.Count(log, ": the vodrelay that runs with this configuration\n"), "its store and its two addresses: %s", log)
	require.Zero(t, code, log)
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}

func TestCheckWarnsOfAReceiverWithoutStoreAndKey(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	_ = cloud
	environ = append(environ, "VODRELAY_SOURCES=callback", "VODRELAY_CALLBACK_LISTEN=127.0.0.1:0", "VODRELAY_STORE_DRIVER=none")
	code, out, log := command(t, environ, "check")
	require.Zero(t, code, log)
	require.Contains(t, out, "there is no store: a notification whose sinks take longer than 4s is not acknowledged")
	require.Contains(t, out, "there is no sign_key: whoever reaches 127.0.0.1:0 can post events")
	require.NotContains(t, out, "credentials", "what only receives needs none")
	code, out, log = command(t, append(environ, signKeyVariable+"=abc123"), "check")
	require.Zero(t, code, log)
	require.Contains(t, out, "sign_key has 6 characters: who sees one notification has its Sign and T")
	require.NotContains(t, out+log, "abc123")
	code, _, log = command(t, append(environ, "VODRELAY_SOURCES=push"), "check")
	require.Equal(t, exitConfig, code)
	require.Contains(t, log, `sources[0]: "push": must be pull or callback`)
}

// What others can reach asks for a proof, unless it is said that it need not.
func TestAReceiverForOthersNeedsAKey(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	environ = append(environ, "VODRELAY_SOURCES=callback", "VODRELAY_CALLBACK_LISTEN=0.0.0.0:0", "VODRELAY_STORE_DRIVER=none")
	for _, args := range [][]string{{"check"}, {"run"}} {
		code, _, log := command(t, environ, args...)
		require.Equal(t, exitConfig, code, args)
		require.Contains(t, log, `callback.listen: "0.0.0.0:0": others can reach this address: set sign_key_file`)
		require.Contains(t, log, "insecure: true")
	}
	code, out, log := command(t, append(environ, "VODRELAY_CALLBACK_INSECURE=true"), "check")
	require.Zero(t, code, log)
	require.Contains(t, out, "whoever reaches 0.0.0.0:0 can post events")
	code, _, log = command(t, append(environ, signKeyVariable+"=abcdefghij0123456789"), "check")
	require.Zero(t, code, log)
}

// VOD's documentation has a notification without EventType. Posted or pulled, it is one event.
func TestANotificationWithoutEventTypeComesEitherWay(t *testing.T) {
	t.Parallel()
	const content = `{"FileUploadEvent":{"FileId":"5285890784273533167","MediaBasicInfo":{"Name":"Animal World"}}}`
	cloud, environ := startEmulator(t, emulator.Options{})
	listen, dir := programtest.FreeAddress(t), t.TempDir()
	out := filepath.Join(dir, "events.jsonl")
	d := startDaemon(t, environ, fmt.Sprintf("sources: [pull, callback]\ncallback: {listen: %q}\nstore: {path: %q}\nsinks: [{type: file, path: %q, format: cloudevents}]\n",
		listen, filepath.Join(dir, "s.db"), out))
	code, log, _ := command(t, d.environ, "send", linesFile(t, content), "--to", "http://"+listen+"/", "-o", "json")
	require.Zero(t, code, log)
	eventually(t, "the posted one is written", func() bool { return count(out) == 1 })
	cloud.Publish(testApp, json.RawMessage(content))
	eventually(t, "the pulled one is written", func() bool { return count(out) == 2 })
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	var both []map[string]any
	for line := range strings.Lines(string(data)) {
		var e map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		delete(e, "time")
		both = append(both, e)
	}
	require.Equal(t, both[0], both[1])
	require.Equal(t, "com.tencentcloud.vod.NewFileUpload", both[0]["type"])
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}
