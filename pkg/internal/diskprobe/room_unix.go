//go:build darwin || freebsd || linux

package diskprobe

import "syscall"

// Room is the error of a write to path when its volume has no room for what Write writes, as far as that can be known
// without writing.
func Room(path string) error {
	var volume syscall.Statfs_t
	if err := syscall.Statfs(path, &volume); err != nil || volume.Blocks == 0 { // as of a volume without a limit
		return nil //nolint:nilerr // it is not known
	}
	if uint64(volume.Bavail)*uint64(volume.Bsize) < size { //nolint:unconvert // their types differ between the systems
		return about("write", path, syscall.ENOSPC)
	}
	return nil
}
