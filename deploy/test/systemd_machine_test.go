//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// insideMachine is set in the process that runs inside a machine.
const insideMachine = "INSIDE_TEST_MACHINE"

// inMachine runs the test that calls it, and nothing else, inside a machine: systemd as process 1 of
// namespaces of its own, over a copy-on-write view of this system, or of the Debian in the directory
// $VODRELAY_TEST_ROOT. Nothing that is done there outlives it, and it reaches no network. It fails the test
// outside when the test inside fails. shared is the directory that both see, there as /mnt/shared.
func inMachine(t *testing.T, shared string) {
	t.Helper()
	root := os.Getenv("VODRELAY_TEST_ROOT")
	if root == "" {
		root = "/"
	}
	if os.Getuid() != 0 {
		missing(t, "the test boots a machine, which needs root")
	}
	if _, err := os.Stat(filepath.Join(root, "usr/lib/systemd/systemd")); err != nil {
		missing(t, "the package systemd is not installed: run scripts/testdeps")
	}
	self, err := os.Executable()
	check(t, err)
	check(t, copyFile(self, filepath.Join(shared, "test")))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	group := machineCgroup(t)
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "--kill-child",
		"bash", "-euc", boot)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LOWER=" + root, "SHARED=" + shared, "TEST=" + t.Name()}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	err = cmd.Run()
	output, readErr := os.ReadFile(filepath.Join(shared, "output"))
	if err != nil || readErr != nil || !bytes.Contains(output, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("in the machine: %v\n%s\nconsole of the machine:\n%s", errors.Join(err, readErr), output, console.String())
	}
	t.Logf("in the machine:\n%s", output)
}

// boot prepares the machine's root and becomes its process 1. What is not namespaced (the clock, the kernel's
// settings and modules, the audit) is out of its reach.
const boot = `
mount --make-rprivate /
base=$(mktemp -d)
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$base/upper,workdir=$base/work" "$base/root"
cd "$base/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p mnt/shared
mount --bind "$SHARED" mnt/shared
: >etc/fstab
rm -f var/lib/man-db/auto-update
for unit in systemd-sysctl systemd-modules-load systemd-binfmt systemd-udevd systemd-timesyncd systemd-random-seed \
	systemd-hwdb-update systemd-update-done; do
	ln -sf /dev/null etc/systemd/system/$unit.service
done
ln -sf /dev/null etc/systemd/system/systemd-journald-audit.socket
cat >etc/systemd/system/machine-test.service <<END
[Service]
Type=oneshot
Environment=` + insideMachine + `=1
WorkingDirectory=/
ExecStart=/mnt/shared/test -test.run ^$TEST\$ -test.v
StandardOutput=file:/mnt/shared/output
StandardError=inherit
[Unit]
SuccessAction=exit-force
FailureAction=exit-force
END
mkdir -p oldroot
pivot_root . oldroot
mount --make-rprivate /
umount -l /oldroot
mount --make-rshared / # without which services get no credentials
exec env -i container=vodrelay-test PATH="$PATH" setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog,-audit_control,-audit_read,-audit_write \
	/usr/lib/systemd/systemd --unit=machine-test.service --show-status=no --log-target=journal
`

// machineCgroup makes the group in which the machine is alone, and removes it with all below it.
func machineCgroup(t *testing.T) *os.File {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	check(t, err)
	found := regexp.MustCompile(`(?m)^\S+ (\S+) cgroup2 `).FindSubmatch(mounts)
	if found == nil {
		missing(t, "no cgroup2 is mounted")
	}
	group, err := os.MkdirTemp(string(found[1]), "vodrelay-test-")
	if err != nil {
		missing(t, "cannot make a control group: "+err.Error())
	}
	t.Cleanup(func() {
		waitFor(t, "the machine's control group is empty", func() bool { return removeTree(group) == nil })
	})
	dir, err := os.Open(group)
	check(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	return dir
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// missing skips the test aloud, and fails it where everything has to be there.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s%s", what, lastLog())
		}
	}
}

// lastLog is the end of the machine's journal.
func lastLog() string {
	if os.Getenv(insideMachine) == "" {
		return ""
	}
	return "\nThe journal ends with:\n" + shell("journalctl --no-pager --output short-monotonic --lines 40")
}

// shell runs a command line and returns what it printed, or that it failed.
func shell(line string) string {
	out, err := exec.Command("bash", "-c", line).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return fmt.Sprintf("%s: %v\n%s", line, err, text)
	}
	return text
}

// run runs a command line that must succeed.
func run(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("bash", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", line, err, out, lastLog())
	}
	return strings.TrimSpace(string(out))
}

// property is one of systemctl show.
func property(t *testing.T, unit, name string) string {
	t.Helper()
	return run(t, "systemctl show --value --property "+name+" "+unit)
}

func same(t *testing.T, what, want, got string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %q, must be %q%s", what, got, want, lastLog())
	}
}

func contains(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("%q is not in:\n%s", part, text)
	}
}

// systemdVersion is that of the machine on which it is called; 0 without systemd.
func systemdVersion() int {
	fields := strings.Fields(shell("systemctl --version"))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(strings.SplitN(fields[1], ".", 2)[0])
	return n
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
