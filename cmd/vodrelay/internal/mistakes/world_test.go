//go:build unix

package mistakes

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	app     = 1500000001
	patient = 30 * time.Second // what a step may take on a busy machine
	// short are the times of a sink that make an entry quick: an event is parked after one attempt, and soon sent again.
	short = `retry: {max_attempts: 1}, breaker: {open: 200ms}, parcels: {initial: 50ms, max: 200ms}`
)

// world is one daemon with its configuration, VOD's API before it and targets behind it.
type world struct {
	t       *testing.T
	dir     string
	cloud   *emulator.Server
	environ []string
	servers *servers
	admin   string // address of the daemon's admin server

	targets  []target
	endpoint *endpoint // the webhook's, if there is one
	text     string    // the configuration
	original string    // what it was before the mistake

	daemon *process // nil: stopped
	since  int      // where the daemon's log was at the mistake
	ran    *result  // of the last command

	// What an entry's server has for it.
	kafka     *kfake.Cluster
	jetstream jetstream.JetStream
	amqp      *amqp.Channel
	key, user string
	database  string
	callback  string // the receiver's address
	release   func()

	published []published
	seed      uint64
	misses    map[string]int
	notPulled bool // events come by callback
}

// published is an event in the queue.
type published struct {
	id     string
	number int64
}

// target is where a sink of the world delivers to.
type target struct {
	name string
	// got are the IDs of the events that have arrived.
	got func() map[string]bool
}

// result is what a command left.
type result struct {
	code int
	said string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), admin: programtest.FreeAddress(t)}
	var url string
	w.cloud, url = programtest.Emulator(t, emulator.Options{Hold: time.Second, Lease: 3 * time.Second, SubAppIDs: []uint64{app, app + 1}})
	w.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir,
		"TENCENTCLOUD_SECRET_ID=" + emulator.DefaultSecretID, "TENCENTCLOUD_SECRET_KEY=" + emulator.DefaultSecretKey,
	}
	w.text = fmt.Sprintf("vod: {endpoint: %q, sub_app_ids: [%d]}\nadmin: {listen: %q}\nstore: {path: %q}\nsinks:\n",
		url, app, w.admin, w.path("s.db"))
	return w
}

// path is one in the world's directory.
func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// config is the path of the configuration.
func (w *world) config() string { return w.path("vodrelay.yaml") }

// add adds a sink with the keys, which are YAML as between braces, and its target.
func (w *world) add(name, keys string, got func() map[string]bool) {
	w.text += fmt.Sprintf("- {name: %s, %s, %s}\n", name, keys, short)
	seen := map[string]bool{} // what was there once its reader has
	w.targets = append(w.targets, target{name, func() map[string]bool { maps.Copy(seen, got()); return seen }})
}

// replace changes the configuration, which must have the old text.
func (w *world) replace(old, text string) {
	w.t.Helper()
	require.Contains(w.t, w.text, old)
	w.text = strings.Replace(w.text, old, strings.ReplaceAll(text, "{dir}", w.dir), 1)
	w.write()
}

func (w *world) write() {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(w.config(), []byte(w.text), 0o600))
}

// begin starts the daemon.
func (w *world) begin() {
	w.t.Helper()
	w.original = w.text
	w.write()
	if !w.notPulled {
		w.publish(batch) // so that the first poll ends at once
	}
	w.launch()
	if w.notPulled {
		w.publish(batch)
	}
	w.delivered("what came before the mistake")
	w.settled()
}

// spawn starts the daemon.
func (w *world) spawn() {
	w.t.Helper()
	w.daemon, w.since = start(w.t, w.environ, w.dir, "run", "-c", w.config()), 0
}

// endpointText is the address of VOD's API in the configuration.
func (w *world) endpointText() string {
	_, rest, _ := strings.Cut(w.text, `endpoint: "`)
	address, _, _ := strings.Cut(rest, `"`)
	return address
}

// launch starts the daemon and waits until it is ready.
func (w *world) launch() {
	w.t.Helper()
	w.spawn()
	w.eventually("the daemon is ready", func() bool {
		require.Nil(w.t, w.daemon.ended(), "the daemon ended: %s", w.daemon.stderr)
		code, _ := w.ask("/readyz")
		return code == http.StatusOK
	})
}

// reload sends SIGHUP and waits for what becomes of it.
func (w *world) reload() {
	w.t.Helper()
	w.mark()
	require.NoError(w.t, w.daemon.cmd.Process.Signal(syscall.SIGHUP))
	w.eventually("the reload has ended", func() bool {
		said := w.logged()
		return strings.Contains(said, `"msg":"configuration reloaded"`) || strings.Contains(said, `"msg":"the configuration was not reloaded`)
	})
}

