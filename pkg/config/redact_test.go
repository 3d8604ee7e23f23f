package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const secretive = `
vod:
  endpoint: https://example.com
  proxy: http://user:canary@proxy:3128
  credentials: {secret_id: AKID, secret_key: canary}
sinks:
  - type: webhook
    url: https://user:canary@example.com/vod?access_token=canary&kind=all
    headers: {X-Api-Key: canary}
    secret: canary
    proxy: http://user:canary@proxy
  - {type: exec, command: [env], env: [TOKEN=canary, HOME]}
  - {type: file, path: /tmp/x, mode: "0600"}
`

func TestRedacted(t *testing.T) {
	c, err := load(t, secretive)
	require.NoError(t, err)
	text, err := c.Redacted("text")
	require.NoError(t, err)
	object, err := c.Redacted("json")
	require.NoError(t, err)
	marshalled, err := json.Marshal(c)
	require.NoError(t, err)
	require.JSONEq(t, string(object), string(marshalled))
	one, err := json.Marshal(c.Sinks[0])
	require.NoError(t, err)
	for _, shown := range []string{
		string(text), string(object), string(marshalled), string(one),
		c.String(), fmt.Sprint(c), fmt.Sprint(*c), fmt.Sprintf("%+v %#v", *c, c), fmt.Sprintf("%+v %#v", c.Sinks, c.Sinks[0]),
	} {
		require.NotContains(t, shown, "canary")
		require.NotContains(t, shown, "user:")
		require.Contains(t, shown, "https://***@example.com/***")
	}
	for _, line := range []string{
		"    secret_id: AKID", "    secret_key: '***'", "  proxy: '***'", "  endpoint: https://example.com",
		"      X-Api-Key: '***'", "    secret: '***'", "    env: [TOKEN=***, '***']", "    mode: \"0600\"", "    token: \"\"",
		"    duration: 2h", "    proxy: http://***@proxy", "  rate_limit: 100", "    sync: true",
	} {
		require.Contains(t, strings.Split(string(text), "\n"), line)
	}
	_, err = c.Redacted("toml")
	require.EqualError(t, err, `format "toml": use yaml or json`)
}

// TestRedactedLoads: what is shown is a configuration, and the same one where nothing is hidden.
func TestRedactedLoads(t *testing.T) {
	want, err := load(t, `
vod: {sub_app_ids: [18446744073709551615], rate_limit: 0.25, pull_timeout: 6.5s}
processors: [{set: {FileId: 'payload.FileId ?? "no"', Name: "nil"}}]
sinks:
  - {type: file, path: "/tmp/1: 2 #", name: "1e3", when: 'type == "a" || type == "\u2028"'}
  - {type: exec, command: ["true"]}
  - {type: knative, url: "https://example.com", extensions: {a: "12", b: "a\u2028b", c: "~"}}
`)
	require.NoError(t, err)
	for _, format := range []string{"yaml", "json"} {
		text, err := want.Redacted(format)
		require.NoError(t, err)
		got, err := load(t, string(text))
		require.NoError(t, err, string(text))
		require.Equal(t, want, got)
	}
}

// TestSecretsStayOutOfErrors puts every secret of every component in the wrong type and shape.
func TestSecretsStayOutOfErrors(t *testing.T) {
	c := Default()
	c.Sinks = nil
	for _, kind := range SinkTypes() {
		sink, _ := NewSink(kind)
		c.Sinks = append(c.Sinks, sink)
	}
	tested := 0
	c.each(func(path string, f field, v reflect.Value) {
		if !f.secret {
			return
		}
		for _, value := range []string{
			"918273645", "9182736.45", "!!int 918273645", "[918273645]", "[[918273645]]", "{918273645: 918273645}", "{a: [918273645]}", "{a: 918273645}",
			"&a 918273645", "!!binary 918273645", `"918273645\0"`, `"918273645\n"`, `["A=918273645\0"]`, `["=918273645"]`, `{a: "918273645\n"}`, `["VOD_X=918273645"]`,
			`whsec_918273645`, "{Authorization:918273645}", "{\"a:918273645\": b}", "http://918273645@", "://918273645", "2001-01-01-918273645",
		} {
			if v.Kind() == reflect.Map && strings.Contains(value, "{918273645") {
				continue // the name of a header is no secret
			}
			section, key := path[:strings.LastIndex(path, ".")], f.name
			for _, text := range []string{fmt.Sprintf("%s: %s", key, value), fmt.Sprintf("%s:%s", key, strings.ReplaceAll(value, " ", ""))} {
				document := "vod: {credentials: {" + text + "}}"
				switch {
				case section == "vod":
					document = "vod: {" + text + "}"
				case strings.HasPrefix(section, "sinks"):
					var i int
					_, err := fmt.Sscanf(section, "sinks[%d]", &i)
					require.NoError(t, err)
					document = fmt.Sprintf("sinks: [{type: %s, %s}]", SinkTypes()[i], text)
				}
				twice := strings.Replace(document, text, text+", "+text, 1)
				for _, document := range []string{document, twice} {
					if _, err := load(t, document); err != nil {
						require.NotContains(t, err.Error(), "918273645", document)
					}
					tested++
				}
			}
		}
	})
	require.Greater(t, tested, 200)
}

// TestSecretOrFile: a secret and the file that holds it exclude each other.
func TestSecretOrFile(t *testing.T) {
	for _, tt := range []struct{ document, want string }{
		{"vod: {proxy: http://a:1, proxy_file: /dev/null}", "vod.proxy_file"},
		{"vod: {credentials: {secret_id: a, secret_key: b, secret_key_file: /dev/null}}", "vod.credentials.secret_key_file"},
		{"vod: {credentials: {token: b, token_file: /dev/null}}", "vod.credentials.token_file"},
		{"sinks: [{type: webhook, url: https://a, secret: b, secret_file: /dev/null}]", "sinks[0] (webhook).secret_file"},
	} {
		_, err := load(t, tt.document)
		require.ErrorContains(t, err, tt.want+": is set")
	}
}

func TestDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "10s": 10 * time.Second, "1m": time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute,
		"10m": 10 * time.Minute, "1m30s": 90 * time.Second, "200ms": 200 * time.Millisecond, "1h0m5s": time.Hour + 5*time.Second,
	} {
		require.Equal(t, want, duration(d))
		n := yaml.Node{Kind: yaml.ScalarNode, Value: duration(d)}
		require.Equal(t, "!!str", n.ShortTag())
	}
}
