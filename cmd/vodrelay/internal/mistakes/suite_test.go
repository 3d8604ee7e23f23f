//go:build unix

package mistakes

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
)

// mistake is one entry: what a person does wrong while vodrelay runs, what vodrelay says, and what puts it right. The
// suite publishes events before the mistake, after it and after the correction, and asserts at the end that each is at
// every target, that no parcel is left, that the daemon has been running all the time unless code says otherwise, and
// that it stops with 0.
//
// In log, says and shows, " … " stands for any text within one line: what is wrong and what to do about it belong together.
type mistake struct {
	name string
	// world is the daemon's surroundings before the mistake; nil: a webhook.
	world func(w *world)
	// make makes the mistake.
	make action
	// log is in one line of the daemon's log after the mistake.
	log string
	// shows is in one text of /status: the error of a sink or queue and its hint.
	shows string
	// says is in one line of what the last command printed that make ran, and code is its exit code. A daemon that was
	// restarted and ended is such a command, too.
	says string
	code int
	// fix puts it right; nil: the configuration is what it was before, and the daemon is reloaded, or started where it
	// has ended.
	fix action
	// spares: the mistake delays no event, so those that are published after it arrive before the correction.
	spares bool
	// misses is how many events a target never gets, by its name: the documentation says so of this mistake.
	misses map[string]int
}

// action is something that a person does.
type action func(w *world)

// batch is how many events come before the mistake, after it and after the correction.
const batch = 3

// atOnce is how many entries play at a time: they wait most of it.
const atOnce = "12"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	programtest.Main(m)
}

// tables are all entries.
var tables = [][]mistake{cloud, reloads, conditions, starts, webhooks, files, scripts, brokers, rows, stores, commands, parcels, callbacks}

func TestMistakes(t *testing.T) {
	t.Parallel()
	shared := newServers(t)
	var all []string
	for _, table := range tables {
		for _, m := range table {
			require.NotContains(t, all, m.name)
			all = append(all, m.name)
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				m.play(t, shared)
			})
		}
	}
	t.Logf("%d mistakes", len(all))
}

func (m mistake) play(t *testing.T, shared *servers) {
	w := newWorld(t)
	w.servers = shared
	if m.world == nil {
		m.world = toSite
	}
	m.world(w)
	w.begin()
	w.mark()
	m.make(w)
	w.publish(batch)
	if m.says != "" || m.code != 0 {
		require.NotNil(t, w.ran, "make runs no command that could say something")
		require.Equal(t, m.code, w.ran.code, w.ran.said)
		require.True(t, anyLine(w.ran.said, m.says), "it should say %q and says:\n%s", m.says, w.ran.said)
	}
	if m.log != "" {
		w.eventually(fmt.Sprintf("the log says %q", m.log), func() bool { return anyLine(plain(w.logged()), m.log) })
	}
	if m.shows != "" {
		w.eventually(fmt.Sprintf("/status shows %q", m.shows), func() bool { return slices.ContainsFunc(w.troubles(), func(s string) bool { return fits(s, m.shows) }) })
	}
	w.misses = m.misses
	switch { // what is lost is lost before the correction
	case m.misses == nil:
	case w.notPulled:
		w.eventually("VOD posts no more", func() bool {
			c := w.cloud.Counts()
			return int(c.Acknowledged+c.GivenUp) == len(w.published)
		})
	default:
		w.confirmed()
	}
	if m.spares {
		w.delivered("what came after the mistake")
	}
	if w.daemon != nil {
		require.Nil(t, w.daemon.ended(), "the daemon runs on")
	}

	if m.fix == nil {
		m.fix = restore
	}
	w.ran = nil
	m.fix(w)
	if w.ran != nil {
		require.Zero(t, w.ran.code, "of the correction: %s", w.ran.said)
	}
	w.publish(batch)
	w.delivered("everything after the correction")
	w.settled()
	w.stop()
}

// fits reports whether the line has the parts of pattern, which " … " separates, in their order.
func fits(line, pattern string) bool {
	for part := range strings.SplitSeq(pattern, " … ") {
		_, rest, found := strings.Cut(line, part)
		if !found {
			return false
		}
		line = rest
	}
	return true
}

// anyLine reports whether one of the lines fits.
func anyLine(text, pattern string) bool {
	for line := range strings.Lines(text) {
		if fits(line, pattern) {
			return true
		}
	}
	return false
}

// toSite is a world with a webhook.
func toSite(w *world) { w.add(w.site()) }

// restore takes the mistake out of the configuration.
func restore(w *world) {
	w.text = w.original
	w.write()
	if w.daemon == nil || w.daemon.ended() != nil {
		w.launch()
		return
	}
	w.reload()
}

// edit replaces a text in the configuration and reloads it.
func edit(old, text string) action {
	return func(w *world) {
		w.replace(old, text)
		w.reload()
	}
}

// restart replaces a text in the configuration and restarts the daemon, which is expected to end then.
func restart(old, text string) action {
	return func(w *world) {
		w.replace(old, text)
		w.halt()
		w.ends("run")
	}
}

// run runs a command of vodrelay with the daemon's configuration; {dir} in an argument is the world's directory.
func run(args ...string) action {
	return func(w *world) { w.command(args...) }
}

// each does one thing after the other.
func each(actions ...action) action {
	return func(w *world) {
		for _, a := range actions {
			a(w)
		}
	}
}

// nothing is for a mistake that changes nothing.
func nothing(*world) {}

// answers has the webhook answer with a status from now on.
func answers(status int) action {
	return func(w *world) {
		w.endpoint.answer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(status) }))
	}
}

// write makes a file in the world's directory.
func write(name, content string) action {
	return func(w *world) { require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600)) }
}
