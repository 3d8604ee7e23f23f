package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

func TestDemoAccountsForEveryEvent(t *testing.T) {
	t.Parallel()
	code, out, log := command(t, nil, "demo", "--count", "30")
	require.Equal(t, exitDone, code, log)
	require.Contains(t, out, "  40 events were published (5 of them while the relay ran)")
	require.Contains(t, out, "  40 arrived at the receiver")
	require.Contains(t, out, "  40 were confirmed, in spite of a lost reply; 0 are left in the queue")
	require.Contains(t, out, `"Animal World"`)
	require.Contains(t, out, "refused")
	require.Contains(t, out, emulator.TypeUnknown)
	require.Contains(t, out, "What to do next")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"rum"}, `unknown command "rum": did you mean vodrelay run?`},
		{[]string{"entirely-different"}, "unknown command \"entirely-different\"\nvodrelay: see vodrelay --help\n"},
		{[]string{"parcels", "lst"}, `unknown command "lst": did you mean vodrelay parcels list?`},
		{[]string{"completion", "csh"}, `unknown command "csh": did you mean vodrelay completion zsh?`},
		{[]string{"run", "--wrong"}, "unknown flag: --wrong\nvodrelay: see vodrelay run --help\n"},
		{[]string{"peek", "--cout", "3"}, "unknown flag: --cout: did you mean --count?"},
		{[]string{"run", "extra"}, `"extra": vodrelay run takes no arguments`},
		{[]string{"parcels", "show"}, "ID is missing: write vodrelay parcels show ID\nvodrelay: see vodrelay parcels show --help\n"},
		{[]string{"parcels", "import", "a", "b"}, `"b": is too much: vodrelay parcels import takes FILE`},
		{[]string{"peek", "-o", "xml"}, `invalid argument "xml" for "-o, --output" flag: write text or json`},
		{[]string{"mode", "sideways"}, `"sideways": write pull or push`},
		{[]string{"mode", "--uploads", "maybe"}, `--uploads: "maybe": write on or off`},
		{[]string{"emulator", "--listen", "9090"}, `--listen: "9090": write host:port`},
		{[]string{"emulator", "--rate", "-1"}, "--rate: -1: must be 0 or more"},
		{[]string{"emulator", "--variant", "empty-nul"}, `--variant: "empty-nul": did you mean empty-null?`},
		{[]string{"emulator", "--variant", "entirely-different"}, `--variant: "entirely-different": does not exist: see vodrelay emulator --variant list`},
		{[]string{"emulator", "--variant", "empty-null", "--variant", "empty-array"}, "--variant: variants: empty-null and empty-array exclude each other (empty queue)"},
		{[]string{"emulator", "--lease", "-1s"}, "Lease: -1s is negative"},
		{[]string{"demo", "--count", "0"}, "--count: 0:"},
		{[]string{"emulator", "--file", "missing.jsonl"}, "missing.jsonl"},
	} {
		code, out, log := command(t, nil, c.args...)
		require.Equal(t, exitUsage, code, c.args)
		require.Empty(t, out)
		require.Contains(t, log, c.want)
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	t.Parallel()
	code, out, _ := command(t, nil, "--help")
	require.Equal(t, exitDone, code)
	for _, name := range []string{"run", "drain", "check", "peek", "mode", "emulator", "demo", "config", "version", "completion"} {
		require.Contains(t, out, "\n  "+name)
	}
	code, out, _ = command(t, nil, "completion", "bash")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "vodrelay")
}

func TestTheEmulatorListsItsVariants(t *testing.T) {
	t.Parallel()
	code, out, log := command(t, nil, "emulator", "--variant", "list")
	require.Equal(t, exitDone, code, log)
	require.Contains(t, out, "empty queue\n* empty-error   an empty queue is the error")
	for _, v := range emulator.AllVariants() {
		require.Regexp(t, "(?m)^. "+v.Name+" +"+regexp.QuoteMeta(v.Summary)+"$", out)
	}
	require.Empty(t, log)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	code, out, _ := command(t, nil, "version")
	require.Equal(t, exitDone, code)
	require.Regexp(t, `^vodrelay \S+ go1\.\S+ \w+/\w+\n$`, out)
}

