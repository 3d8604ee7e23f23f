package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// An exec sink's command is a program of somebody else under the same user: it must not find the API key, neither in
// its own environment nor in the relay's.
func TestAnExecSinksCommandCannotReadTheKey(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	work, user := openDir(t), uint32(os.Getuid())
	if user == 0 { // from whom nothing is hidden
		user = nobody
		require.NoError(t, os.Chown(work, nobody, nobody))
	}
	script := filepath.Join(work, "script")
	require.NoError(t, os.WriteFile(script, []byte(`
		cd "$1"
		env >own
		for name in environ maps fd/0; do
			if head -c 1 "/proc/$PPID/$name" >/dev/null 2>>refused; then echo "$name" >>read; fi
		done
		tr '\0' ' ' <"/proc/$PPID/cmdline" >cmdline
		touch tried
	`), 0o644))
	environ = append(environ, "HOME="+work, "VODRELAY_STORE_DRIVER=none")
	p := staged(t, user, fmt.Sprintf("sinks: [{type: exec, command: [sh, %q, %q]}]\n", script, work))(environ, "run")
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	tried := func() bool { _, err := os.Stat(filepath.Join(work, "tried")); return err == nil }
	eventually(t, "the command has tried", tried)

	read, _ := os.ReadFile(filepath.Join(work, "read"))
	require.Empty(t, string(read), "the command has read these of the relay's files in /proc")
	refused, err := os.ReadFile(filepath.Join(work, "refused"))
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(string(refused), "Permission denied"), "%s", refused)
	own, err := os.ReadFile(filepath.Join(work, "own"))
	require.NoError(t, err)
	for _, secret := range []string{emulator.DefaultSecretID, emulator.DefaultSecretKey, "VODRELAY_", "TENCENTCLOUD_"} {
		require.NotContains(t, string(own), secret)
	}
	cmdline, err := os.ReadFile(filepath.Join(work, "cmdline"))
	require.NoError(t, err)
	require.Contains(t, string(cmdline), "vodrelay", "the parent is the relay")
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())
}
