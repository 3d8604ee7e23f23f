//go:build unix

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

const (
	eventD = "0d444444444444444444444444444444"
	eventE = "0e555555555555555555555555555555"
)

// goneShelf has parcels of sinks that are not configured: waiting, dead, and one of an event of which the sink
// site has a parcel already.
func goneShelf(t *testing.T, daemon bool, sinks string) *shelf {
	processed := shelfParcel(eventE, event.Unprocessed, testApp, event.ParcelDead)
	return newShelf(t, daemon, sinks,
		shelfParcel(eventA, "old", testApp, event.ParcelWaiting), shelfParcel(eventB, "old", testApp, event.ParcelWaiting),
		shelfParcel(eventC, "old", testApp, event.ParcelDead), shelfParcel(eventD, "old", testApp, event.ParcelWaiting),
		shelfParcel(eventD, "site", testApp, event.ParcelDead), processed)
}

func TestMoveTheParcelsOfASinkThatIsGone(t *testing.T) {
	t.Parallel()
	withAndWithoutDaemon(t, func(t *testing.T, daemon bool) {
		tg := newTarget(t, http.StatusOK)
		s := goneShelf(t, daemon, fmt.Sprintf("sinks: [{name: site, type: webhook, url: %q}]", tg.URL))
		const hint = "hand them to another sink with `vodrelay parcels move --from old --to NEW`, or delete them with `vodrelay parcels drop --sink old`"
		before := s.left()
		if daemon {
			eventually(t, "the start reports it", func() bool {
				return strings.Contains(s.daemon.stderr.String(), "parcels wait for a sink that is not in the configuration")
			})
			log := s.daemon.stderr.String()
			require.Contains(t, log, `"sink":"old","waiting":3,"dead":1,"hint":"`+hint)
			require.NotContains(t, log, `"sink":"-"`)
			require.Equal(t, []selection.Gone{{Sink: "old", Waiting: 3, Dead: 1}}, s.daemon.status(t).Removed)
		}
		code, out, log := command(t, s.environ, append([]string{"check"}, s.args()[1:]...)...)
		require.Zero(t, code, out+log)
		require.Contains(t, out, "warning     parcels of sink old: 3 waiting and 1 dead, for a sink that is not in the configuration")
		require.Contains(t, out, hint)
		require.Equal(t, 1, strings.Count(out, "parcels of sink"))

		for args, want := range map[string]struct {
			code int
			text string
		}{
			"--from|old|--to|sit|--yes":        {exitFailed, "did you mean site?"},
			"--from|old|--to|elsewhere|--yes":  {exitFailed, "there is no sink elsewhere in the configuration"},
			"--from|site|--to|site|--yes":      {exitFailed, "sink site is in the configuration"},
			"--from|-|--to|site|--yes":         {exitFailed, "replay them"},
			"--from|old|--to|-|--yes":          {exitFailed, "is no sink"},
			"--from||--to|site|--yes":          {exitUsage, "--from: is empty"},
			"--from|old|--to| |--yes":          {exitUsage, "--to: is empty"},
			"--from|old|--yes":                 {exitUsage, "--to: is empty"},
			"--from|old|--to|site":             {exitUsage, "add --yes in a script"},
			"--from|old|--to|site|--dry-run":   {exitDone, "to move to site: 4 parcels\n  sink old: 3 waiting\n  sink old: 1 dead\n"},
			"--from|older|--to|site|--yes":     {exitDone, "0 parcels match: nothing was changed"},
			"--from|old|--to|site|--yes|extra": {exitUsage, "takes no arguments"},
		} {
			code, _, log := s.run(append([]string{"move"}, strings.Split(args, "|")...)...)
			require.Equal(t, want.code, code, "%s: %s", args, log)
			require.Contains(t, log, want.text, args)
		}
		require.Equal(t, before, s.left())

		code, _, log = s.run("move", "--from", "old", "--to", "site", "--yes")
		require.Zero(t, code, log)
		require.Contains(t, log, "3 parcels are moved to sink site")
		require.Contains(t, log, "1 parcel is left with sink old: sink site has a parcel of the same event already: drop these with `vodrelay parcels drop --sink old`")
		kept := []string{"0d4 old 1500000001 waiting", "0e5 - 1500000001 dead", "0c3 site 1500000001 dead", "0d4 site 1500000001 dead"}
		if !daemon {
			require.ElementsMatch(t, append(kept, "0aa site 1500000001 waiting", "0ab site 1500000001 waiting"), s.left())
			return
		}
		eventually(t, "they are sent at once, as those that were waiting", func() bool {
			return tg.accepted()[eventA] == 1 && tg.accepted()[eventB] == 1
		})
		eventually(t, "they are done with", func() bool { return len(s.left()) == len(kept) })
		require.ElementsMatch(t, kept, s.left())
		eventually(t, "the status follows", func() bool {
			return slices.Equal([]selection.Gone{{Sink: "old", Waiting: 1}}, s.daemon.status(t).Removed)
		})
	})
}

