//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// canary is part of every secret; it can be a key, a password, a path, and a name in a header.
const canary = "canaryQ7x"

type document = map[string]any

// secretKeys are the paths of the keys that the schema marks as secret: of a section, and of each type of sink, such as
// sinks.webhook.headers.
func secretKeys(t *testing.T) map[string]any {
	t.Helper()
	code, out, log := command(t, nil, "config", "schema")
	require.Equal(t, exitDone, code, log)
	var schema document
	require.NoError(t, json.Unmarshal([]byte(out), &schema))
	found := document{}
	var walk func(path string, schema document)
	walk = func(path string, schema document) {
		if schema["writeOnly"] == true {
			found[strings.TrimPrefix(path, ".")] = schema["type"]
		}
		if properties, ok := schema["properties"].(document); ok {
			for name, property := range properties {
				walk(path+"."+name, property.(document))
			}
		}
		if items, ok := schema["items"].(document); ok {
			if branches, ok := items["oneOf"].([]any); ok {
				for i, branch := range branches {
					walk(path+"."+config.SinkTypes()[i], branch.(document))
				}
			}
		}
	}
	walk("", schema)
	return found
}

// plantIn sets every secret key of section that is not set, and whose path begins with the given one.
func plantIn(section document, path string, keys document) {
	for key, kind := range keys {
		rest, ok := strings.CutPrefix(key, path+".")
		if !ok {
			continue
		}
		into, names := section, strings.Split(rest, ".")
		for _, name := range names[:len(names)-1] {
			inner, ok := into[name].(document)
			if !ok {
				inner = document{}
				into[name] = inner
			}
			into = inner
		}
		last := names[len(names)-1]
		if _, set := into[last]; set {
			continue
		}
		types, _ := kind.([]any)
		switch {
		case slices.Contains(types, any("array")):
			into[last] = []string{"NAME=" + canary}
		case slices.Contains(types, any("object")):
			into[last] = map[string]string{"X-Planted": canary}
		default:
			into[last] = canary + canary // long enough for the token of the admin server
		}
	}
}

