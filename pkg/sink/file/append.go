package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"go.uber.org/zap"
)

// appender appends lines to one path, and knows what to do when that fails.
type appender struct {
	path string
	mode fs.FileMode
	sync bool
	open opener
	log  *zap.Logger

	mu   sync.Mutex
	file handle // nil until the first append, and after any failure
}

// append adds lines, each with its newline, and syncs. After an error none of them counts as written.
func (a *appender) append(lines []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil && deleted(a.file) {
		a.log.Warn("the file was deleted, making a new one", zap.String("path", a.path))
		a.drop()
	}
	if a.file == nil {
		if err := a.reach(); err != nil {
			return err
		}
	}
	unlock, err := lock(a.file)
	if err != nil {
		a.drop()
		return fmt.Errorf("lock %s: %w", a.path, err)
	}
	start, err := a.put(lines)
	if err == nil && a.sync {
		err = a.file.Sync()
	}
	if err == nil {
		unlock()
		return nil
	}
	// Whatever of the lines is in the file comes once more with the next attempt. That holds for a failed
	// sync above all: the kernel may have thrown the data away, and the next sync would not tell.
	if info, failed := a.file.Stat(); failed == nil && start >= 0 && info.Size() > start {
		_ = a.file.Truncate(start) // if not, the next append puts a newline behind the torn line
	}
	unlock() // while the descriptor is still this file's
	a.drop()
	return err
}

// put writes lines at the end, which it returns, -1 if it is not known. Where the file ends in the middle
// of a line, left by a crash or a full disk, the first of them still starts on a new one.
func (a *appender) put(lines []byte) (start int64, err error) {
	info, err := a.file.Stat()
	if err != nil {
		return -1, err
	}
	if start = info.Size(); start > 0 {
		var last [1]byte
		// EOF is a file that was cut just now, by copytruncate of logrotate.
		if n, err := a.file.ReadAt(last[:], start-1); err != nil && !errors.Is(err, io.EOF) {
			return -1, err
		} else if n == 1 && last[0] != '\n' {
			a.log.Warn("the file ends in the middle of a line, going on with a new one", zap.String("path", a.path))
			lines = append([]byte{'\n'}, lines...)
		}
	}
	n, err := a.file.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	return start, err
}

// reach opens the file and makes its name durable.
func (a *appender) reach() error {
	f, err := a.open(a.path, a.mode)
	if err != nil {
		return err
	}
	was, changed, err := setMode(f, a.path, a.mode)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if changed {
		a.log.Warn("the file had other permissions than mode says, and has these now", zap.String("path", a.path), zap.String("had", Mode(was).String()))
	}
	if a.sync {
		// Always, since whoever made the file may have crashed before this.
		if err := SyncDirectory(a.path); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	a.file = f
	return nil
}

// SyncDirectory makes the name of the file at path durable, where the system has a way to.
func SyncDirectory(path string) error {
	if runtime.GOOS == "windows" { // has no such operation
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		if errors.Is(err, fs.ErrPermission) { // a directory to enter but not to list: nothing better is to be had
			return nil
		}
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// drop closes the file after a failure; the next append opens it again.
func (a *appender) drop() {
	_ = a.file.Close() // what it could still tell is known
	a.file = nil
}

func (a *appender) reopen() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.finish()
	if err := errors.Join(err, a.reach()); err != nil {
		return err
	}
	a.log.Info("file opened again", zap.String("path", a.path))
	return nil
}

func (a *appender) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.finish()
}

// finish closes the file for good, its data on the disk.
func (a *appender) finish() error {
	if a.file == nil {
		return nil
	}
	var err error
	if !a.sync { // else each append has done it
		err = a.file.Sync()
	}
	err = errors.Join(err, a.file.Close())
	a.file = nil
	return err
}
