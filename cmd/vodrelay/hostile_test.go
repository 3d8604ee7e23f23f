//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// hostile is one of each kind of what steers a terminal, hides, turns or breaks a line; hostileRaw is the same as it can
// stand in JSON without an escape.
const (
	hostile    = "a\x1b[2J\x1b]0;t\x07\x00\x7f\u009b31m\u202e\u2066\u200b\u200d\ufeff\u2028\u2029\u00ad\U000e0041z"
	hostileRaw = "a\x7f\u009b31m\u202e\u2066\u200b\u200d\ufeff\u2028\u2029\u00ad\U000e0041\xffz"
)

// requireHarmless checks that a person can read what the program said.
func requireHarmless(t *testing.T, what, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text), "%s: %q", what, text)
	for i, r := range text {
		if r != '\n' && r != '\t' && !safetext.Visible(r) {
			require.Fail(t, "what cannot be seen", "%s: %q in %q", what, r, text[max(0, i-100):min(len(text), i+100)])
		}
	}
}

func hostileEvents(t *testing.T) []json.RawMessage {
	t.Helper()
	name, err := json.Marshal(hostile)
	require.NoError(t, err)
	return []json.RawMessage{
		json.RawMessage(fmt.Sprintf(`{"EventType":%s,"FileUploadEvent":{"FileId":%s,"MediaBasicInfo":{"Name":%s}}}`, name, name, name)),
		json.RawMessage(fmt.Sprintf(`{"EventType":%q,"FileUploadEvent":{"FileId":"%s","MediaBasicInfo":{"Name":"%s"}}}`, "NewFileUpload", hostileRaw, hostileRaw)),
		json.RawMessage(fmt.Sprintf(`{"EventType":"%s","FileUploadEvent":{"FileId":"1"}}`, "odd"+hostileRaw)),
	}
}

// meaning is what a parser makes of an event: no two texts that it takes for one differ in it.
func meaning(t *testing.T, content []byte) string {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal(content, &value), "%s", content)
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}

func meanings(t *testing.T, events []json.RawMessage) []string {
	t.Helper()
	all := make([]string, len(events))
	for i, content := range events {
		all[i] = meaning(t, content)
	}
	return all
}

// refusing is a target that refuses each event, with a hostile reason.
func refusing(t *testing.T) *httptest.Server {
	tg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, "no "+hostile+"\xff\nsecond line\n")
	}))
	t.Cleanup(tg.Close)
	return tg
}

// TestHostileContentSteersNoTerminal reads whatever shows an event to a person.
func TestHostileContentSteersNoTerminal(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			cloud, environ := startEmulator(t, emulator.Options{})
			tg := refusing(t)
			events := hostileEvents(t)
			d := startDaemon(t, environ, fmt.Sprintf("store: {path: %q}\nlog: {level: debug, format: %s}\nsinks: [{name: site, type: webhook, url: %q, when: not (type startsWith 'odd')}]\n",
				filepath.Join(t.TempDir(), "s.db"), format, tg.URL))
			cloud.Publish(testApp, events...)
			eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == int64(len(events)) })
			for _, path := range []string{"/status", "/", "/parcels", "/metrics", "/readyz?verbose"} {
				code, body := d.try(path)
				require.Equal(t, http.StatusOK, code)
				requireHarmless(t, path, body)
			}
			_, page := d.try("/")
			require.Contains(t, page, `\u202e`, "it is there, and can be seen")

			said := func(args ...string) string {
				code, out, log := command(t, d.environ, append(args, "-c", d.path)...)
				require.Zero(t, code, log)
				requireHarmless(t, strings.Join(args, " "), out+log)
				return out
			}
			require.Contains(t, said("parcels", "list"), `\u202e`)
			var listed []admin.Parcel
			require.NoError(t, json.Unmarshal([]byte(said("parcels", "list", "-o", "json")), &listed))
			require.Len(t, listed, 2)
			for _, p := range listed {
				var shown []admin.Parcel
				require.NoError(t, json.Unmarshal([]byte(said("parcels", "show", p.ID)), &shown))
				require.Contains(t, meanings(t, events), meaning(t, shown[0].Content))
			}
			said("parcels", "replay", "--all", "--dry-run")
			d.signal(syscall.SIGTERM)
			require.Zero(t, d.wait())
			requireHarmless(t, "the log", d.stderr.String())
			require.Contains(t, d.stderr.String(), `\u202e`)
		})
	}
}

