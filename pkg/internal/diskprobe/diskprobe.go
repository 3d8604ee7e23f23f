// Package diskprobe finds out whether a directory takes files, without leaving one there.
package diskprobe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// size is how many bytes are written: more than what a file system keeps aside or puts into an inode, and so few
// that a volume with room for them only is as good as full.
const size = 64 << 10

// Write makes a file in dir for a moment, fills it with 64 KiB and syncs it. Its errors name path, for whose sake it is
// done, and what failed: open, write or sync.
func Write(dir, path string) error {
	f, err := os.CreateTemp(dir, ".vodrelay-check-*")
	if err != nil {
		return about("open", path, err)
	}
	_, err = f.Write(make([]byte, size))
	if err == nil {
		err = f.Sync()
	}
	return about("write", path, errors.Join(err, f.Close(), os.Remove(f.Name())))
}

// MakeAll returns the error that os.MkdirAll would have, and makes nothing that stays. existing is dir, or the
// directory above it that is there already.
func MakeAll(dir string) (existing string, err error) {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return dir, nil
	case err == nil:
		return "", &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return "", err
	}
	if existing, err = MakeAll(parent); err != nil || existing != parent {
		return existing, err
	}
	name, err := os.MkdirTemp(parent, ".vodrelay-check-*")
	if err == nil {
		err = os.Remove(name)
	}
	if err != nil {
		return "", about("mkdir", dir, err)
	}
	return parent, nil
}

// about is err with another path; op is what failed where err does not say it.
func about(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return &fs.PathError{Op: failed.Op, Path: path, Err: failed.Err}
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
