//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// target is a webhook endpoint that can be told what to answer.
type target struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    map[string]int // accepted requests by event ID
}

func newTarget(t *testing.T, status int) *target {
	t.Helper()
	tg := &target{status: status, got: map[string]int{}}
	tg.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tg.mu.Lock()
		defer tg.mu.Unlock()
		if tg.status < 300 {
			_, id, _ := strings.Cut(r.Header.Get("Idempotency-Key"), "-") // behind the application
			tg.got[id]++
		}
		w.WriteHeader(tg.status)
	}))
	t.Cleanup(tg.Close)
	return tg
}

func (tg *target) answer(status int) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.status = status
}

func (tg *target) accepted() map[string]int {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	all := make(map[string]int, len(tg.got))
	for id, n := range tg.got {
		all[id] = n
	}
	return all
}

// webhookSink is the environment of a relay into tg, with short times.
func webhookSink(environ []string, tg *target) []string {
	return append(environ, fmt.Sprintf(`VODRELAY_SINKS=[{name: site, type: webhook, url: %q, breaker: {open: 200ms}, parcels: {initial: 100ms, max: 1s}, retry: {initial: 20ms}}]`, tg.URL))
}

func listParcels(t *testing.T, environ []string, args ...string) []admin.Parcel {
	t.Helper()
	code, out, log := command(t, environ, append([]string{"parcels", "list", "-o", "json", "--limit", "100000"}, args...)...)
	require.Equal(t, exitDone, code, log)
	var views []admin.Parcel
	require.NoError(t, json.Unmarshal([]byte(out), &views))
	return views
}

func TestAnOutageLosesNothingAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	tg := newTarget(t, http.StatusServiceUnavailable)
	environ = webhookSink(environ, tg)
	contents := emulator.GenerateUploads(500, 1)
	cloud.Publish(testApp, contents...)
	p := start(t, environ, "run")
	eventually(t, "all are confirmed while the target is down", func() bool { return cloud.Counts().Confirmed == 500 })
	require.Empty(t, tg.accepted())
	require.Len(t, listParcels(t, environ, "--state", "waiting"), 500, "beside the running daemon")

	p.signal(syscall.SIGKILL)
	require.Equal(t, -1, p.wait())
	p = start(t, environ, "run")
	tg.answer(http.StatusOK)
	eventually(t, "all arrive", func() bool { return len(tg.accepted()) == 500 })
	eventually(t, "the store is empty", func() bool { return len(listParcels(t, environ)) == 0 })
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	want := ids(t, contents)
	for id := range tg.accepted() {
		require.True(t, want[id])
	}
}

func TestASecondDaemonOnOneFileIsRefused(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	p := start(t, environ, "run")
	eventually(t, "the first runs", func() bool { return cloud.Counts().Waiting > 0 })
	second := start(t, environ, "run")
	require.Equal(t, exitFailed, second.wait())
	require.Contains(t, second.stderr.String(), "another vodrelay uses the store")
	state := filepath.Join(homeOf(environ), ".local/state/vodrelay")
	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(filepath.Join(state, "vodrelay.db"), link))
	_ = os.Remove(filepath.Join(state, "vodrelay.db.lock"))
	second = start(t, environ, "run", "--set", "store.path="+link)
	require.Equal(t, exitFailed, second.wait())
	require.Contains(t, second.stderr.String(), "another vodrelay uses the store")
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
}

func TestADrainIntoADeadTargetEndsWith3(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	tg := newTarget(t, http.StatusServiceUnavailable)
	cloud.Publish(testApp, emulator.GenerateUploads(20, 1)...)
	p := start(t, webhookSink(environ, tg), "drain", "--quiet-for", "0")
	require.Equal(t, exitParked, p.wait(), p.stderr.String())
	require.Contains(t, p.stderr.String(), "20 parcels wait to be sent again")
	tg.answer(http.StatusNoContent)
	p = start(t, webhookSink(environ, tg), "drain", "--quiet-for", "0")
	require.Zero(t, p.wait(), p.stderr.String())
	require.Len(t, tg.accepted(), 20)
}

