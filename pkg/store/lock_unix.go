//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// lockFile takes the daemon's role on the SQLite file, by a lock on a file beside it that ends with the
// process, however it ends. It waits a little for a daemon that is just stopping.
func lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	const patience, pause = 2 * time.Second, 50 * time.Millisecond
	name := path + ".lock"
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(deadline) {
			break
		}
		if err = retry.Sleep(ctx, pause); err != nil {
			break
		}
	}
	switch {
	case err == nil:
		// For people, and for the message below: who has the lock. It is no harm when it cannot be written.
		_ = file.Truncate(0)
		_, _ = file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
		return file.Close, nil // the lock goes with it
	case errors.Is(err, syscall.EWOULDBLOCK):
		owner, _ := io.ReadAll(io.LimitReader(file, 32))
		err = retry.WithHint(fmt.Errorf("%w: process %s has locked %s", ErrLocked, strings.TrimSpace(string(owner)), name),
			"stop the other vodrelay, or give this one another path; several that work together need driver postgres")
	default:
		err = fmt.Errorf("lock %s: %w", name, err)
	}
	_ = file.Close()
	return nil, err
}
