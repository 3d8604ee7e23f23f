package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// peakMemory is the most memory that p has had resident, in MiB.
func (p *process) peakMemory() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	require.True(p.t, found)
	kB, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(p.t, err)
	return kB >> 10
}

// What a reply holds beside the good events costs neither them nor memory: whoever answers in VOD's place decides
// on nothing else.
func TestHostileRepliesCostThemselvesAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault emulator.Fault
		most  int    // MiB
		log   string // what the relay says about it
		extra int    // lines beside those of the events
	}{
		{emulator.Fault{Kind: emulator.FaultExtraItems, Count: 16_000_000, Times: 2}, 400, "a reply has items that are no events", 0},
		{emulator.Fault{Kind: emulator.FaultDeep, Count: 1_000_000}, 400, "the notification is nested deeper than 10000", 0},
		{emulator.Fault{Kind: emulator.FaultBig, Count: 16 << 20}, 600, "", 0},
		{emulator.Fault{Kind: emulator.FaultOddItems}, 200, "a reply has items that are no events", 3}, // of one ID are the first without a handle and the one without a type,
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			cloud, environ := startEmulator(t, emulator.Options{})
			contents := emulator.GenerateUploads(40, 1)
			cloud.Publish(testApp, contents...)
			c.fault.Action = emulator.ActionPullEvents
			_, err := cloud.AddFault(c.fault)
			require.NoError(t, err)
			out := filepath.Join(t.TempDir(), "events.jsonl")
			p := start(t, append(fileSink(environ, out), "VODRELAY_VOD_READ_TIMEOUT=20s"), "run")
			eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == int64(len(contents)) })
			require.EqualValues(t, len(contents), cloud.Counts().Delivered, "each came once")
			t.Logf("peak %d MiB", p.peakMemory())
			require.Less(t, p.peakMemory(), c.most)
			p.signal(syscall.SIGTERM)
			require.Zero(t, p.wait())
			data, err := os.ReadFile(out)
			require.NoError(t, err)
			require.Equal(t, len(contents)+c.extra, strings.Count(string(data), "\n"))
			require.Contains(t, p.stderr.String(), c.log)
			require.NotContains(t, p.stderr.String(), `"level":"error"`)
		})
	}
}

// The other replies are small or refused, however deep or large they are made.
func TestHostileRepliesToOtherCalls(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{Hold: -1})
	for _, action := range []string{emulator.ActionConfirmEvents, emulator.ActionDescribeEventsState, emulator.ActionDescribeEventConfig} {
		for _, f := range []emulator.Fault{{Kind: emulator.FaultDeep, Count: 200_000}, {Kind: emulator.FaultBig, Count: 60 << 20}} {
			f.Action = action
			_, err := cloud.AddFault(f)
			require.NoError(t, err)
		}
	}
	cloud.Publish(testApp, emulator.GenerateUploads(40, 1)...)
	p := start(t, environ, "run")
	eventually(t, "all are confirmed", func() bool { return cloud.Counts().Confirmed == 40 })
	eventually(t, "the event configuration was asked for again", func() bool { return len(cloud.Faults()) <= 2 })
	require.Less(t, p.peakMemory(), 200)
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
}
