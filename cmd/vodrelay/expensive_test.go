//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

// expensiveEvents are as large as a post can be, each with long texts and lists that make expressions expensive.
func expensiveEvents(n int) []json.RawMessage {
	all := make([]json.RawMessage, n)
	for i := range all {
		all[i] = fmt.Appendf(nil, `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"expensive-%d","T":"%s","A":[%s1],"B":[%s1]}}`,
			i, strings.Repeat("a", 120_000), strings.Repeat("1,", 60_000), strings.Repeat("2,", 60_000))
	}
	return all
}

// mostMemory is the largest resident set of a process so far in bytes, 0 where the system does not tell.
func mostMemory(pid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			return kib << 10
		}
	}
	return 0
}

// Events whose content makes conditions and values as expensive as it can are dead letters with the limit that they
// reached. The others pass, the sinks stay up, the memory stays small, and a stop in the middle of it ends in time.
func TestHostileContentCostsItselfAlone(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	dir := t.TempDir()
	var sinks strings.Builder
	for name, when := range map[string]string{
		"replace": `len(replace(payload.T ?? "", "a", payload.T ?? "")) == 0`,
		"in":      `all(payload.A, # in payload.B)`,
		"nested":  `none(payload.A, any(payload.B, # == 3))`,
		"concat":  `len(concat(payload.A ?? [], payload.B ?? [])) == 0`,
	} {
		fmt.Fprintf(&sinks, "  - {name: %s, type: file, path: %s, when: '%s', breaker: {failures: 1}}\n", name, filepath.Join(dir, name), when)
	}
	d := startDaemon(t, environ, fmt.Sprintf("store: {path: %s}\nsinks:\n%s", filepath.Join(dir, "s.db"), &sinks))
	expensive, good := expensiveEvents(3), emulator.GenerateUploads(60, 1)
	cloud.Publish(testApp, append(append(append([]json.RawMessage{}, good[:30]...), expensive...), good[30:]...)...)
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == 63 })
	wanted := ids(t, good)
	for _, name := range []string{"replace", "in", "nested", "concat"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, wanted, idsOfLines(t, data), name)
	}
	reasons := map[string]string{
		"replace": "replace: the text would have more than 1048576 bytes",
		"in":      "in: the event makes the expression take more than 10000000 steps",
		"nested":  "any: the event makes the expression take more than 10000000 steps",
		"concat":  "concat: the list would have more than 100000 elements",
	}
	parcels := listParcels(t, d.environ, "-c", d.path)
	require.Len(t, parcels, len(expensive)*len(reasons))
	for _, p := range parcels {
		require.Equal(t, event.ParcelDead, p.State)
		require.Contains(t, p.LastError, reasons[p.Sink], p.Sink)
	}
	for _, sink := range d.status(t).Sinks {
		require.Equal(t, "closed", sink.Breaker, "%s: the events were at fault", sink.Name)
	}
	require.Less(t, mostMemory(d.cmd.Process.Pid), 900<<20, "bytes")

	cloud.Publish(testApp, expensiveEvents(10)...)
	eventually(t, "more are worked on", func() bool { return cloud.Counts().Confirmed > 63 })
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
	require.NotContains(t, d.stderr.String(), "force")
}
