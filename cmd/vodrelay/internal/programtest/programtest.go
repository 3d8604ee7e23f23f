// Package programtest is what tests of the whole program share, which run it in processes of its own. Only tests import it.
package programtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// buildTime is what a build with nothing in the cache may take on a busy machine.
const buildTime = 10 * time.Minute

// inherited is the environment before any test changed it: with another HOME, Go's build cache would be empty.
var inherited = os.Environ()

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vodrelay-test")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vodrelay")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/vodrelay/vodrelay/cmd/vodrelay")
	cmd.Env = inherited
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// Main is the TestMain of a package: it runs the tests, removes the program, and fails when a goroutine is left.
func Main(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // a directory of the system's for such files
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error()) // the code says it, too
			code = 1
		}
	}
	os.Exit(code)
}

// Path is the program as a user builds it, made once for all tests of a package.
func Path(t testing.TB) string {
	t.Helper()
	path, err := build()
	require.NoError(t, err)
	return path
}

// Emulator serves a VOD event API on this machine until the test ends, and returns its address.
func Emulator(t testing.TB, opts emulator.Options) (server *emulator.Server, url string) {
	t.Helper()
	server = emulator.New(opts)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, <-ended)
	})
	return server, "http://" + listener.Addr().String()
}

// given are the addresses that FreeAddress has returned.
var given sync.Map

// FreeAddress is one that nobody listens on, and that nobody gets by chance before it is used: its port is below those
// that the system gives to connections (net.ipv4.ip_local_port_range), of which some tests make thousands.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.N(20_000)) //nolint:gosec // nobody has to be kept from guessing it
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address); err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	require.Fail(t, "no address is free")
	return ""
}

// Buffer is what a process prints. Its methods may be called at the same time.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is all of it so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
