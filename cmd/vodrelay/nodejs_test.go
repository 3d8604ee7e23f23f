package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// node runs a script with Node.js and returns what it printed.
func node(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		const remedy = "no node in PATH: run scripts/testdeps, or install the package nodejs, 18 or newer"
		if os.Getenv("CI") != "" {
			t.Fatal(remedy)
		}
		t.Skip("NOT TESTED: " + remedy)
	}
	cmd := exec.Command(path, args...)
	var out, failed bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, &out, &failed
	_ = cmd.Run() // its code says it
	return cmd.ProcessState.ExitCode(), out.String(), failed.String()
}

// The emulator is usable from other languages: a client that signs as the vendor's Node.js SDK does pulls and
// confirms, and one with a wrong key is refused.
func TestTheExampleInNodeJS(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs("../../configs/examples/nodejs")
	require.NoError(t, err)
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, emulator.GenerateUploads(20, 1)...)
	for _, v := range environ {
		if url, found := strings.CutPrefix(v, "VODRELAY_VOD_ENDPOINT="); found {
			environ = append(environ, "VOD_ENDPOINT="+url, "VOD_SUB_APP_ID=1500000001", "POLLS=1")
		}
	}
	code, stdout, stderr := node(t, environ, filepath.Join(examples, "consumer.mjs"))
	require.Zero(t, code, stderr)
	require.Len(t, idsOfLines(t, []byte(stdout)), 20, "JavaScript writes numbers anew, so the IDs are others")
	require.EqualValues(t, 20, cloud.Counts().Confirmed)

	code, _, stderr = node(t, append(environ, "TENCENTCLOUD_SECRET_KEY=other"), filepath.Join(examples, "consumer.mjs"))
	require.NotZero(t, code)
	require.Contains(t, stderr, "PullEvents: AuthFailure.SignatureFailure")

	code, _, stderr = node(t, environ, "--check", filepath.Join(examples, "sdk.mjs")) // its package is not at hand
	require.Zero(t, code, stderr)
}

// Who writes a client learns from the emulator's log what it should have signed.
func TestTheEmulatorLogsWhatShouldHaveBeenSigned(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, "emulator", "--listen", "127.0.0.1:0")
	var url string
	eventually(t, "the emulator listens", func() bool {
		_, rest, found := strings.Cut(p.stderr.String(), "VODRELAY_VOD_ENDPOINT=")
		url, _, _ = strings.Cut(rest, " ")
		return found
	})
	command(t, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TENCENTCLOUD_SECRET_ID=" + emulator.DefaultSecretID, "TENCENTCLOUD_SECRET_KEY=VERYSECRET",
		"VODRELAY_VOD_ENDPOINT=" + url, "VODRELAY_VOD_SUB_APP_IDS=1500000001",
	}, "drain")
	log := p.stderr.String()
	require.Contains(t, log, "a signature is wrong")
	require.Contains(t, log, `"host":"`+strings.TrimPrefix(url, "http://")+`"`)
	require.Contains(t, log, `"canonical_request":"POST\n/\n\ncontent-type:application/json`)
	require.Contains(t, log, `"string_to_sign":"TC3-HMAC-SHA256\n`)
	_, after, _ := strings.Cut(log, "a signature is wrong")
	require.NotContains(t, after, emulator.DefaultSecretKey)
}