// TestPlantedSecretsAreNowhere has a secret in every key of the configuration that takes one, wherever in an address one
// can stand too, all targets out of order, and reads everything that the program gives out: no secret is in it.
func TestPlantedSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusBadRequest
		if strings.Contains(r.URL.Path, "moved") {
			w.Header().Set("Location", "https://user:"+canary+"@example.com/"+canary+"?"+canary)
			status = http.StatusFound
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "I do not like %s with %v and %s", r.URL, r.Header, r.Header.Get("X-Planted"))
	}))
	t.Cleanup(echo.Close)
	dead := programtest.FreeAddress(t)
	at := func(base string) string {
		u, err := url.Parse(base)
		require.NoError(t, err)
		u.User, u.RawQuery, u.Fragment = url.UserPassword("user", canary), "key="+canary+"&"+canary, canary
		return u.JoinPath("robot", canary).String()
	}
	withoutUser := func(base string) string { return strings.Replace(at(base), "user:"+canary+"@", "", 1) }
	sinks := map[string]document{
		"site":     {"type": "webhook", "url": at("http://" + dead)},
		"proxied":  {"type": "webhook", "url": withoutUser("https://example.com"), "proxy": "http://user:" + canary + "@" + dead},
		"nohost":   {"type": "webhook", "url": withoutUser("http://nosuchhost.invalid")},
		"refusing": {"type": "webhook", "url": withoutUser(echo.URL)},
		"moved":    {"type": "webhook", "url": withoutUser(echo.URL + "/moved")},
		"knative":  {"type": "knative", "url": at("http://" + dead)},
		"program":  {"type": "exec", "command": []string{"false", canary, "https://user:" + canary + "@host/" + canary}},
		"missing":  {"type": "exec", "command": []string{"/nowhere/program", canary}},
		"kafka":    {"type": "kafka", "brokers": []string{dead}, "topic": "t", "security_protocol": "SASL_PLAINTEXT", "sasl": document{"username": "u"}},
		"nats":     {"type": "nats", "servers": []string{"nats://" + dead}, "subject": "s", "username": "u", "token": ""},
		"token":    {"type": "nats", "servers": []string{"nats://" + dead}, "subject": "s", "password": ""},
		"redis":    {"type": "redis", "addresses": []string{dead}, "key": "k", "mode": "sentinel", "master_name": "m"},
		"rabbitmq": {"type": "rabbitmq", "addresses": []string{dead}, "exchange": "e", "username": "u"},
		"postgres": {"type": "postgres", "url": "postgres://user:" + canary + "@" + dead + "/db?application_name=" + canary},
		"rows":     {"type": "postgres", "url": "host=" + filepath.Join(t.TempDir(), "s") + " user=u password=" + canary + " dbname=d"},
	}
	keys := secretKeys(t)
	delete(keys, "vod.proxy") // these two have a test of their own
	delete(keys, "store.url")
	address := programtest.FreeAddress(t)
	whole := document{
		"sources":  []string{"pull", "callback"},
		"vod":      document{"credentials": document{"provider": "static", "secret_id": emulator.DefaultSecretID}},
		"callback": document{"listen": "127.0.0.1:0"},
		"store":    document{"path": filepath.Join(t.TempDir(), "s.db")},
		"admin":    document{"listen": address, "pprof": true},
		"log":      document{"level": "debug"},
	}
	for section := range whole {
		if inner, ok := whole[section].(document); ok {
			plantIn(inner, section, keys)
		}
	}
	var list []document
	for _, name := range slices.Sorted(maps.Keys(sinks)) {
		sink := sinks[name]
		maps.Copy(sink, document{"name": name, "timeout": "2s", "retry": document{"max_attempts": 1}})
		plantIn(sink, fmt.Sprint("sinks.", sink["type"]), keys)
		list = append(list, sink)
	}
	whole["sinks"] = list
	text, err := json.Marshal(whole)
	require.NoError(t, err)
	for key := range keys { // the schema must not name a key that nothing above has
		name := key[strings.LastIndexByte(key, '.')+1:]
		require.Contains(t, string(text), `"`+name+`":`, key)
	}

	secret := canary + canary
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.SetCredentials(map[string]emulator.Credential{emulator.DefaultSecretID: {SecretKey: secret, Token: secret}})
	d := configured(t, environ, "")
	d.address = address
	d.environ = append(d.environ, "PGPASSWORD="+canary, "HTTP_PROXY=", "HTTPS_PROXY=")
	require.NoError(t, os.WriteFile(d.path, text, 0o600))
	run := func(args ...string) {
		t.Helper()
		_, out, log := command(t, d.environ, append(args, "-c", d.path)...)
		requireClean(t, strings.Join(args, " "), out+log)
	}
	run("config", "show")
	run("config", "show", "-o", "json")
	run("check")
	run("check", "-o", "json")

	d.process = start(t, d.environ, "run", "-c", d.path)
	eventually(t, "it is up", func() bool { code, _ := d.try("/livez"); return code == http.StatusOK })
	cloud.Publish(testApp, emulator.GenerateUploads(3, 1)...)
	get := func(path string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+secret)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return fmt.Sprint(resp.Header, string(text))
	}
	eventually(t, "every sink has failed", func() bool {
		st := d.status(t)
		parcels := 0
		if st.Parcels != nil {
			parcels = int(st.Parcels.Waiting + st.Parcels.Dead)
		}
		return parcels == 3*len(sinks)
	})
	run("parcels", "list", "--limit", "100")
	run("parcels", "list", "-o", "json", "--limit", "100")
	for _, path := range []string{"/status", "/metrics", "/livez", "/readyz", "/", "/parcels", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/nosuch"} {
		requireClean(t, path, get(path))
	}
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.waitFor(2*patient))
	requireClean(t, "the log", d.stdout.String()+d.stderr.String())
}

func requireClean(t *testing.T, what, text string) {
	t.Helper()
	require.NotEmpty(t, text, what)
	for line := range strings.SplitSeq(text, "\n") {
		require.NotContains(t, line, canary, what)
	}
}

