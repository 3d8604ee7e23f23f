// Package servers runs the servers that a chaos run takes from the machine, PostgreSQL and Redis, and does to them what
// happens to servers: a crash, a machine that hangs, a failover to a standby.
package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/child"
)

const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
)

// ErrMissing is the error where this machine has not the programs of a server.
var ErrMissing = errors.New("is not installed on this machine: run scripts/testdeps")

// HasPostgres and HasRedis report what this machine has, as nil or ErrMissing.
func HasPostgres() error {
	if programs() == "" {
		return fmt.Errorf("PostgreSQL %w", ErrMissing)
	}
	return nil
}

// HasRedis is described at HasPostgres.
func HasRedis() error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return fmt.Errorf("Redis %w", ErrMissing)
	}
	return nil
}

// programs is the directory of the newest PostgreSQL, "" for none.
func programs() string {
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	slices.SortFunc(installed, func(a, b string) int { return version(a) - version(b) })
	if n := len(installed); n > 0 {
		return filepath.Dir(installed[n-1])
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	return ""
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// account is the user that PostgreSQL has to run as, nil for the current one: it refuses to run as root.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other user for it: %w", err)
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(found.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err, err2)
}

// freePort is a port that nobody listens at now.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it waits for nothing
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// await asks until the answer is nil, the process has ended or the time is over.
func await(ctx context.Context, process *child.Child, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		once, end := context.WithTimeout(ctx, 5*time.Second)
		err := ask(once)
		end()
		if err == nil {
			return nil
		}
		select {
		case <-process.Ended():
			return fmt.Errorf("the server has ended; its last answer was: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
