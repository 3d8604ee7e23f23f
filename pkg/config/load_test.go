package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// load reads text as the file vodrelay.yaml of the working directory.
func load(t *testing.T, text string, environ ...string) (*Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("vodrelay.yaml", []byte(text), 0o600))
	return Load(LoadOptions{Environ: environ})
}

func TestDefaults(t *testing.T) {
	for name, text := range map[string]string{
		"empty":    "",
		"comments": "# nothing\n\n",
		"null":     "---\n",
		"sections": "vod:\nrelay:\nsinks:\nlog:\n  level:\n",
		"no sinks": "sinks: []\n",
		"JSON":     "{}",
		"BOM":      "\ufeff{}",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, text)
			require.NoError(t, err)
			require.Equal(t, "vodrelay.yaml", c.File)
			c.File = ""
			require.Equal(t, Default(), c)
		})
	}
	require.NoError(t, Default().Validate())
}

func TestValues(t *testing.T) {
	c, err := load(t, `
vod:
  endpoint: https://vod.intl.tencentcloudapi.com
  sub_app_ids: [1500000001, 18446744073709551615]
  rate_limit: 12.5
  pull_timeout: 9s500ms
  max_reply_bytes: 2_000_000
  credentials: {provider: profile, profile: "0123"}
processors:
  - filter: type == "NewFileUpload"
  - project: {FileId: payload.FileId, mediaName: payload.MediaBasicInfo.Name}
sinks:
  - &site
    type: webhook
    name: site
    url: https://example.com/vod?a=1
    headers: {X-Api-Key: k, x-lower: l, "X-Number": "5"}
    retry: {max_attempts: 3}
  - <<: *site
    name: other
    when: sub_app_id == 1
  - type: file
    path: /tmp/events
    mode: 0600
    sync: false
  - {type: exec, command: [sh, -c, "exit 0"]}
log: {level: debug}
`)
	require.NoError(t, err)
	require.Equal(t, "https://vod.intl.tencentcloudapi.com", c.Vod.Endpoint)
	require.Equal(t, []uint64{1500000001, 18446744073709551615}, c.Vod.SubAppIDs)
	require.InDelta(t, 12.5, c.Vod.RateLimit, 0)
	require.Equal(t, 9500*time.Millisecond, c.Vod.PullTimeout)
	require.EqualValues(t, 2_000_000, c.Vod.MaxReplyBytes)
	require.Equal(t, "0123", c.Vod.Credentials.Profile)
	require.Equal(t, "https://sts.tencentcloudapi.com", c.Vod.Credentials.STSEndpoint, "defaults stay")
	require.Equal(t, map[string]string{"FileId": "payload.FileId", "mediaName": "payload.MediaBasicInfo.Name"}, c.Processors[1].Project)

	require.Len(t, c.Sinks, 4)
	site, other, file, exec := c.Sinks[0], c.Sinks[1], c.Sinks[2], c.Sinks[3]
	require.Equal(t, map[string]string{"X-Api-Key": "k", "x-lower": "l", "X-Number": "5"}, site.Webhook.Headers)
	require.Equal(t, 3, site.Retry.MaxAttempts)
	require.Equal(t, 200*time.Millisecond, site.Retry.Initial)
	require.Equal(t, 64, site.Concurrency)
	require.Equal(t, "other", other.Name)
	require.Equal(t, "sub_app_id == 1", other.When)
	require.Equal(t, site.Webhook, other.Webhook)
	require.EqualValues(t, 0o600, file.File.Mode)
	require.False(t, file.File.Sync)
	require.Equal(t, "file", file.Name, "the type is the name of a sink without one")
	require.Equal(t, []string{"sh", "-c", "exit 0"}, exec.Exec.Command)
	require.Nil(t, exec.Webhook)
	require.Equal(t, "debug", c.Log.Level)
	require.Equal(t, "auto", c.Log.Format)
}

func TestJSONFile(t *testing.T) {
	c, err := load(t, "{\n\t\"$schema\": \"vodrelay.schema.json\",\n\t\"vod\": {\"sub_app_ids\": [7], \"endpoint\": \"https:\\/\\/example.com\"},\n\t\"sinks\": [{\"type\": \"file\", \"path\": \"/tmp/\\ud83d\\ude00\\\"<\\n\"}]\n}\n")
	require.NoError(t, err)
	require.Equal(t, []uint64{7}, c.Vod.SubAppIDs)
	require.Equal(t, "https://example.com", c.Vod.Endpoint)
	require.Equal(t, "/tmp/\U0001F600\"<\n", c.Sinks[0].File.Path)
}

