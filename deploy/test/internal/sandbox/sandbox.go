// Package sandbox runs a program as a container would: in a file system of its own that cannot be written
// to, as a user without rights. It needs root on Linux, and no container engine.
package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Mount is a directory of this machine that the program sees at Path.
type Mount struct {
	From, Path string
	Writable   bool
}

// User is the numeric user and group that programs run as.
const User = 65532

// script mounts what its arguments say, and becomes the program. The mounts end with it.
const script = `set -e
PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1; shift
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
  mount --bind "$1" "$root$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
  shift 3
done
shift
mount -o remount,bind,ro "$root"
exec chroot --userspec=65532:65532 --groups=65532 "$root" "$@"`

// Available reports whether the machine can do it. Where CI is set, it must.
func Available(t *testing.T) bool {
	t.Helper()
	if runtime.GOOS == "linux" && os.Getuid() == 0 {
		return true
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root on Linux")
	}
	t.Log("NOT RUN in a sandbox: needs root on Linux")
	return false
}

// Command is the program at args[0] in the file system root. It has no /proc, no /dev and no /tmp.
func Command(t *testing.T, root string, mounts []Mount, env []string, args ...string) *exec.Cmd {
	t.Helper()
	line := []string{"--mount", "/bin/sh", "-c", script, "sh", root}
	for _, m := range mounts {
		if err := os.MkdirAll(filepath.Join(root, m.Path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := "ro"
		if m.Writable {
			mode = "rw"
			if err := os.Chown(m.From, User, User); err != nil {
				t.Fatal(err)
			}
		}
		line = append(line, m.From, m.Path, mode)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(append(line, "--"), args...)...)
	cmd.Env = env
	return cmd
}