func TestParcelsCommands(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond})
	tg := newTarget(t, http.StatusBadRequest) // the target refuses for good
	environ = webhookSink(environ, tg)
	cloud.Publish(testApp, emulator.GenerateUploads(10, 1)...)
	require.Equal(t, exitParked, start(t, environ, "drain", "--quiet-for", "0").wait())

	dead := listParcels(t, environ, "--state", "dead")
	require.Len(t, dead, 10)
	require.Empty(t, listParcels(t, environ, "--state", "waiting"))
	require.Empty(t, listParcels(t, environ, "--error", "nothing like it"))
	require.Len(t, listParcels(t, environ, "--sink", "site", "--type", "NewFileUpload", "--newer-than", "1h", "--error", "400"), 10)

	code, out, log := command(t, environ, "parcels", "list", "--limit", "3")
	require.Equal(t, exitDone, code)
	require.Equal(t, 4, strings.Count(out, "\n"), out)
	require.Contains(t, log, "3 shown; in all 0 waiting, 10 dead")
	_, after, ok := strings.Cut(log, "add --after ")
	require.True(t, ok, log)
	require.Len(t, listParcels(t, environ, "--after", strings.TrimSpace(after)), 7)

	code, out, _ = command(t, environ, "parcels", "show", dead[0].ID)
	require.Equal(t, exitDone, code)
	require.Contains(t, out, `"FileUploadEvent"`)
	code, _, log = command(t, environ, "parcels", "show", strings.Repeat("0", 32))
	require.Equal(t, exitFailed, code)
	require.Contains(t, log, "no parcel of event 0000")

	for _, change := range []string{"replay", "drop"} {
		code, _, log = command(t, environ, "parcels", change)
		require.Equal(t, exitUsage, code)
		require.Contains(t, log, "--all")
		code, _, log = command(t, environ, "parcels", change, "--all")
		require.Equal(t, exitUsage, code, "nobody is there to answer")
		require.Contains(t, log, "--yes")
	}
	require.Len(t, listParcels(t, environ, "--state", "dead"), 10)

	file := filepath.Join(t.TempDir(), "parcels.jsonl")
	code, _, log = command(t, environ, "parcels", "export", file)
	require.Equal(t, exitDone, code, log)
	code, _, log = command(t, environ, "parcels", "drop", "--yes", dead[0].ID, dead[1].ID[:12])
	require.Equal(t, exitDone, code, log)
	require.Len(t, listParcels(t, environ), 8)
	code, _, log = command(t, environ, "parcels", "import", file)
	require.Equal(t, exitDone, code)
	require.Contains(t, log, "2 parcels are stored")

	tg.answer(http.StatusOK)
	code, _, log = command(t, environ, "parcels", "replay", "--all", "--yes")
	require.Equal(t, exitDone, code)
	require.Contains(t, log, "10 parcels are due now")
	require.Len(t, listParcels(t, environ, "--state", "waiting"), 10)
	require.Zero(t, start(t, environ, "drain", "--quiet-for", "0").wait())
	require.Len(t, tg.accepted(), 10)
	require.Empty(t, listParcels(t, environ))
}

func TestConfirmStoredDoesNotWaitForTheTarget(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	started := filepath.Join(t.TempDir(), "started")
	environ = append(environ, "VODRELAY_RELAY_CONFIRM=stored",
		fmt.Sprintf(`VODRELAY_SINKS=[{name: slow, type: exec, timeout: 1h, command: [sh, -c, "touch %s; exec sleep 60"]}]`, started))
	cloud.Publish(testApp, emulator.GenerateUploads(3, 1)...)
	p := start(t, environ, "run", "--set", "relay.stop_grace=1s")
	eventually(t, "the events are confirmed", func() bool { return cloud.Counts().Confirmed == 3 })
	eventually(t, "the command runs", func() bool { _, err := os.Stat(started); return err == nil })
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	require.Len(t, listParcels(t, environ, "--state", "waiting"), 3)
}

// TestKillDuringAnOutage kills the relay at random moments while events are parked, tried again and
// replayed. VODRELAY_KILL_ROUNDS sets how often.
func TestKillDuringAnOutage(t *testing.T) {
	t.Parallel()
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv("VODRELAY_KILL_ROUNDS")); err == nil {
		rounds = n
	}
	cloud, environ := startEmulator(t, emulator.Options{Lease: 3 * time.Second})
	tg := newTarget(t, http.StatusServiceUnavailable)
	environ = webhookSink(environ, tg)
	var contents []json.RawMessage
	random := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		fresh := emulator.GenerateUploads(300, uint64(100+round))
		contents = append(contents, fresh...)
		cloud.Publish(testApp, fresh...)
		tg.answer([]int{http.StatusServiceUnavailable, http.StatusOK, http.StatusBadRequest}[round%3])
		p := start(t, environ, "run")
		time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
		p.signal(syscall.SIGKILL)
		require.Equal(t, -1, p.wait())
		requireKept(t, cloud, environ, tg, contents)
	}
	tg.answer(http.StatusOK)
	p := start(t, environ, "run")
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == int64(len(contents)) })
	code, _, log := command(t, environ, "parcels", "replay", "--all", "--yes")
	require.Equal(t, exitDone, code, log)
	eventually(t, "the store is empty", func() bool { return len(listParcels(t, environ)) == 0 })
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
	require.Len(t, tg.accepted(), len(contents))
}

// requireKept checks that every event that was confirmed is at the target or in the store, there not twice.
func requireKept(t *testing.T, cloud *emulator.Server, environ []string, tg *target, contents []json.RawMessage) {
	t.Helper()
	kept := map[string]bool{}
	if _, err := os.Stat(filepath.Join(homeOf(environ), ".local/state/vodrelay/vodrelay.db")); err == nil {
		for _, parcel := range listParcels(t, environ) {
			require.False(t, kept[parcel.ID], "twice in the store")
			kept[parcel.ID] = true
		}
	}
	for id := range tg.accepted() {
		kept[id] = true
	}
	confirmed := 0
	for i, id := range orderedIDs(t, contents) {
		if cloud.Confirmed(int64(i + 1)) {
			confirmed++
			require.True(t, kept[id], "event %d was confirmed and is nowhere", i+1)
		}
	}
	t.Logf("%d confirmed, %d kept", confirmed, len(kept))
}

func homeOf(environ []string) string {
	for _, v := range environ {
		if home, ok := strings.CutPrefix(v, "HOME="); ok {
			return home
		}
	}
	return ""
}

func orderedIDs(t *testing.T, contents []json.RawMessage) []string {
	t.Helper()
	var all []string
	for _, c := range contents {
		for id := range ids(t, []json.RawMessage{c}) {
			all = append(all, id)
		}
	}
	return all
}
