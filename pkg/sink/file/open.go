package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// handle is *os.File, as far as it is used.
type handle interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Chmod(mode fs.FileMode) error
	Sync() error
	Truncate(size int64) error
	Fd() uintptr
}

// opener opens path for reading and appending, and makes it with mode if need be.
type opener func(path string, mode fs.FileMode) (handle, error)

// openFile opens what is at path if somebody else could not have put it there to get at the events, or to have them
// written elsewhere; see openFound. A new file takes the place of nothing.
func openFile(path string, mode fs.FileMode) (handle, error) {
	var f *os.File
	var err error
	for range 3 { // a rotation may make or move the file between the two steps
		if f, err = openFound(path); errors.Is(err, fs.ErrNotExist) {
			f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, mode)
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// openFound opens a file that is there: a regular one, under no other name, of this user or of the owner of its
// directory, who can put another in its place anyway. Directories on the way may be links. It never waits, as the
// open of a FIFO would. To read is needed for the last byte alone.
func openFound(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if err := checkKind(path, info); err != nil { // before it is opened, which does something to some devices
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|noFollow, 0)
	if err != nil {
		return nil, err
	}
	info, err = f.Stat() // of what was opened: it may be another one by now
	if err == nil {
		err = errors.Join(checkKind(path, info), checkOwner(path, info))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// checkKind refuses what events cannot be made durable in, or would be written elsewhere through.
func checkKind(path string, info fs.FileInfo) error {
	switch {
	case info.Mode().IsRegular():
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		hint := "delete the link, or write the path of the file itself; its directory may be a link. For standard output use the sink stdout"
		if target, err := filepath.EvalSymlinks(path); err == nil {
			hint = fmt.Sprintf("write the path of the file itself (%q), or delete the link; its directory may be a link. For standard output use the sink stdout", target)
		}
		return retry.WithHint(fmt.Errorf("%s is a symbolic link, which is not followed", path), hint)
	}
	return retry.WithHint(fmt.Errorf("%s is not a regular file", path),
		"events cannot be made durable there: name a file, or use the sinks stdout or exec")
}

// checkOwner refuses a file that another user may have put there.
func checkOwner(path string, info fs.FileInfo) error {
	owner, names, known := ownerOf(info)
	if !known {
		return nil
	}
	if names > 1 {
		return retry.WithHint(fmt.Errorf("%s has %d names (hard links): what is written to it would be in another file, too", path, names),
			"delete the other names (find DIRECTORY -samefile shows them), or move the file away, and a new one is made")
	}
	if owner == os.Geteuid() {
		return nil
	}
	if dir, err := os.Stat(filepath.Dir(path)); err == nil {
		if above, _, _ := ownerOf(dir); owner == above {
			return nil
		}
	}
	return retry.WithHint(fmt.Errorf("%s belongs to the user with the number %d, and vodrelay runs as %d", path, owner, os.Geteuid()),
		fmt.Sprintf("give the file to the user that runs vodrelay (chown %d), or move it away, and a new one is made", os.Geteuid()))
}

// setMode gives an open file the permissions of mode without the umask, unless it has them or those of mode itself. It
// returns those that it had, and whether they were others. Fewer than mode grants are no error where they cannot be
// changed.
func setMode(f handle, path string, mode fs.FileMode) (was fs.FileMode, changed bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	want, was := mode&^umask, info.Mode().Perm()
	if _, _, known := ownerOf(info); !known || was == want || was == mode {
		return was, false, nil
	}
	err = f.Chmod(want)
	if info, failed := f.Stat(); failed == nil && info.Mode().Perm()&^mode == 0 { // some file systems only pretend
		return was, err == nil, nil
	}
	if err == nil {
		err = errors.New("the file system keeps others")
	}
	return was, false, retry.WithHint(fmt.Errorf("%s has the permissions %04o, which cannot be set to %04o: %w", path, was, want, err),
		fmt.Sprintf("let the owner of the file set them (chmod %04o), or allow these with mode: \"%04o\"", want, was))
}
