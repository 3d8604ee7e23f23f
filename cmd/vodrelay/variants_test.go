//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

var emulatorAddress = regexp.MustCompile(`The VOD event API is at (http://\S+),`)

// emulated is an emulator in a process of its own.
type emulated struct {
	*process
	url     string
	environ []string // of a relay from it
}

func launchEmulator(t *testing.T, args ...string) emulated {
	t.Helper()
	p := start(t, []string{"HOME=" + t.TempDir()}, append([]string{"emulator", "--listen", "127.0.0.1:0"}, args...)...)
	var url string
	eventually(t, "it says where it is", func() bool {
		found := emulatorAddress.FindStringSubmatch(p.stderr.String())
		if found != nil {
			url = found[1]
		}
		return found != nil
	})
	return emulated{p, url, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "VODRELAY_ADMIN_LISTEN=127.0.0.1:0",
		"TENCENTCLOUD_SECRET_ID=" + emulator.DefaultSecretID, "TENCENTCLOUD_SECRET_KEY=" + emulator.DefaultSecretKey,
		"VODRELAY_VOD_ENDPOINT=" + url, "VODRELAY_VOD_SUB_APP_IDS=1500000001",
	}}
}

// counts are what the emulator says of all applications.
func (e emulated) counts(t *testing.T) (c emulator.Counts) {
	t.Helper()
	resp, err := http.Get(e.url + "/_emulator/state")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(answer, &struct{ Total *emulator.Counts }{&c}))
	return c
}

// A drain that ends with 0 has emptied the queue, whatever the service does where its documentation is open, after
// another consumer took some events and went away.
func TestADrainIsTrueUnderVariants(t *testing.T) {
	t.Parallel()
	const published = 100
	for _, variants := range []string{
		"empty-null,hold-none,order-last",
		"poll-misses,batch-any,order-random,empty-absent",
		"handle-same,stale-batch-ignored,stale-internal-error",
		"old-handle-until-redelivery,stale-batch-partial,lease-from-answer",
		"count-leased,count-5s-old,reconfirm-ok,deliveries-16",
		"pulled-signed,sign-in-payload,null-fields-newer,types-newer,sign-t-string",
	} {
		t.Run(variants, func(t *testing.T) {
			t.Parallel()
			cloud := launchEmulator(t, "--variant", variants, "--uploads", fmt.Sprint(published), "--lease", "5s", "--latency", "5ms")
			peeked := start(t, cloud.environ, "peek", "-n", "16")
			require.Zero(t, peeked.waitFor(drainPatient))
			require.Positive(t, cloud.counts(t).Delivered)
			p := start(t, cloud.environ, "drain", "--quiet")
			require.Equal(t, exitDone, p.waitFor(drainPatient), p.stderr.String())
			require.Regexp(t, `drain ended.*"empty": ?true`, p.stderr.String())
			counts := cloud.counts(t)
			require.Equal(t, [4]int64{published, 0, 0, 0}, [4]int64{counts.Confirmed, counts.Ready, counts.Leased, counts.Purged})
			out := []byte(p.stdout.String())
			require.Len(t, idsOfLines(t, out), published)
			require.Equal(t, published, bytes.Count(out, []byte("\n")), "none came twice")
			require.NotContains(t, string(out), `"Sign"`)
			cloud.signal(syscall.SIGTERM)
			require.Zero(t, cloud.wait())
		})
	}
}

// A queue that does not exist may look empty, and a drain does not call it that.
func TestADrainOfTheWrongApplicationIsNotEmpty(t *testing.T) {
	t.Parallel()
	for _, variant := range []string{"sub-app-invalid", "sub-app-empty", "sub-app-not-found", "sub-app-unauthorized"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			cloud := launchEmulator(t, "--variant", variant, "--uploads", "10")
			p := start(t, append(cloud.environ, "VODRELAY_VOD_SUB_APP_IDS=7"), "drain", "--quiet-for", "0")
			require.Equal(t, exitConfig, p.waitFor(drainPatient), p.stderr.String())
			require.Contains(t, p.stderr.String(), "vod.sub_app_ids")
			require.NotContains(t, p.stderr.String(), `"empty"`)
			require.EqualValues(t, 10, cloud.counts(t).Ready)
		})
	}
}

