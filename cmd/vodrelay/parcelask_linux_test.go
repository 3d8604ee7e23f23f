package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// terminal is a new one: what is written to the keyboard can be read from the screen.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = keyboard.Close() })
	control := func(request uintptr, value *int32) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keyboard.Fd(), request, uintptr(unsafe.Pointer(value)))
		require.Zero(t, errno)
	}
	var locked, number int32
	control(syscall.TIOCSPTLCK, &locked)
	control(syscall.TIOCGPTN, &number)
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	return keyboard, screen
}

// A person at a terminal is told what is to change, and asked.
func TestParcelsCommandsAsk(t *testing.T) {
	withAndWithoutDaemon(t, func(t *testing.T, daemon bool) {
		s := newShelf(t, daemon, bothSinks(t), shelfParcel(eventA, "site", testApp, event.ParcelDead), shelfParcel(eventB, "archive", testApp, event.ParcelDead))
		answer := func(text string, during func(), args ...string) (int, string) {
			t.Helper()
			keyboard, screen := terminal(t)
			p := startAt(t, screen, s.environ, s.args(args...)...)
			eventually(t, "it asks", func() bool { return strings.Contains(p.stderr.String(), "[y/N]") })
			if during != nil {
				during()
			}
			_, err := io.WriteString(keyboard, text+"\n")
			require.NoError(t, err)
			return p.wait(), p.stderr.String()
		}
		for _, no := range []string{"", "n", "yesterday"} {
			code, log := answer(no, nil, "drop", "--all")
			require.Equal(t, exitFailed, code)
			require.Contains(t, log, "to delete: 2 parcels\n  sink archive: 1 dead\n  sink site: 1 dead\n")
			require.Contains(t, log, "nothing was changed")
		}
		require.Len(t, s.left(), 2)

		// What comes while the question is open was not asked about.
		code, log := answer("y", func() {
			more := shelfParcel(eventC, "site", testApp, event.ParcelDead)
			file := filepath.Join(t.TempDir(), "more")
			other := newShelf(t, false, bothSinks(t), more)
			code, _, log := other.run("export", file)
			require.Zero(t, code, log)
			code, _, log = s.run("import", file)
			require.Zero(t, code, log)
			code, _, log = s.run("drop", "-y", eventB)
			require.Zero(t, code, log)
		}, "drop", "--state", "dead")
		require.Zero(t, code, log)
		require.Contains(t, log, "1 parcel is deleted")
		require.Contains(t, log, "1 parcel is not there any more")
		require.Equal(t, []string{"0c3 site 1500000001 dead"}, s.left())
	})
}