// TestHostileContentIsTheSameAfterAnExport moves parcels to another store.
func TestHostileContentIsTheSameAfterAnExport(t *testing.T) {
	t.Parallel()
	parcels := make([]event.Parcel, 0, 3)
	for i, content := range hostileEvents(t) {
		e, _, err := event.Decode(content, testApp)
		require.NoError(t, err)
		parcels = append(parcels, event.Parcel{Event: e, Sink: fmt.Sprint("gone", hostile, i), State: event.ParcelDead, LastError: "no\n" + hostile, FirstError: hostile})
	}
	from, to := newShelf(t, false, bothSinks(t), parcels...), newShelf(t, false, bothSinks(t))
	code, exported, log := from.run("export")
	require.Zero(t, code, log)
	requireHarmless(t, "export", exported+log)
	file := filepath.Join(t.TempDir(), "parcels")
	require.NoError(t, os.WriteFile(file, []byte(exported), 0o600))
	code, out, log := to.run("import", file)
	require.Zero(t, code, log)
	requireHarmless(t, "import", out+log)
	_, again, _ := to.run("export")
	require.Equal(t, exported, again)
	for _, s := range []*shelf{from, to} {
		for _, args := range [][]string{{"list"}, {"drop", "--all", "--dry-run"}, {"drop", "--all", "--yes"}} {
			code, out, log := s.run(args...)
			require.Zero(t, code, log)
			requireHarmless(t, args[0], out+log)
		}
	}
	for _, line := range []string{`{"id":"` + hostileRaw + `"}`, `{"` + hostileRaw + `":1}`, hostile} {
		require.NoError(t, os.WriteFile(file, []byte(line), 0o600))
		code, out, log := to.run("import", file)
		require.Equal(t, exitFailed, code, log)
		requireHarmless(t, "import", out+log)
	}
	_, out, log = to.run("import", file+hostileRaw[:20])
	requireHarmless(t, "import of no file", out+log)
}

// TestHostileContentInOtherCommands is what needs no daemon.
func TestHostileContentInOtherCommands(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	events := hostileEvents(t)
	said := func(code int, args ...string) string {
		t.Helper()
		ended, out, log := command(t, environ, args...)
		require.Equal(t, code, ended, log)
		requireHarmless(t, strings.Join(args, " "), out+log)
		return out
	}
	said(exitDone, "mode", "--url", "https://example.com/"+strings.ReplaceAll(hostileRaw, "\x7f", ""))
	said(exitDone, "mode")
	said(exitConfig, "check", "--set", "sinks=[{type: stdout, n"+hostileRaw+": 1}]")
	said(exitUsage, "peek", "--no"+strings.ReplaceAll(hostile, "\x00", ""))
	said(exitUsage, "p"+strings.ReplaceAll(hostile, "\x00", ""))

	file := filepath.Join(t.TempDir(), "events")
	require.NoError(t, os.WriteFile(file, append(events[0], "\n"+hostile...), 0o600))
	said(exitFailed, "send", file, "--to", refusing(t).URL, "--tries", "1")

	cloud.Publish(testApp, events...)
	said(exitDone, "peek", "-n", "3")
	cloud, environ = startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, events...)
	said(exitDone, "peek", "-n", "3", "-o", "json")
	cloud, environ = startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, events...)
	lines := strings.Split(strings.TrimSpace(said(exitDone, "drain", "--quiet-for", "0")), "\n")
	require.Len(t, lines, len(events))
	for _, line := range lines {
		require.Contains(t, meanings(t, events), meaning(t, []byte(line)))
	}
}
