//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// The events of shelf.
const (
	eventA = "0a11111111111111111111111111111a" // dead for site, waiting for archive
	eventB = "0a11111111111111111111111111111b" // dead for site
	eventC = "0c333333333333333333333333333333" // waiting for site, in two applications
)

// shelf is a store with parcels that are not due for an hour, behind commands with or without a daemon.
type shelf struct {
	t       *testing.T
	path    string // of the store
	environ []string
	config  string
	daemon  *running // nil: none
}

func shelfParcel(id, sink string, app uint64, state event.ParcelState) event.Parcel {
	return event.Parcel{
		Event: event.Event{ID: id, Type: event.NewFileUpload, SubAppID: app, Raw: json.RawMessage(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"` + id[:4] + `"}}`)},
		Sink:  sink, State: state, LastError: "404 Not Found", Created: time.Now().Add(-time.Hour), Next: time.Now().Add(time.Hour),
	}
}

// newShelf fills a store and starts a daemon on it, unless it is not wanted. The sinks answer 503.
func newShelf(t *testing.T, withDaemon bool, sinks string, parcels ...event.Parcel) *shelf {
	t.Helper()
	_, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond}) // ready sooner
	s := &shelf{t: t, path: filepath.Join(t.TempDir(), "s.db"), environ: environ}
	cfg := store.DefaultConfig()
	cfg.Path = s.path
	filled, err := store.Open(t.Context(), cfg, zap.NewNop())
	require.NoError(t, err)
	require.NoError(t, filled.Put(t.Context(), parcels...))
	require.NoError(t, filled.Close(t.Context()))
	s.config = fmt.Sprintf("store: {path: %q}\n%s\n", s.path, sinks)
	if withDaemon {
		s.daemon = startDaemon(t, environ, s.config)
		s.environ = s.daemon.environ
		t.Cleanup(s.stop)
	}
	return s
}

func (s *shelf) stop() {
	if s.daemon.cmd.ProcessState == nil {
		s.daemon.signal(syscall.SIGTERM)
		require.Zero(s.t, s.daemon.wait())
	}
}

// args are those of a command about the parcels.
func (s *shelf) args(args ...string) []string {
	if s.daemon != nil {
		return append([]string{"parcels", "-c", s.daemon.path}, args...)
	}
	return append([]string{"parcels", "--config", s.configFile()}, args...)
}

func (s *shelf) configFile() string {
	d := &running{address: "127.0.0.1:0", path: filepath.Join(filepath.Dir(s.path), "vodrelay.yaml")}
	d.configure(s.t, s.config)
	return d.path
}

func (s *shelf) run(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	return command(s.t, s.environ, s.args(args...)...)
}

// left are the parcels that are there, by the beginnings of their names.
func (s *shelf) left() []string {
	s.t.Helper()
	code, out, log := s.run("list", "-o", "json", "--limit", "1000")
	require.Zero(s.t, code, log)
	var views []admin.Parcel
	require.NoError(s.t, json.Unmarshal([]byte(out), &views))
	all := []string{}
	for _, v := range views {
		all = append(all, fmt.Sprintf("%s%s %s %d %s", v.ID[:2], v.ID[31:], v.Sink, v.SubAppID, v.State))
	}
	return all
}

func withAndWithoutDaemon(t *testing.T, test func(t *testing.T, daemon bool)) {
	for _, daemon := range []bool{false, true} {
		t.Run(map[bool]string{false: "without a daemon", true: "through the daemon"}[daemon], func(t *testing.T) { test(t, daemon) })
	}
}

func bothSinks(t *testing.T) string {
	tg := newTarget(t, http.StatusServiceUnavailable)
	return fmt.Sprintf("sinks:\n- {name: site, type: webhook, url: %q}\n- {name: archive, type: webhook, url: %q}", tg.URL, tg.URL)
}

// TestParcelsCommandsChangeWhatTheyName: what does not name parcels clearly changes none, what does changes these.
func TestParcelsCommandsChangeWhatTheyName(t *testing.T) {
	withAndWithoutDaemon(t, func(t *testing.T, daemon bool) {
		s := newShelf(t, daemon, bothSinks(t),
			shelfParcel(eventA, "site", testApp, event.ParcelDead), shelfParcel(eventA, "archive", testApp, event.ParcelWaiting),
			shelfParcel(eventB, "site", testApp, event.ParcelDead),
			shelfParcel(eventC, "site", testApp, event.ParcelWaiting), shelfParcel(eventC, "site", 7, event.ParcelWaiting))
		const aArchive, cSite, cSeven, aSite, bSite = "0aa archive 1500000001 waiting", "0c3 site 1500000001 waiting", "0c3 site 7 waiting", "0aa site 1500000001 dead", "0ab site 1500000001 dead"
		all := []string{aArchive, cSite, cSeven, aSite, bSite}
		require.ElementsMatch(t, all, s.left())

		for line, want := range map[string]struct {
			code int
			text string
		}{
			`--yes|`:                              {exitUsage, "ID 1: is empty: is a variable without a value?"},
			`--yes| `:                             {exitUsage, "ID 1: is empty"},
			`--yes||--sink|site`:                  {exitUsage, "ID 1: is empty"},
			`--yes|` + eventB + `|`:               {exitUsage, "ID 2: is empty"},
			`--yes|0`:                             {exitUsage, `ID 1: "0" is too short`},
			`--yes|0a11111`:                       {exitUsage, "at least its first 8 digits"},
			`--yes|%`:                             {exitUsage, "is not an event's ID"},
			`--yes|0a111111`:                      {exitFailed, "the IDs of several events begin with 0a111111: write more of the one that is meant"},
			`--yes|0a111111|--sink|archive`:       {exitFailed, eventB + " for sink site"},
			`--yes|` + eventA:                     {exitFailed, "add --sink NAME or --all-sinks"},
			`--yes|` + eventB + `|` + eventA:      {exitFailed, eventA + " for sink archive, application 1500000001, waiting, stored 1h"},
			`--yes|` + eventC:                     {exitFailed, "add --sub-app-id N"},
			`--yes|` + eventC + `|--all-sinks`:    {exitFailed, "add --sub-app-id N"},
			`--yes|` + eventB + `|--sink|archive`: {exitFailed, "no parcel of event " + eventB + " fits"},
			`--yes|` + strings.Repeat("f", 32):    {exitFailed, "0 parcels match: nothing was changed"},
			`--yes|ffffffff`:                      {exitFailed, "no parcel of an event whose ID begins with ffffffff"},
			`--yes`:                               {exitUsage, "which parcels?"},
			`--yes|--sink|`:                       {exitUsage, "--sink: is empty: is a variable without a value?"},
			`--yes|--sink| `:                      {exitUsage, "--sink: is empty"},
			`--yes|--sink||--state|dead`:          {exitUsage, "--sink: is empty"},
			`--yes|--type||--state|dead`:          {exitUsage, "--type: is empty"},
			`--yes|--error||--state|dead`:         {exitUsage, "--error: is empty"},
			`--yes|--state|`:                      {exitUsage, "--state: is empty"},
			`--yes|--state|deed`:                  {exitUsage, `--state: "deed": must be waiting or dead`},
			`--yes|--older-than|0|--state|dead`:   {exitUsage, "--older-than: \"0\": write a duration of more than 0"},
			`--yes|--newer-than|-1h|--state|dead`: {exitUsage, "--newer-than: \"-1h\": write a duration of more than 0"},
			`--yes|--sub-app-id|`:                 {exitUsage, "--sub-app-id"},
			`--yes|--all|--sink|site`:             {exitUsage, "--all: is set beside a selection"},
			`--yes|--all|` + eventB:               {exitUsage, "--all: is set beside a selection"},
			`--yes|--all|--sink|`:                 {exitUsage, "--sink: is empty"},
			`--yes|--all-sinks|--state|dead`:      {exitUsage, "--all-sinks: is for IDs"},
			`--yes|--sink|sit`:                    {exitDone, "0 parcels match: nothing was changed"},
			`--yes|--type|NewFileUplod`:           {exitDone, "0 parcels match: nothing was changed"},
			`--all`:                               {exitUsage, "there is no terminal to ask at: add --yes"},
			eventB:                                {exitUsage, "there is no terminal to ask at: add --yes"},
			`--all|--dry-run`:                     {exitDone, "5 parcels"},
			`--sink|site|--dry-run`:               {exitDone, "sink site: 2 dead"},
			eventB + `|--dry-run`:                 {exitDone, eventB + " for sink site"},
			`--all|--dry-run|--yes`:               {exitDone, "nothing was changed (--dry-run)"},
		} {
			for _, verb := range []string{"drop", "replay"} {
				code, _, log := s.run(append([]string{verb}, strings.Split(line, "|")...)...)
				require.Equal(t, want.code, code, "%s %s: %s", verb, line, log)
				require.Contains(t, log, want.text, "%s %s", verb, line)
			}
		}
		for _, args := range [][]string{{"list", "--sink", ""}, {"export", "--sink", ""}, {"show", ""}, {"show", eventB, "--sink", " "}, {"list", "--id", ""}, {"list", "--id", "0"}, {"export", "--older-than", "0"}, {"drop", "--all", "--yes", "--config", ""}} {
			code, out, log := s.run(args...)
			require.Equal(t, exitUsage, code, "%q: %s", args, log)
			require.Empty(t, out, "%q", args)
		}
		require.ElementsMatch(t, all, s.left(), "nothing of that changed anything")

		code, out, log := s.run("show", "  "+strings.ToUpper(eventA[:31])+" ")
		require.Equal(t, exitFailed, code)
		require.Empty(t, out)
		require.Contains(t, log, "write more of the ID")
		code, out, log = s.run("show", strings.ToUpper(eventC[:8]))
		require.Zero(t, code, log)
		require.Equal(t, 2, strings.Count(out, eventC))
		code, out, log = s.run("list", "--id", "0a111111", "-o", "json")
		require.Zero(t, code, log)
		require.Equal(t, 3, strings.Count(out, `"id"`), "a list may show several events")

		drop := func(message string, left []string, args ...string) {
			t.Helper()
			code, _, log := s.run(append([]string{"drop", "--yes"}, args...)...)
			require.Zero(t, code, log)
			require.Contains(t, log, message)
			require.ElementsMatch(t, left, s.left(), args)
		}
		drop("1 parcel is deleted", []string{aArchive, cSite, cSeven, bSite}, eventA, "--sink", "site")
		drop("1 parcel is deleted", []string{aArchive, cSite, bSite}, eventC[:8], "--sub-app-id", "7")
		drop("1 parcel is deleted", []string{aArchive, cSite}, "--state", "dead", "--error", "404")
		drop("2 parcels are deleted", []string{}, "--all")
		code, _, log = s.run("drop", "--all", "--yes")
		require.Zero(t, code, log)
		require.Contains(t, log, "0 parcels match")
	})
}
