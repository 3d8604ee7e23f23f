//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Bouncer is a PgBouncer before a Server, on a unix socket of its own.
type Bouncer struct{ dir string }

// StartBouncer runs a PgBouncer in the pool mode until the test ends. settings are further lines of its
// configuration. Without PgBouncer on the machine the test is skipped, or fails where CI is set.
func StartBouncer(t testing.TB, s *Server, mode string, settings ...string) *Bouncer {
	t.Helper()
	const program = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(program); errors.Is(err, os.ErrNotExist) {
		const remedy = "no " + program + ": run scripts/testdeps, or install the package pgbouncer"
		if os.Getenv("CI") != "" {
			t.Fatal(remedy)
		}
		t.Skip("NOT TESTED: " + remedy)
	}
	dir, err := os.MkdirTemp("", "pgb") // not t.TempDir: the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	lines := append([]string{
		"[databases]", fmt.Sprintf("* = host=%s user=postgres", s.dir),
		"[pgbouncer]", "pool_mode = " + mode, "auth_type = any", "listen_port = 6432", "unix_socket_dir = " + dir,
	}, settings...)
	path := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.account != nil { // it refuses to run as root
		if err := errors.Join(os.Chown(dir, int(s.account.Uid), int(s.account.Gid)), os.Chown(path, int(s.account.Uid), int(s.account.Gid))); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, path)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: s.account}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("PgBouncer:\n%s", log.String())
		}
	})
	for deadline := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("unix", filepath.Join(dir, ".s.PGSQL.6432"))
		if err == nil {
			_ = conn.Close()
			return &Bouncer{dir}
		}
		if time.Now().After(deadline) {
			t.Fatalf("PgBouncer does not answer within %s: %v", startLimit, err)
		}
	}
}

// URL is the address through b of a database, given its own address.
func (b *Bouncer) URL(direct string) (string, error) {
	address, err := url.Parse(direct)
	if err != nil {
		return "", err
	}
	address.RawQuery = url.Values{"host": {b.dir}, "port": {"6432"}}.Encode()
	return address.String(), nil
}
