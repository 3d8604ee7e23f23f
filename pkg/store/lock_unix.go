//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// lockName is the file that carries the daemon's lock. On Linux it is the database itself, however it is
// called: flock(2) and the locks of SQLite, by fcntl(2), do not see each other there. Elsewhere they may, and a
// file beside the database has it.
func lockName(path string) string {
	if runtime.GOOS == "linux" {
		return path
	}
	return path + ".lock"
}

// lockFile takes the daemon's role, until the file is closed or the process ends, however it ends. It waits a
// little for a daemon that is just stopping.
func lockFile(ctx context.Context, file *os.File) error {
	const patience, pause = 2 * time.Second, 50 * time.Millisecond
	var err error
	for deadline := time.Now().Add(patience); ; {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(deadline) {
			break
		}
		if err = retry.Sleep(ctx, pause); err != nil {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return locked(file.Name())
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return nil
}

func locked(name string) error {
	return retry.WithHint(fmt.Errorf("%w: another process has locked %s", ErrLocked, name),
		"stop the other vodrelay (fuser -v "+name+" names it), or give this one another path; several that work together need driver postgres")
}

// lockedByOther is the error that lockFile would have while another process has the lock. file is the database,
// and name the file that carries the lock. It takes the lock for less time than lockFile waits.
func lockedByOther(file *os.File, name string) error {
	if name != file.Name() {
		carrier, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return nil // no daemon has made it
		}
		defer func() { _ = carrier.Close() }() // nothing was written
		file = carrier
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return locked(name)
		}
		return nil
	}
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) // the descriptor's end would end it, too
	return nil
}

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink) //nolint:unconvert // its type differs between the architectures
	}
	return 1
}