// mark has logged begin here.
func (w *world) mark() { w.since = len(w.daemon.stderr.String()) }

// logged is what the daemon has logged since the last reload or start.
func (w *world) logged() string { return w.daemon.stderr.String()[w.since:] }

// halt stops the daemon in order.
func (w *world) halt() {
	w.t.Helper()
	require.NoError(w.t, w.daemon.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(w.t, w.daemon.wait(), "of the stop")
	w.daemon = nil
}

// stop is halt at the end, after which the store must be as empty as it was said to be.
func (w *world) stop() {
	w.t.Helper()
	if w.daemon != nil {
		w.halt()
	}
}

// command runs one with the daemon's configuration to its end.
func (w *world) command(args ...string) *result {
	w.t.Helper()
	args = slices.Clone(args) // which other entries have, too
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{dir}", w.dir)
	}
	if !slices.Contains(args, "-c") {
		args = append(args, "-c", w.config())
	}
	return w.ends(args...)
}

// ends runs a command to its end.
func (w *world) ends(args ...string) *result {
	w.t.Helper()
	if args[0] == "run" && len(args) == 1 {
		args = append(args, "-c", w.config())
	}
	p := start(w.t, w.environ, w.dir, args...)
	w.ran = &result{code: p.wait()}
	w.ran.said = plain(p.stderr.String()) + p.stdout.String()
	return w.ran
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	require.Eventually(w.t, ok, patient, 20*time.Millisecond, what)
}

// ask asks the daemon's admin server.
func (w *world) ask(path string) (int, string) {
	resp, err := http.Get("http://" + w.admin + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(body)
}

func (w *world) status() (st admin.Status) {
	if code, body := w.ask("/status"); code == http.StatusOK {
		require.NoError(w.t, json.Unmarshal([]byte(body), &st))
	}
	return st
}

// troubles are what /status says about the sinks, the queues and the store, a line each with its hint.
func (w *world) troubles() (all []string) {
	st := w.status()
	failing := func(name string, f *admin.FailingStatus) {
		if f != nil {
			all = append(all, name+": "+f.LastError+": "+f.Hint)
		}
	}
	failing("store", st.StoreFailing)
	for _, q := range st.Queues {
		failing("pull", q.PullFailing)
		failing("confirm", q.ConfirmFailing)
	}
	for _, s := range st.Sinks {
		all = append(all, s.Name+" is "+s.State+": "+s.LastError+": "+s.Hint, s.Name+" refuses: "+s.LastRefusal+": "+s.RefusalHint)
	}
	for _, gone := range st.Removed {
		all = append(all, fmt.Sprintf("removed %s: %d waiting, %d dead", gone.Sink, gone.Waiting, gone.Dead))
	}
	return append(all, fmt.Sprintf("unrouted: %d", st.Unrouted))
}

// publish puts events into the queue.
func (w *world) publish(n int) {
	w.t.Helper()
	w.seed++
	contents := emulator.GenerateUploads(n, w.seed)
	numbers := w.cloud.Publish(app, contents...)
	for i, content := range contents {
		e, _, err := event.Decode(content, app)
		require.NoError(w.t, err)
		w.published = append(w.published, published{e.ID, numbers[i]})
	}
}

// missing are the targets with how many of the events they lack.
func (w *world) missing() (text string) {
	for _, target := range w.targets {
		got, lacks := target.got(), 0
		for _, e := range w.published {
			if !got[e.id] {
				lacks++
			}
		}
		if lacks != w.misses[target.name] {
			text += fmt.Sprintf("%s lacks %d of %d events; ", target.name, lacks, len(w.published))
		}
	}
	return text
}

// delivered waits until every event that was published is at every target.
func (w *world) delivered(what string) {
	w.t.Helper()
	missing := ""
	if !assert.Eventually(w.t, func() bool { missing = w.missing(); return missing == "" }, 2*patient, 20*time.Millisecond) { // a key that was refused is tried again after 30s
		require.Fail(w.t, what, missing)
	}
}

// settled waits until the queue has no event and the store no parcel.
func (w *world) settled() {
	w.t.Helper()
	w.confirmed()
	if w.daemon == nil {
		return
	}
	w.eventually("no parcel is left", func() bool {
		st := w.status()
		return st.Ready && (st.Parcels == nil && st.Store == "" || st.Parcels != nil && st.Parcels.Waiting == 0 && st.Parcels.Dead == 0)
	})
}

// confirmed waits until the queue has no event.
func (w *world) confirmed() {
	w.t.Helper()
	w.eventually("every event is confirmed", func() bool {
		return w.notPulled || !slices.ContainsFunc(w.published, func(e published) bool { return !w.cloud.Confirmed(e.number) })
	})
}