func TestBadConfigurationIsToldAtOnceAndEndsWith78(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
vod: {endpont: "https://vod.tencentcloudapi.com", rate_limit: fast}
relay: {stop_grace: 40s}
sinks:
  - {name: site, type: webhook, url: "example.com/vod", timeout: 10}
  - {name: site, type: file, when: 'type = "NewFileUpload"'}
`), 0o600))
	for _, cmd := range []string{"run", "drain", "check", "peek", "mode"} {
		code, out, log := command(t, nil, cmd, "-c", file)
		require.Equal(t, exitConfig, code, cmd)
		require.Empty(t, out)
		for _, want := range []string{"vod.endpont", "endpoint", "vod.rate_limit", "stop_grace", "url", "timeout", "path", "when", "site"} {
			require.Contains(t, log, want)
		}
		require.Equal(t, 0, strings.Count(log, "\n\n"))
	}
}

func TestConfigShowHidesSecrets(t *testing.T) {
	t.Parallel()
	environ := []string{
		"VODRELAY_VOD_CREDENTIALS_PROVIDER=static", "VODRELAY_VOD_CREDENTIALS_SECRET_ID=AKIDexample",
		"VODRELAY_VOD_CREDENTIALS_SECRET_KEY=topsecret", `VODRELAY_SINKS=[{type: webhook, url: "https://user:hunter2@example.com/"}]`,
	}
	for _, format := range []string{"text", "json"} {
		code, out, log := command(t, environ, "config", "show", "-o", format)
		require.Equal(t, exitDone, code, log)
		require.Contains(t, out, "example.com")
		require.NotContains(t, out, "topsecret")
		require.NotContains(t, out, "hunter2")
	}
	code, out, _ := command(t, nil, "config", "schema")
	require.Equal(t, exitDone, code)
	require.True(t, json.Valid([]byte(out)))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, emulator.GenerateUploads(3, 1)...)
	code, out, log := command(t, environ, "check")
	require.Equal(t, exitDone, code, out+log)
	require.Contains(t, out, "about 3 events are waiting")
	require.Contains(t, out, "reliable callback (PULL)")
	require.EqualValues(t, 0, cloud.Counts().Delivered, "no event is pulled")
	require.Contains(t, out, "not tested  application 1500000001, right to pull: only a pull shows it")
	require.Contains(t, out, "what to do: test it with vodrelay peek -n 1: it pulls up to 16 events and confirms none, so they come back when their lease of 30s ends")
	require.Regexp(t, `\n\n10 ok, 0 warnings, 0 failed, [12] not tested\n$`, out, "as root there is one more")

	require.NoError(t, cloud.SetMode(testApp, emulator.ModePush))
	code, out, _ = command(t, append(environ, `VODRELAY_SINKS=[{type: webhook, url: "http://127.0.0.1:1"}]`), "check", "-o", "json")
	require.Equal(t, exitFailed, code)
	var report app.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, app.NewReport(report.Findings...), report, "the summary counts them")
	failed := map[string]string{}
	for _, f := range report.Findings {
		if f.Status == app.Failed {
			failed[f.Name] = f.Hint
		}
	}
	require.Len(t, failed, 2, out)
	require.Contains(t, failed["application 1500000001, callback mode"], "vodrelay mode pull")
	require.NotEmpty(t, failed["sink webhook (webhook)"])

	cloud.SetCredentials(map[string]emulator.Credential{emulator.DefaultSecretID: {SecretKey: "another"}})
	code, out, _ = command(t, environ, "check")
	require.Equal(t, exitConfig, code)
	require.Contains(t, out, "what to do: the SecretKey does not belong to the SecretId")
}

func TestWrongCredentialsAreNamedByRun(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.SetCredentials(map[string]emulator.Credential{emulator.DefaultSecretID: {SecretKey: "another"}})
	code, _, log := command(t, environ, "run")
	require.Equal(t, exitConfig, code)
	require.Contains(t, log, "what to do: the SecretKey does not belong to the SecretId")
	require.NotContains(t, log, emulator.DefaultSecretKey)
}

func TestAWrongApplicationIsNamedByRun(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{SubAppIDs: []uint64{1}})
	code, _, log := command(t, environ, "run")
	require.Equal(t, exitConfig, code)
	require.Contains(t, log, "vod.sub_app_ids")
}

func TestPeekShowsEventsAndConfirmsNothing(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 50 * time.Millisecond})
	code, out, log := command(t, environ, "peek")
	require.Equal(t, exitDone, code)
	require.Empty(t, out)
	require.Contains(t, log, "the queue is empty")

	sample, err := emulator.Sample(emulator.SampleReliable)
	require.NoError(t, err)
	cloud.Publish(testApp, sample)
	code, out, log = command(t, environ, "peek")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "NewFileUpload  5285890784273533167")
	require.Contains(t, log, "back in the queue within 30s")
	require.EqualValues(t, 0, cloud.Counts().Confirmed)

	cloud.Publish(testApp, sample)
	code, out, _ = command(t, environ, "peek", "-o", "json")
	require.Equal(t, exitDone, code)
	var events []peeked
	require.NoError(t, json.Unmarshal([]byte(out), &events))
	require.Len(t, events, 1)
	require.JSONEq(t, string(sample), string(events[0].Content))
}

func TestMode(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	code, out, log := command(t, environ, "mode")
	require.Equal(t, exitDone, code, log)
	require.Contains(t, out, "reliable callback (PULL)")

	code, _, log = command(t, environ, "mode", "push")
	require.Equal(t, exitUsage, code)
	require.Contains(t, log, "--url")

	code, out, log = command(t, environ, "mode", "push", "--url", "https://example.com/vod", "--uploads", "off")
	require.Equal(t, exitDone, code, log)
	require.Contains(t, out, "normal callback (PUSH)")
	require.Contains(t, log, "10 minutes")

	code, out, _ = command(t, environ, "mode", "-o", "json")
	require.Equal(t, exitDone, code)
	var modes []map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &modes))
	require.Equal(t, "PUSH", modes[0]["mode"])
	require.Equal(t, "https://example.com/vod", modes[0]["notification_url"])
	require.Equal(t, "OFF", modes[0]["upload_media_complete"])
	require.Equal(t, "ON", modes[0]["delete_media_complete"], "what is not named stays as it is")
	_ = cloud
}