// What the condition of the new sink does not want would be deleted unsent when its turn comes.
func TestAMoveKeepsWhatTheNewSinkDoesNotWant(t *testing.T) {
	withAndWithoutDaemon(t, func(t *testing.T, daemon bool) {
		tg := newTarget(t, http.StatusOK)
		s := goneShelf(t, daemon, fmt.Sprintf("sinks: [{name: site, type: webhook, url: %q, when: FileUploadEvent.FileId == %q}]", tg.URL, eventC[:4]))
		code, _, log := s.run("move", "--from", "old", "--to", "site", "--yes")
		require.Zero(t, code, log)
		require.Contains(t, log, "1 parcel is moved to sink site")
		require.Contains(t, log, "3 parcels are left with sink old: the condition (when) of sink site does not want the event")
		require.Len(t, s.left(), 6)
	})
}

// A reload that takes a sink away says what it leaves behind, and what was renamed can be moved then.
func TestAReloadReportsTheParcelsOfASinkThatIsGone(t *testing.T) {
	tg := newTarget(t, http.StatusOK)
	sinks := func(names ...string) string {
		text := "sinks:\n"
		for _, name := range names {
			text += fmt.Sprintf("- {name: %s, type: webhook, url: %q}\n", name, tg.URL)
		}
		return text
	}
	s := newShelf(t, true, sinks("first", "second"), shelfParcel(eventA, "second", testApp, event.ParcelWaiting))
	s.daemon.reload(t, s.config+"relay: {max_in_hand: 64}\n", "configuration reloaded")
	s.config = strings.Replace(s.config, "name: second", "name: renamed", 1)
	s.daemon.reload(t, s.config, "configuration reloaded")
	eventually(t, "the reload reports it", func() bool {
		return strings.Contains(s.daemon.stderr.String(), `"msg":"parcels wait for a sink that is not in the configuration","sink":"second","waiting":1,"dead":0`)
	})
	require.Equal(t, 1, strings.Count(s.daemon.stderr.String(), "parcels wait for a sink"), "and only that reload")
	began := time.Now()
	code, _, log := s.run("move", "--from", "second", "--to", "renamed", "-y")
	require.Zero(t, code, log)
	eventually(t, "it is sent", func() bool { return tg.accepted()[eventA] == 1 })
	require.Less(t, time.Since(began), 20*time.Second, "at once, not when a lane happens to look")
}

// An import may bring parcels of a sink that is not here.
func TestAnImportReportsUnknownSinks(t *testing.T) {
	tg := newTarget(t, http.StatusOK)
	s := newShelf(t, false, fmt.Sprintf("sinks: [{name: site, type: webhook, url: %q}]", tg.URL))
	p := startAt(t, strings.NewReader(fmt.Sprintf(`{"id":%q,"type":"T","sink":"sit","state":"dead","created":"2026-01-31T12:00:00Z","updated":"2026-01-31T12:00:00Z"}`+"\n", eventA)), s.environ, s.args("import")...)
	require.Zero(t, p.wait())
	require.Contains(t, p.stderr.String(), "parcels of sink sit: 0 waiting and 1 dead, for a sink that is not in the configuration")
	for id, problem := range map[string]string{"": "line 1: id", "0a": "line 1: id", strings.ToUpper(eventB): "line 1: id"} {
		p := startAt(t, strings.NewReader(fmt.Sprintf(`{"id":%q,"type":"T","sink":"site","state":"dead","created":"2026-01-31T12:00:00Z","updated":"2026-01-31T12:00:00Z"}`, id)), s.environ, s.args("import")...)
		require.NotZero(t, p.wait())
		require.Contains(t, p.stderr.String(), problem)
	}
	require.Len(t, s.left(), 1)
}
