package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// drainPatient is what a drain with its proof may take: a lease or two of waiting.
const drainPatient = 3 * time.Minute

// TestDrainLeavesNothing lets drains prove that the queue is empty, each in its own time: what is hidden comes back
// after 5 s, when two polls would long have found the queue empty.
func TestDrainLeavesNothing(t *testing.T) {
	t.Parallel()
	hidden := emulator.Options{Hold: 100 * time.Millisecond, Lease: 5 * time.Second, Seed: 1}
	t.Run("after pulls whose replies were lost", func(t *testing.T) {
		t.Parallel()
		cloud, environ := startEmulator(t, hidden)
		_, err := cloud.AddFault(emulator.Fault{Kind: emulator.FaultLoseReply, Action: emulator.ActionPullEvents, Rate: 0.5, Times: 3}) // of some 15 pulls
		require.NoError(t, err)
		cloud.Publish(testApp, emulator.GenerateUploads(200, 1)...)
		p := start(t, environ, "drain", "--quiet-for", "0") // what it pulled itself is waited for all the same
		require.Equal(t, exitDone, p.waitFor(drainPatient))
		require.Empty(t, cloud.Pending())
		require.Contains(t, p.stderr.String(), "waiting for the end of the lease of events that may come back")
	})
	t.Run("after a consumer that was killed", func(t *testing.T) {
		t.Parallel()
		cloud, environ := startEmulator(t, hidden)
		cloud.Publish(testApp, emulator.GenerateUploads(100, 1)...)
		killed := start(t, append(environ, `VODRELAY_SINKS=[{name: slow, type: exec, timeout: 1m, command: [sleep, "60"]}]`), "drain")
		eventually(t, "it holds all events", func() bool { return cloud.Counts().Leased == 100 })
		killed.signal(syscall.SIGKILL)
		require.Equal(t, -1, killed.wait())
		p := start(t, environ, "drain")
		require.Equal(t, exitDone, p.waitFor(drainPatient))
		require.Empty(t, cloud.Pending())
		require.Contains(t, p.stderr.String(), "waiting one lease for events that another consumer may hold")
	})
}

func TestDrainSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	quick := emulator.Options{Hold: 100 * time.Millisecond}
	t.Run("a confirm whose reply was lost is one", func(t *testing.T) {
		cloud, environ := startEmulator(t, quick)
		_, err := cloud.AddFault(emulator.Fault{Kind: emulator.FaultLoseReply, Action: emulator.ActionConfirmEvents})
		require.NoError(t, err)
		cloud.Publish(testApp, emulator.GenerateUploads(10, 1)...)
		began := time.Now()
		code, _, log := command(t, environ, "drain", "--quiet-for", "0")
		require.Zero(t, code, log)
		require.Less(t, time.Since(began), 20*time.Second, "nothing is waited for that is gone")
		require.Regexp(t, `drain ended.*"empty": ?true.*"confirmed": ?10.*"left": ?0`, log)
	})
	t.Run("VOD counts more", func(t *testing.T) {
		cloud, environ := startEmulator(t, emulator.Options{Hold: 100 * time.Millisecond, StateLag: time.Hour})
		cloud.Publish(testApp, emulator.GenerateUploads(50, 1)...)
		_, before, _ := command(t, environ, "check") // VOD counts, for the next hour
		code, _, log := command(t, environ, "drain", "--quiet-for", "0")
		require.Equal(t, exitLeft, code, before+log)
		require.Contains(t, log, "VOD still counts 50")
		require.Regexp(t, `drain ended.*"empty": ?false`, log)
		require.Empty(t, cloud.Pending())
	})
	t.Run("no right to count", func(t *testing.T) {
		cloud, environ := startEmulator(t, quick)
		_, err := cloud.AddFault(emulator.Fault{Kind: emulator.FaultError, Action: emulator.ActionDescribeEventsState, Code: "UnauthorizedOperation", Rate: 1})
		require.NoError(t, err)
		cloud.Publish(testApp, emulator.GenerateUploads(50, 1)...)
		code, _, log := command(t, environ, "drain", "--quiet-for", "0", "--quiet")
		require.Zero(t, code, log)
		require.Contains(t, log, "cannot ask how many events wait")
		require.Contains(t, log, "vod:DescribeEventsState")
	})
	t.Run("enough by --max", func(t *testing.T) {
		cloud, environ := startEmulator(t, quick)
		cloud.Publish(testApp, emulator.GenerateUploads(500, 1)...)
		code, _, log := command(t, environ, "drain", "--max", "100")
		require.Equal(t, exitLeft, code, log)
		require.Contains(t, log, "as --max says")
		require.InDelta(t, 107, cloud.Counts().Confirmed, 8)
		require.Zero(t, cloud.Counts().Leased, "nothing else was pulled")
	})
	t.Run("enough by --for", func(t *testing.T) {
		_, environ := startEmulator(t, quick)
		code, _, log := command(t, environ, "drain", "--for", "1500ms")
		require.Equal(t, exitLeft, code, log)
		require.Contains(t, log, "as --for says")
	})
	t.Run("a key that does not exist", func(t *testing.T) {
		_, environ := startEmulator(t, quick)
		began := time.Now()
		code, _, log := command(t, append(environ, "TENCENTCLOUD_SECRET_ID=AKIDnone"), "drain")
		require.Equal(t, exitConfig, code, log)
		require.Less(t, time.Since(began), 10*time.Second)
		require.Contains(t, log, "the SecretId does not exist")
	})
	for _, args := range [][]string{{"--for", "-1s"}, {"--max", "-1"}, {"--quiet-for", "-1s"}} {
		code, _, log := command(t, nil, append([]string{"drain"}, args...)...)
		require.Equal(t, exitUsage, code, fmt.Sprint(args, log))
		require.Contains(t, log, args[0]+": "+args[1])
	}
}
