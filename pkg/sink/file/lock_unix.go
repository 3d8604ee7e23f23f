//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package file

import (
	"errors"
	"syscall"
)

// lock keeps other vodrelays that append to the same file out until unlock, so that cutting off a torn line
// cannot cut off a good one of theirs. Where the file system has no locks it does without.
func lock(f handle) (unlock func(), err error) {
	fd := int(f.Fd())
	for {
		err := syscall.Flock(fd, syscall.LOCK_EX)
		switch {
		case err == nil:
			return func() { _ = syscall.Flock(fd, syscall.LOCK_UN) }, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS):
			return func() {}, nil
		default:
			return nil, err
		}
	}
}

// deleted reports whether the file has no name any more: what is written to it is lost. A renamed file
// has one, and is written to until Reopen.
func deleted(f handle) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