// TestPlantedSecretsOnTheWayToVOD: the proxy to the API and the database of the store are out of order, and named without
// what is secret in their addresses.
func TestPlantedSecretsOnTheWayToVOD(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	dead := programtest.FreeAddress(t)
	for _, proxy := range []string{"http", "https", "socks5"} {
		for _, database := range []string{"postgres://user:" + canary + "@" + dead + "/db?application_name=" + canary, "host=/nowhere user=u dbname=d password=" + canary} {
			d := configured(t, append(environ, "VODRELAY_VOD_PROXY="+proxy+"://user:"+canary+"@"+dead, "VODRELAY_STORE_URL="+database,
				"VODRELAY_STORE_DRIVER=postgres", "VODRELAY_LOG_LEVEL=debug", "VODRELAY_VOD_ENDPOINT=https://vod.tencentcloudapi.com"), "")
			for _, args := range [][]string{{"config", "show"}, {"check"}, {"peek"}, {"mode"}, {"parcels", "list"}, {"drain", "--for", "1s"}} {
				_, out, log := command(t, d.environ, append(args, "-c", d.path)...)
				requireClean(t, strings.Join(args, " "), out+log)
			}
			d.process = start(t, d.environ, "run", "-c", d.path)
			eventually(t, "it has tried", func() bool {
				return strings.Contains(d.stderr.String(), "store") && strings.Contains(d.stderr.String(), "proxy")
			})
			_, status := d.try("/status")
			requireClean(t, "status", status)
			d.signal(syscall.SIGTERM)
			d.waitFor(2 * patient)
			requireClean(t, "the log", d.stderr.String())
		}
	}
}

// TestPlantedSecretsInMistakes has an address with a password under every key that takes text, in a file, the environment
// and flags, and in the arguments of commands: what says that this is wrong does not show it.
func TestPlantedSecretsInMistakes(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"https://user:" + canary + "@host/" + canary + "?" + canary, "user:" + canary + "@host:1"} {
		c := config.Default()
		text, err := c.Redacted("json")
		require.NoError(t, err)
		var whole document
		require.NoError(t, json.Unmarshal(text, &whole))
		plantEverywhere(whole, address)
		var sinks []document
		for _, kind := range config.SinkTypes() {
			sink, _ := config.NewSink(kind)
			var section document
			text, err := json.Marshal(sink)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(text, &section))
			plantEverywhere(section, address)
			section["type"] = kind
			sinks = append(sinks, section)
		}
		whole["sinks"] = sinks
		text, err = json.Marshal(whole)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "vodrelay.yaml")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		list, err := json.Marshal(sinks)
		require.NoError(t, err)
		for _, args := range [][]string{
			{"run", "-c", path}, {"check", "-c", path}, {"config", "show", "-c", path}, {"config", "show", "--set", "sinks=" + string(list)},
			{"config", "show", "--set", address}, {"run", "--set", "vod.endpoint=" + address}, {"run", "--endpoint", address}, {"run", "--log-level", address},
			{address}, {"peek", "-n", address}, {"send", "--to", "smb" + address}, {"config", "show", "-o", address},
			{"config", "show", "--set", `sinks=[{type: webhook, url: "https://host", secret: ` + canary + `}]`},
			{"config", "show", "--set", `sinks=[{type: webhook, url: "https://host", headers: {Authorization: ` + canary + `}}]`},
		} {
			code, out, log := command(t, []string{"VODRELAY_SINKS=" + string(list), "VODRELAY_VOD_ENDPOINT=" + address}, args...)
			require.NotZero(t, code, args)
			requireClean(t, args[0], out+log)
		}
	}
}

// plantEverywhere sets each text in the section.
func plantEverywhere(section document, text string) {
	for key, value := range section {
		switch value := value.(type) {
		case string:
			section[key] = text
		case []any:
			section[key] = []string{text}
		case document:
			if len(value) == 0 {
				value["key"] = text
			}
			plantEverywhere(value, text)
		}
	}
}