// TestBadInput shows every kind of mistake with the lines that it is reported in.
func TestBadInput(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		environ    []string
		want       []string
	}{
		{"unknown section", "vodd: {}", nil, []string{`vodrelay.yaml:1: vodd: unknown key: did you mean vod?`}},
		{"capitals", "Vod: {}", nil, []string{`vodrelay.yaml:1: Vod: unknown key: did you mean vod?`}},
		{"unknown key", "vod:\n  endpont: https://example.com", nil, []string{`vodrelay.yaml:2: vod.endpont: unknown key: did you mean endpoint?`}},
		{"unknown key, nothing near", "relay:\n  turbo: true", nil, []string{`vodrelay.yaml:2: relay.turbo: unknown key: the keys here are max_in_hand, max_bytes_in_hand, confirm, stop_grace`}},
		{"unknown key in depth", "vod:\n  credentials:\n    secretkey: x", nil, []string{`vodrelay.yaml:3: vod.credentials.secretkey: unknown key: did you mean secret_key?`}},
		{"key outside its section", "rate_limit: 5", nil, []string{`vodrelay.yaml:1: rate_limit: unknown key: write rate_limit inside vod`}},
		{"key with dots", "vod.rate_limit: 5", nil, []string{`vodrelay.yaml:1: vod.rate_limit: unknown key: write rate_limit inside vod`}},
		{"no space after the colon", "vod: {credentials: {secret_key:AKIDcanary}}", nil, []string{`vodrelay.yaml:1: vod.credentials.secret_key: write a space after the colon`}},
		{"unknown key of a sink", "sinks:\n  - type: webhook\n    ulr: https://example.com", nil, []string{`vodrelay.yaml:3: sinks[0] (webhook).ulr: unknown key for a sink of type webhook: did you mean url?`}},
		{"key of another type", "sinks:\n  - {type: stdout, url: https://example.com}", nil, []string{`vodrelay.yaml:2: sinks[0] (stdout).url: unknown key for a sink of type stdout: the keys here are type, name, when, timeout, concurrency, breaker, parcels, retry, format`}},
		{"unknown key of a retry", "sinks:\n  - {name: a, type: stdout, retry: {maximum: 1s}}", nil, []string{`vodrelay.yaml:2: sinks[0] (a).retry.maximum: unknown key: the keys here are initial, max, max_attempts`}},
		{"unknown processor", "processors:\n  - fliter: 'true'", nil, []string{`vodrelay.yaml:2: processors[0].fliter: unknown key: did you mean filter?`}},

		{"word for a number", "vod: {rate_limit: fast}", nil, []string{`vodrelay.yaml:1: vod.rate_limit: "fast": must be a number, such as 100`}},
		{"quoted number", "relay: {max_in_hand: \"64\"}", nil, []string{`vodrelay.yaml:1: relay.max_in_hand: "64": must be a whole number, such as 1024: leave out the quotes`}},
		{"fraction", "relay: {max_in_hand: 64.5}", nil, []string{`vodrelay.yaml:1: relay.max_in_hand: 64.5: must be a whole number, such as 1024`}},
		{"size with a unit", "vod: {max_reply_bytes: 64MB}", nil, []string{`vodrelay.yaml:1: vod.max_reply_bytes: "64MB": must be a whole number, such as 67108864`}},
		{"too large", "relay: {max_in_hand: 9223372036854775808}", nil, []string{`vodrelay.yaml:1: relay.max_in_hand: 9223372036854775808: must be a whole number within 64 bits, such as 1024`}},
		{"negative", "vod: {sub_app_ids: [-5]}", nil, []string{`vodrelay.yaml:1: vod.sub_app_ids[0]: -5: must not be negative`}},
		{"number for a text", "vod:\n  credentials:\n    profile: 0123", nil, []string{`vodrelay.yaml:3: vod.credentials.profile: 0123: must be a text: write "0123"`}},
		{"yes", "sinks:\n  - {type: file, path: /tmp/x, sync: yes}", nil, []string{`vodrelay.yaml:2: sinks[0] (file).sync: "yes": must be true or false`}},
		{"one for a list", "vod: {sub_app_ids: 5}", nil, []string{`vodrelay.yaml:1: vod.sub_app_ids: must be a list: write [5]`}},
		{"text for a list", "sinks: [{type: exec, command: /bin/true}]", nil, []string{`vodrelay.yaml:1: sinks[0] (exec).command: must be a list: put it in brackets`}},
		{"empty item", "vod: {sub_app_ids: [1, ~]}", nil, []string{`vodrelay.yaml:1: vod.sub_app_ids[1]: is empty: write a value or remove the item`}},
		{"list for a text", "vod: {endpoint: [a]}", nil, []string{`vodrelay.yaml:1: vod.endpoint: must be a text: put it in quotes`}},
		{"word for a section", "relay: fast", nil, []string{`vodrelay.yaml:1: relay: must hold keys with values: max_in_hand, max_bytes_in_hand, confirm, stop_grace`}},
		{"word for a map", "sinks: [{type: webhook, url: https://a, headers: x}]", nil, []string{`vodrelay.yaml:1: sinks[0] (webhook).headers: must hold keys with values`}},
		{"header without a value", "sinks: [{type: webhook, url: https://a, headers: {Authorization:canary}}]", nil, []string{`vodrelay.yaml:1: sinks[0] (webhook).headers.Authorization: write a value, with a space after the colon`}},
		{"infinite", "relay: {stop_grace: .inf}", nil, []string{`vodrelay.yaml:1: relay.stop_grace: .inf: must be a number with its unit (ms, s, m or h), such as 17s`}},
		{"not a number", "vod: {rate_limit: .nan}", nil, []string{`vodrelay.yaml:1: vod.rate_limit: NaN: must be more than 0 and at most 10000 requests per second, such as 100`}},
		{"keys for sinks", "sinks: {type: stdout}", nil, []string{`vodrelay.yaml:1: sinks: must be a list: begin each item with a dash`}},
		{"word for a sink", "sinks: [stdout]", nil, []string{`vodrelay.yaml:1: sinks[0]: must hold keys with values, such as {type: stdout}`}},
		{"list as the file", "- vod", nil, []string{`vodrelay.yaml:1: must hold keys with values: sources, vod, callback, relay, processors, sinks, store, admin, log`}},
		{"word as the file", "vod", nil, []string{`vodrelay.yaml:1: must hold keys with values: sources, vod, callback, relay, processors, sinks, store, admin, log`}},
		{"list as a key", "[a]: b", nil, []string{`vodrelay.yaml:1: a key must be one word, not a list or keys`}},

		{"no unit", "relay: {stop_grace: 10}", nil, []string{`vodrelay.yaml:1: relay.stop_grace: 10: has no unit: write 10s`}},
		{"wrong unit", "relay: {stop_grace: 1d}", nil, []string{`vodrelay.yaml:1: relay.stop_grace: "1d": must be a number with its unit (ms, s, m or h), such as 17s`}},
		{"out of range", "relay:\n  stop_grace: 1h", nil, []string{`vodrelay.yaml:2: relay.stop_grace: 1h0m0s: must be between 0s and 17s, so that a stop ends within 25s`}},
		{"file mode", "sinks: [{type: file, path: /tmp/x, mode: rw}]", nil, []string{`vodrelay.yaml:1: sinks[0] (file).mode: "rw" is not a file mode: write octal digits, such as 0640`}},

		{"key twice", "log: {level: info}\nlog: {}", nil, []string{`vodrelay.yaml:2: log: is set twice, first in line 1: keep one`}},
		{"key twice in depth", "log:\n  level: info\n  level: warn", nil, []string{`vodrelay.yaml:3: log.level: is set twice, first in line 2: keep one`}},
		{"two documents", "log: {}\n---\nlog: {}", nil, []string{`vodrelay.yaml:2: a second document begins here: keep one, without a line of ---`}},
		{"tab", "vod:\n\tendpoint: x", nil, []string{`vodrelay.yaml:2: is not valid YAML: a tab stands before the first word: indent with spaces`}},
		{"tab that is not the mistake", "log:\n  level: |\n    a\n    \tb\n  format: @x", nil, []string{`vodrelay.yaml:5: is not valid YAML: found character that cannot start any token: put the value in quotes`}},
		{"only the file that is not read", "vod: [a", []string{"VODRELAY_VOD_CREDENTIALS_SECRET_ID=a", "VODRELAY_LOG_LEVEL=loud", "VODRELAY_LOG=x"}, []string{`vodrelay.yaml:1: is not valid YAML: did not find expected ',' or ']': check the indentation, quotes and brackets before this place`, `VODRELAY_LOG: unknown variable: unset it; vodrelay config show lists the keys, each of which is a variable`}},
		{"an empty item does not shift the others", "sinks:\n  -\n  - {type: webhook, name: b}", nil, []string{
			`vodrelay.yaml:2: sinks[0]: is empty: write a value or remove the item`,
			`vodrelay.yaml:3: sinks[1] (b).url: "": name the endpoint, such as https://example.com/vod`}},
		{"files of a webhook", "sinks:\n  - type: webhook\n    url: https://a\n    secret_file: /nowhere/secret\n    headers_file: {X-Api-Key: /nowhere/key}\n    tls:\n      ca_file: /nowhere/ca\n      cert_file: /nowhere/cert\n      key_file: /nowhere/key", nil, []string{
			`vodrelay.yaml:4: sinks[0] (webhook).secret_file: "/nowhere/secret": no such file or directory; let the user that runs vodrelay read it`,
			`vodrelay.yaml:5: sinks[0] (webhook).headers_file: "/nowhere/key": no such file or directory; let the user that runs vodrelay read it`,
			`vodrelay.yaml:7: sinks[0] (webhook).tls.ca_file: "/nowhere/ca": no such file or directory; let the user that runs vodrelay read it`,
			`vodrelay.yaml:8: sinks[0] (webhook).tls.cert_file: "/nowhere/cert": no such file or directory; let the user that runs vodrelay read it`,
			`vodrelay.yaml:9: sinks[0] (webhook).tls.key_file: "/nowhere/key": cannot be read: no such file or directory: name a file that exists and that this user may read`}},
		{"open bracket", "vod: [a", nil, []string{`vodrelay.yaml:1: is not valid YAML: did not find expected ',' or ']': check the indentation, quotes and brackets before this place`}},
		{"colon in a value", "log:\n  level: a: b", nil, []string{`vodrelay.yaml:2: is not valid YAML: mapping values are not allowed in this context: put a value with a colon in quotes, or check the indentation`}},
		{"anchor", "vod: {credentials: {secret_key: *canary}}", nil, []string{`vodrelay.yaml:1: is not valid YAML: a value begins with *, which names an anchor that does not exist: put it in quotes`}},
		{"at sign", "log:\n  level: @x", nil, []string{`vodrelay.yaml:2: is not valid YAML: found character that cannot start any token: put the value in quotes`}},
		{"circle", "sinks:\n  - &a\n    type: stdout\n    <<: *a", nil, []string{`vodrelay.yaml:4: sinks[0] (stdout): << leads through too many mappings: name the keys here`}},

		{"no type", "sinks:\n  - {name: a}", nil, []string{`vodrelay.yaml:2: sinks[0] (a).type: is missing: write one of stdout, file, webhook, exec, kafka, nats, redis, rabbitmq, postgres, knative`}},
		{"unknown type", "sinks:\n  - {type: webhok, name: a}", nil, []string{`vodrelay.yaml:2: sinks[0] (a).type: "webhok": unknown type: did you mean webhook?`}},
		{"strange type", "sinks:\n  - {type: smtp}", nil, []string{`vodrelay.yaml:2: sinks[0].type: "smtp": must be one of stdout, file, webhook, exec, kafka, nats, redis, rabbitmq, postgres, knative`}},
		{"one name twice", "sinks:\n  - {type: stdout, name: a}\n  - {type: file, path: /tmp/x, name: a}", nil, []string{`vodrelay.yaml:3: sinks[1] (a).name: "a": sinks[0] has this name too: give each sink a name of its own`}},
		{"one type twice", "sinks:\n  - {type: stdout}\n  - {type: stdout}", nil, []string{`vodrelay.yaml:3: sinks[1] (stdout).name: "stdout": sinks[0] has this name too: give each sink a name of its own`}},
		{"bad name", "sinks: [{type: stdout, name: a b}]", nil, []string{`vodrelay.yaml:1: sinks[0] (a b).name: "a b": write 1 to 63 letters, digits, dots, dashes and underscores, the first one a letter or a digit`}},
		{"missing url", "sinks:\n  - type: webhook", nil, []string{`vodrelay.yaml:2: sinks[0] (webhook).url: "": name the endpoint, such as https://example.com/vod`}},
		{"url without scheme", "sinks:\n  - name: site\n    type: webhook\n    url: example.com", nil, []string{`vodrelay.yaml:4: sinks[0] (site).url: "example.com": needs a scheme, write https://example.com`}},
		{"when", "sinks:\n  - type: stdout\n    when: type = 1", nil, []string{`vodrelay.yaml:3: sinks[0] (stdout).when: expression 'type = 1', column 6: unexpected token "=": write == to compare`}},
		{"two steps in one", "processors:\n  - {filter: 'true', set: {a: id}}", nil, []string{`vodrelay.yaml:2: processors[0]: 2 of filter, project and set are given: write exactly one in each processor`}},
		{"expression of a field", "processors:\n  - set:\n      FileId: paylod.FileId", nil, []string{`vodrelay.yaml:3: processors[0].set.FileId: expression 'paylod.FileId', column 1: unknown name paylod: did you mean payload?`}},
		{"few places", "vod: {sub_app_ids: [1, 2, 3]}\nrelay: {max_in_hand: 64}", nil, []string{`vodrelay.yaml:2: relay.max_in_hand: 64: must be at least 96: 32 for each of 3 applications`}},
		{"log level", "log:\n  level: loud", nil, []string{`vodrelay.yaml:2: log.level: "loud": must be one of debug, info, warn, error`}},

		{"missing secret", "vod: {credentials: {provider: static}}", nil, []string{`vodrelay.yaml:1: vod.credentials.secret_id: is missing, provider static needs secret_id and secret_key_file`}},
		{"missing secret file", "vod: {credentials: {secret_id: a, secret_key_file: /nowhere/key}}", nil, []string{`vodrelay.yaml:1: vod.credentials.secret_key_file: "/nowhere/key": cannot be read: no such file or directory: name a file that exists and that this user may read`}},
		{"directory as a secret file", "vod: {credentials: {secret_id: a, secret_key_file: /}}", nil, []string{`vodrelay.yaml:1: vod.credentials.secret_key_file: "/": cannot be read: is a directory: name a file that exists and that this user may read`}},

		{"unknown variable", "", []string{"VODRELAY_VOD_ENDPIONT=x"}, []string{`VODRELAY_VOD_ENDPIONT: unknown variable: did you mean VODRELAY_VOD_ENDPOINT?`}},
		{"unknown variable, nothing near", "", []string{"VODRELAY_X=x"}, []string{`VODRELAY_X: unknown variable: unset it; vodrelay config show lists the keys, each of which is a variable`}},
		{"variable of an item", "", []string{"VODRELAY_SINKS_0_URL=x"}, []string{`VODRELAY_SINKS_0_URL: unknown variable: set all of it in VODRELAY_SINKS, as JSON or YAML`}},
		{"variable of a wrong type", "", []string{"VODRELAY_VOD_SUB_APP_IDS=1,b", "VODRELAY_RELAY_STOP_GRACE=5"}, []string{
			`VODRELAY_VOD_SUB_APP_IDS: vod.sub_app_ids[1]: "b": must be a whole number`,
			`VODRELAY_RELAY_STOP_GRACE: relay.stop_grace: 5: has no unit: write 5s`}},
		{"variable out of range", "relay: {stop_grace: 5s}", []string{"VODRELAY_RELAY_STOP_GRACE=1h"}, []string{`VODRELAY_RELAY_STOP_GRACE: relay.stop_grace: 1h0m0s: must be between 0s and 17s, so that a stop ends within 25s`}},
		{"variable with bad YAML", "", []string{"VODRELAY_SINKS=[{type: stdout}"}, []string{`VODRELAY_SINKS: sinks: is not valid YAML: did not find expected ',' or ']': check the indentation, quotes and brackets before this place`}},
		{"variable with a bad sink", "sinks: []", []string{"VODRELAY_SINKS=[{name: a, type: webhook, url: x}]"}, []string{`VODRELAY_SINKS: sinks[0] (a).url: "x": needs a scheme, write https://x`}},
		{"variable that is not text", "", []string{"VODRELAY_LOG_LEVEL=\xff"}, []string{`VODRELAY_LOG_LEVEL: log.level: is not valid UTF-8`}},
		{"a port of ours", "", []string{"VODRELAY_PORT=8080"}, []string{`VODRELAY_PORT: unknown variable: unset it; vodrelay config show lists the keys, each of which is a variable`}},

		{"all at once", "vod:\n  rate_limit: 0\nlog:\n  level: loud\nsinks:\n  - type: webhook\n    url: example.com\n    retry: {initial: 0s}\n  - type: fil\n", []string{"VODRELAY_RELAY_MAX_IN_HAND=1"}, []string{
			`vodrelay.yaml:2: vod.rate_limit: 0: must be more than 0 and at most 10000 requests per second, such as 100`,
			`vodrelay.yaml:4: log.level: "loud": must be one of debug, info, warn, error`,
			`vodrelay.yaml:7: sinks[0] (webhook).url: "example.com": needs a scheme, write https://example.com`,
			`vodrelay.yaml:8: sinks[0] (webhook).retry.initial: 0s: must be more than 0, such as 200ms`,
			`vodrelay.yaml:9: sinks[1].type: "fil": unknown type: did you mean file?`,
			`VODRELAY_RELAY_MAX_IN_HAND: relay.max_in_hand: 1: must be at least 16: the events of one reply`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(t, tt.text, tt.environ...)
			require.Nil(t, c)
			var problems Errors
			require.ErrorAs(t, err, &problems)
			require.Equal(t, strings.Join(tt.want, "\n"), err.Error())
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestFile(t *testing.T) {
	t.Chdir(t.TempDir())
	other := filepath.Join(t.TempDir(), "other.yaml")
	require.NoError(t, os.WriteFile(other, []byte("log: {level: debug}"), 0o600))
	require.NoError(t, os.WriteFile("mine.yaml", []byte("log: {level: warn}"), 0o600))
	level := func(opts LoadOptions) string {
		c, err := Load(opts)
		if err != nil {
			return err.Error()
		}
		return c.Log.Level + " " + c.Origin()
	}
	const nothing = "info no file, only the environment, flags and defaults"
	require.Equal(t, nothing, level(LoadOptions{Search: []string{"nowhere.yaml"}}))
	require.Equal(t, "debug from "+other, level(LoadOptions{Search: []string{"nowhere.yaml", other, "mine.yaml"}}))
	require.Equal(t, "warn from mine.yaml", level(LoadOptions{Environ: []string{"VODRELAY_CONFIG=mine.yaml"}}))
	require.Equal(t, "debug from "+other, level(LoadOptions{Path: other, Environ: []string{"VODRELAY_CONFIG=mine.yaml"}}))
	require.Equal(t, nothing, level(LoadOptions{Path: other, NoFile: true}))
	require.Equal(t, []string{"vodrelay.yaml", "/etc/vodrelay/vodrelay.yaml"}, SearchPaths())

	require.Equal(t, "nowhere.yaml: the configuration file cannot be read: no such file or directory", level(LoadOptions{Path: "nowhere.yaml"}))
	require.Equal(t, "nowhere.yaml: the configuration file cannot be read: no such file or directory", level(LoadOptions{Environ: []string{"VODRELAY_CONFIG=nowhere.yaml"}}))
	require.Equal(t, ".: the configuration file cannot be read: is a directory", level(LoadOptions{Path: "."}))
	require.NoError(t, os.WriteFile("large.yaml", []byte(strings.Repeat("#", maxFile+1)), 0o600))
	require.Equal(t, "large.yaml: the configuration file cannot be read: is larger than 1048576 bytes", level(LoadOptions{Path: "large.yaml"}))
}

func TestPrecedence(t *testing.T) {
	const file = "vod: {rate_limit: 1, call_timeout: 2s}\nlog: {level: warn, format: json}\nsinks: [{type: exec, command: [a]}]"
	environ := []string{
		"HOME=/root", "VODRELAY_VOD_CALL_TIMEOUT=3s", "VODRELAY_LOG_LEVEL=error", "VODRELAY_LOG_FORMAT=",
		"VODRELAY_VOD_SUB_APP_IDS= 1, 2 ", "VODRELAY_VOD_CREDENTIALS_PROFILE=0123", "VODRELAY_VOD_MAX_REPLY_BYTES=2000000",
		`VODRELAY_SINKS=[{"type": "webhook", "url": "https://example.com", "headers": {"X-Api-Key": "k"}}]`,
		`VODRELAY_PROCESSORS=- project: {FileId: payload.FileId}`,
	}
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("vodrelay.yaml", []byte(file), 0o600))
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(flags)
	flags.Bool("mine", false, "of the command")
	require.NoError(t, flags.Parse([]string{"--log-level", "debug", "--sub-app-ids=7,8", "--mine",
		"--set", "vod.pull_timeout=8s", "--set=vod.credentials.role_arn=a=b,c", "--set", `sinks=[{type: stdout, name: x}]`}))

	c, err := Load(LoadOptions{Environ: environ})
	require.NoError(t, err)
	require.InDelta(t, 1, c.Vod.RateLimit, 0)
	require.Equal(t, 3*time.Second, c.Vod.CallTimeout)
	require.Equal(t, "error", c.Log.Level)
	require.Equal(t, "json", c.Log.Format, "an empty variable is not set")
	require.Equal(t, []uint64{1, 2}, c.Vod.SubAppIDs)
	require.Equal(t, "0123", c.Vod.Credentials.Profile, "a text is taken as it is")
	require.Len(t, c.Sinks, 1, "a list is replaced as a whole")
	require.Equal(t, map[string]string{"X-Api-Key": "k"}, c.Sinks[0].Webhook.Headers)
	require.Equal(t, map[string]string{"FileId": "payload.FileId"}, c.Processors[0].Project)

	c, err = Load(LoadOptions{Environ: environ, Flags: flags})
	require.NoError(t, err)
	require.Equal(t, "debug", c.Log.Level)
	require.Equal(t, []uint64{7, 8}, c.Vod.SubAppIDs)
	require.Equal(t, 8*time.Second, c.Vod.PullTimeout)
	require.Equal(t, "a=b,c", c.Vod.Credentials.RoleARN)
	require.Equal(t, "x", c.Sinks[0].Name)
	require.Equal(t, 3*time.Second, c.Vod.CallTimeout, "what no flag sets is left")
}

// TestEmptyValues: what is empty has the same meaning wherever it stands, but that a variable is often empty by mistake.
func TestEmptyValues(t *testing.T) {
	load := func(environ []string, args ...string) *Config {
		t.Helper()
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		AddFlags(flags)
		require.NoError(t, flags.Parse(args))
		c, err := Load(LoadOptions{NoFile: true, Environ: environ, Flags: flags})
		require.NoError(t, err)
		return c
	}
	require.NotEmpty(t, load(nil).Admin.Listen)
	require.Empty(t, load([]string{"VODRELAY_ADMIN_LISTEN="}).Admin.Listen)
	require.Empty(t, load(nil, "--set", "admin.listen=").Admin.Listen)
	require.NotEmpty(t, load([]string{"VODRELAY_ADMIN_LISTEN="}, "--set", "admin.listen=127.0.0.1:1").Admin.Listen)
	require.Empty(t, load([]string{"VODRELAY_VOD_PROXY=http://proxy:1", "VODRELAY_VOD_SUB_APP_IDS=1"}, "--set", "vod.sub_app_ids=").Vod.SubAppIDs)
	require.Equal(t, load(nil).Vod, load([]string{"VODRELAY_VOD_PROXY=", "VODRELAY_VOD_RATE_LIMIT=", "VODRELAY_VOD_ENDPOINT="}).Vod)
	// Every key with a default and a meaning of its own when it is empty says so to the environment.
	for _, s := range settings() {
		if s.def != "" && strings.Contains(s.doc, "Empty: none") {
			require.True(t, s.off, s.path)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--log-level=loud"}, `--log-level: log.level: "loud": must be one of debug, info, warn, error`},
		{[]string{"--sub-app-ids=a"}, `--sub-app-ids: vod.sub_app_ids[0]: "a": must be a whole number`},
		{[]string{"--set", "vod.rate_limt=1"}, `--set: vod.rate_limt: unknown key: did you mean vod.rate_limit?`},
		{[]string{"--set", "x=1"}, `--set: x: unknown key`},
		{[]string{"--set", "vod.rate_limit"}, `--set: vod.rate_limit: has no value: write --set vod.rate_limit=VALUE`},
		{[]string{"--set", "vod.rate_limit=x"}, `--set vod.rate_limit: "x": must be a number, such as 100`},
		{[]string{"--set", "vod.credentials.secret_key=canary"}, `--set: vod.credentials.secret_key: every user of the machine can see a flag: use vod.credentials.secret_key_file or VODRELAY_VOD_CREDENTIALS_SECRET_KEY`},
		{[]string{"--set", "vod.rate_limit="}, `--set vod.rate_limit: is empty: write a value, such as 100, or leave it out`},
		{[]string{"--endpoint", ""}, `--endpoint: vod.endpoint: "": names no host, write for example https://vod.tencentcloudapi.com`},
	} {
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		AddFlags(flags)
		require.NoError(t, flags.Parse(tt.args))
		_, err := Load(LoadOptions{NoFile: true, Flags: flags})
		require.EqualError(t, err, tt.want)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(flags)
	usage := flags.FlagUsagesWrapped(0)
	require.Contains(t, usage, "--endpoint string")
	require.Contains(t, usage, `(vod.endpoint) (default "https://vod.tencentcloudapi.com")`)
}

// TestServiceVariables: what Kubernetes sets for a Service is not ours.
func TestServiceVariables(t *testing.T) {
	service := []string{
		"VODRELAY_SERVICE_HOST=10.0.0.1", "VODRELAY_SERVICE_PORT=9464", "VODRELAY_SERVICE_PORT_ADMIN=9464",
		"VODRELAY_PORT=tcp://10.0.0.1:9464", "VODRELAY_PORT_9464_TCP=tcp://10.0.0.1:9464", "VODRELAY_PORT_9464_TCP_PROTO=tcp",
		"VODRELAY_PORT_9464_TCP_PORT=9464", "VODRELAY_PORT_9464_TCP_ADDR=10.0.0.1", "VODRELAY_PORT_53_UDP_ADDR=10.0.0.1",
		"VODRELAY_ADMIN_SERVICE_HOST=10.0.0.1", "VODRELAY_ADMIN_PORT=tcp://10.0.0.1:9464", "VODRELAY_ADMIN_PORT_9464_TCP_ADDR=10.0.0.1",
	}
	c, err := Load(LoadOptions{NoFile: true, Environ: service})
	require.NoError(t, err)
	require.Equal(t, Default(), c)
	for _, name := range []string{"VODRELAY_PORTS=tcp://x", "VODRELAY_PORT_TCP=1", "VODRELAY_SERVICE=1", "VODRELAY_PORT_9464_TCP_HOST=1"} {
		_, err := Load(LoadOptions{NoFile: true, Environ: []string{name}})
		require.Error(t, err, name)
	}
}

// TestVariables: each setting has a variable of its own, and none looks like one of Kubernetes.
func TestVariables(t *testing.T) {
	seen := map[string]string{pathVariable: "the file"}
	for _, s := range settings() {
		require.Empty(t, seen[s.variable()], s.path)
		seen[s.variable()] = s.path
		require.False(t, serviceVariable.MatchString(s.variable()+"=x"), s.path)
	}
	require.Equal(t, "vod.credentials.secret_key_file", seen["VODRELAY_VOD_CREDENTIALS_SECRET_KEY_FILE"])
}

func TestProblems(t *testing.T) {
	c := Default()
	c.Log.Level = "loud"
	c.Sinks = append(c.Sinks, Sink{Type: "smtp"})
	err := c.Validate()
	require.EqualError(t, err, "sinks[1].type: \"smtp\": must be one of stdout, file, webhook, exec, kafka, nats, redis, rabbitmq, postgres, knative\nlog.level: \"loud\": must be one of debug, info, warn, error")
	var problem Error
	require.True(t, errors.As(err, &problem))
	require.Equal(t, "sinks[1].type", problem.Key)
	require.Equal(t, "a b", Error{Text: "a\nb"}.Error())
}

func TestUnderASinkBindingEventsGoToItsSink(t *testing.T) {
	t.Setenv("K_SINK", "http://broker.example.com/default")
	c, err := Load(LoadOptions{NoFile: true})
	require.NoError(t, err)
	require.Len(t, c.Sinks, 1)
	require.Equal(t, "knative", c.Sinks[0].Type)
	c, err = Load(LoadOptions{NoFile: true, Environ: []string{"VODRELAY_SINKS=[{type: stdout}]"}})
	require.NoError(t, err)
	require.Equal(t, "stdout", c.Sinks[0].Type, "what is configured counts")
}
