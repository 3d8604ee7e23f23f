//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package file

import (
	"io/fs"
	"syscall"
)

// noFollow has an open fail for a link, and not wait for the other end of a FIFO.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// umask is the process's, read before there is a second thread that could make a file: to read it is to change it.
var umask = func() fs.FileMode {
	mask := syscall.Umask(0o077)
	syscall.Umask(mask)
	return fs.FileMode(mask)
}()

// ownerOf is the number of the user that a file belongs to, and how many names the file has.
func ownerOf(info fs.FileInfo) (owner int, names uint64, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(stat.Uid), uint64(stat.Nlink), true //nolint:unconvert // it is narrower elsewhere
}
