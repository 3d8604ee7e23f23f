package httpserver

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestBacklog begins with that of a service which does not see /proc/sys.
func TestBacklog(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	require.NoError(t, err)
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	raw, err := l.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	control := func(f func(fd int) error) {
		require.NoError(t, raw.Control(func(fd uintptr) { err = f(int(fd)) }))
		require.NoError(t, err)
	}
	control(func(fd int) error { return unix.Listen(fd, 128) })
	Listen(l, Limits{Most: 1})
	control(func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			require.EqualValues(t, min(most, backlog), info.Sacked, "of a listening socket it is the backlog")
		}
		return err
	})
}
