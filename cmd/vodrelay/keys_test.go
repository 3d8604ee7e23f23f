//go:build unix

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// keyFile writes a credential file as `rsync -t` would: by renaming, with an old time.
func keyFile(t *testing.T, path, key string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", fmt.Appendf(nil, "secret_id=%s\nsecret_key=%s\n", emulator.DefaultSecretID, key), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// without is environ without the variables of the given prefixes.
func without(environ []string, prefixes ...string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}

// A key that is wrong for a moment delays a confirm for that moment: the event does not come a second time.
func TestAWrongKeyInAFileIsTriedAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Lease: 2 * patient, Hold: 200 * time.Millisecond})
	refused := func(action string) bool {
		return slices.ContainsFunc(cloud.Journal(), func(e emulator.Entry) bool {
			return e.Kind == emulator.KindRefused && e.Action == action && e.Code == "AuthFailure.SignatureFailure"
		})
	}
	arrived, let := make(chan struct{}), make(chan struct{})
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-let
	}))
	defer sink.Close()
	path := filepath.Join(t.TempDir(), "key")
	keyFile(t, path, emulator.DefaultSecretKey)
	p := start(t, append(without(environ, "TENCENTCLOUD_"), "VODRELAY_VOD_CREDENTIALS_PROVIDER=file", "VODRELAY_VOD_CREDENTIALS_FILE="+path,
		fmt.Sprintf(`VODRELAY_SINKS=[{type: webhook, url: %q, timeout: 20s}]`, sink.URL)), "run")
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	<-arrived
	keyFile(t, path, strings.Repeat("x", len(emulator.DefaultSecretKey)))
	eventually(t, "a pull is refused", func() bool { return refused(emulator.ActionPullEvents) })
	close(let)
	eventually(t, "the confirm is refused", func() bool { return refused(emulator.ActionConfirmEvents) })
	keyFile(t, path, emulator.DefaultSecretKey)
	eventually(t, "the confirm is tried again", func() bool { return cloud.Counts().Confirmed == 1 })
	cloud.Publish(testApp, emulator.GenerateUploads(1, 2)...)
	<-arrived
	eventually(t, "the pulls go on, too", func() bool { return cloud.Counts().Confirmed == 2 })
	require.EqualValues(t, 2, cloud.Counts().Delivered, "each event was delivered once")
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	require.Equal(t, 2, strings.Count(p.stderr.String(), "credential replaced"))
	require.Contains(t, p.stderr.String(), "confirming again")
	require.NotContains(t, p.stderr.String(), emulator.DefaultSecretKey)
}

// What copying leaves around a key is left out and reported, by the relay and by check.
func TestWhatStandsAroundAKeyIsReported(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: -1})
	dir := t.TempDir()
	for name, content := range map[string]string{"secret_id": "\ufeff" + emulator.DefaultSecretID + "\r\n", "secret_key": "'" + emulator.DefaultSecretKey + "'\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	plain := without(environ, "TENCENTCLOUD_")
	for name, environ := range map[string][]string{
		"file":        append(slices.Clone(plain), "VODRELAY_VOD_CREDENTIALS_FILE="+dir),
		"environment": append(slices.Clone(plain), "TENCENTCLOUD_SECRET_ID=\ufeff"+emulator.DefaultSecretID, "TENCENTCLOUD_SECRET_KEY='"+emulator.DefaultSecretKey+"'"),
	} {
		const found = "the secret ID has a byte order mark around it; the secret key has quotes around it"
		cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
		code, _, stderr := command(t, environ, "drain", "--quiet-for", "0")
		require.Equal(t, exitDone, code, name)
		require.Contains(t, stderr, found, name)
		require.NotContains(t, stderr, emulator.DefaultSecretKey)
		_, stdout, stderr := command(t, environ, "check")
		require.Contains(t, stdout+stderr, found+", which is left out", name)
		require.NotContains(t, stdout+stderr, emulator.DefaultSecretKey)
	}
}