// The receiver takes what is posted with each form of signature, and hands it on without.
func TestAReceiverTakesEachFormOfSignature(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	dir, listen := t.TempDir(), programtest.FreeAddress(t)
	out := filepath.Join(dir, "events.jsonl")
	d := startDaemon(t, append(environ, signKeyVariable+"=abc123"), fmt.Sprintf("sources: [callback]\ncallback: {listen: %q, path: /vod}\nstore: {path: %q}\nsinks: [{type: file, path: %q}]\n",
		listen, filepath.Join(dir, "s.db"), out))
	written := 0
	for i, v := range emulator.AllVariants() {
		switch v.Question {
		case emulator.AskSignPlace, emulator.AskSignNames, emulator.AskSignCase, emulator.AskSignTime, emulator.AskPushAnswer, emulator.AskPushRetry:
		default:
			continue
		}
		opts := emulator.Options{Mode: emulator.ModePush, NotificationURL: "http://" + listen + "/vod", SignKey: "abc123", Seed: uint64(i)}
		require.NoError(t, opts.Choose(v.Name))
		cloud, _ := startEmulator(t, opts)
		contents := emulator.GenerateUploads(20, uint64(i))
		cloud.Publish(testApp, contents...)
		eventually(t, v.Name, func() bool { return cloud.Counts().Pushing == 0 })
		require.EqualValues(t, len(contents), cloud.Counts().Acknowledged, v.Name)
		for _, e := range cloud.Journal() {
			if e.Kind == emulator.KindAcknowledged {
				require.Equal(t, http.StatusOK, e.Status, v.Name)
			}
		}
		written += len(contents)
		eventually(t, "they are written", func() bool { return count(out) >= written })
		data, err := os.ReadFile(out)
		require.NoError(t, err)
		require.NotContains(t, strings.ToLower(string(data)), `"sign"`, v.Name)
		for id := range ids(t, contents) {
			require.Contains(t, idsOfLines(t, data), id, v.Name)
		}
	}
	require.Equal(t, written, count(out))
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}

// An emulator's keys are rotated from outside while a relay uses them: it reads the new ones, and no event is lost.
func TestKeysAreRotatedFromOutside(t *testing.T) {
	t.Parallel()
	cloud := launchEmulator(t, "--no-quota", "--rate", "50")
	keys := filepath.Join(t.TempDir(), "keys")
	ask := func(method, path, body string) string {
		t.Helper()
		r, err := http.NewRequest(method, cloud.url+"/_emulator/"+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, string(answer))
		return string(answer)
	}
	set := func(secret string) {
		t.Helper()
		ask("POST", "credentials", fmt.Sprintf(`{"secret_id":%q,"secret_key":%q}`, emulator.DefaultSecretID, secret))
	}
	set("first")
	keyFile(t, keys, "first")
	out := filepath.Join(t.TempDir(), "events.jsonl")
	p := start(t, append(fileSink(without(cloud.environ, "TENCENTCLOUD_"), out), "VODRELAY_VOD_CREDENTIALS_PROVIDER=file", "VODRELAY_VOD_CREDENTIALS_FILE="+keys), "run")
	confirmed := func(more int64) {
		t.Helper()
		before := cloud.counts(t).Confirmed
		eventually(t, "events are confirmed", func() bool { return cloud.counts(t).Confirmed > before+more })
	}
	confirmed(20)
	set("second") // the relay's has ended
	eventually(t, "the key is refused", func() bool { return strings.Contains(p.stderr.String(), "AuthFailure.SignatureFailure") })
	keyFile(t, keys, "second")
	confirmed(20)
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	require.NotContains(t, ask("GET", "credentials", ""), "second")
	require.GreaterOrEqual(t, int64(count(out)), cloud.counts(t).Confirmed)
}
