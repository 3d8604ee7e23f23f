//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

// TestWrongInputIsAnsweredWithARemedy makes the mistakes that people make.
func TestWrongInputIsAnsweredWithARemedy(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	shelved := newShelf(t, false, bothSinks(t), shelfParcel(eventA, "renamed", testApp, event.ParcelDead))
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"peek", "-n", "0"}, exitUsage, "vodrelay: --count: 0: must be at least 1"},
		{[]string{"peek", "--count", "-3"}, exitUsage, "vodrelay: --count: -3: must be at least 1"},
		{[]string{"check", "--sub-app-ids", "1,2", "--set", "relay.max_in_hand=1"}, exitConfig, "vodrelay: --set relay.max_in_hand: 1: must be at least 64: 32 for each of 2 applications\n"},
		{[]string{"check", "--set", "relay.max_in_hand=1"}, exitConfig, "vodrelay: --set relay.max_in_hand: 1: must be at least 16: the events of one reply\n"},
	} {
		code, out, log := command(t, environ, c.args...)
		require.Equal(t, c.code, code, log)
		require.Empty(t, out)
		require.Contains(t, log, c.says)
	}
	for _, c := range []struct{ sink, says string }{
		{"sitte", "there is no sink sitte in the configuration, and no parcel for one: did you mean site?"},
		{"quite-another", "there is no sink quite-another in the configuration, and no parcel for one: there is site, archive"},
	} {
		_, _, log := shelved.run("list", "--sink", c.sink)
		require.Contains(t, log, c.says)
	}
	for _, sink := range []string{"renamed", "site"} { // gone, but with a parcel; there, but without one
		_, _, log := shelved.run("list", "--sink", sink)
		require.NotContains(t, log, "there is no sink")
	}
}

// TestAnExportIsWrittenWhenItSaysSo writes to files and to what takes nothing.
func TestAnExportIsWrittenWhenItSaysSo(t *testing.T) {
	t.Parallel()
	s := newShelf(t, false, bothSinks(t), shelfParcel(eventA, "site", testApp, event.ParcelDead))
	file := filepath.Join(t.TempDir(), "parcels")
	code, _, log := s.run("export", file)
	require.Zero(t, code, log)
	require.Equal(t, "vodrelay: 1 parcel is in "+file+", and still in the store\n", log)
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(written), "\n"))

	code, _, log = s.run("export", file)
	require.Equal(t, exitFailed, code)
	require.Contains(t, log, "is there already\nvodrelay: what to do: name a new file, or remove that one\n")

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here: ", err)
	}
	defer func() { _ = full.Close() }()
	for _, args := range [][]string{{"export"}, {"list"}, {"list", "-o", "json"}, {"show", eventA}} {
		p := startWith(t, s.environ, func(cmd *exec.Cmd) { cmd.Stdout = full }, s.args(args...)...)
		require.Equal(t, exitFailed, p.wait())
		require.Contains(t, p.stderr.String(), "no space left on device")
		require.NotContains(t, p.stderr.String(), "written")
		require.NotContains(t, p.stderr.String(), "store: ", "which is in order")
	}
}

// TestAnEmptyAddressIsNoAdminServer interrupts it, too, as nobody at a terminal does.
func TestAnEmptyAddressIsNoAdminServer(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	p := start(t, append(environ, "VODRELAY_ADMIN_LISTEN="), "run")
	eventually(t, "it runs", func() bool { return cloud.Counts().Confirmed == 1 })
	p.signal(syscall.SIGINT)
	require.Zero(t, p.wait())
	require.NotContains(t, p.stderr.String(), "admin server")
	require.Contains(t, p.stderr.String(), "stopping: a further signal ends at once")
	require.NotContains(t, p.stderr.String(), "press")
}
