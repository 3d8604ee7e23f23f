package file

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/vodrelay/vodrelay/pkg/internal/diskprobe"
)

// Check tests that the file can be appended to, or made, and that its volume has room for more. It leaves everything
// as it was, with the errors that Send would have.
func (s *Sink) Check(context.Context) error { return withHint(probe(s.appender.path)) }

// Untested is what Check cannot know: nothing.
func (s *Sink) Untested() string { return "" }

// probe opens path without making it, and writes another file beside it for a moment.
func probe(path string) error {
	f, err := openFound(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return diskprobe.Write(filepath.Dir(path), path)
	case err != nil:
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	err = diskprobe.Write(filepath.Dir(path), path)
	if errors.Is(err, fs.ErrPermission) { // a directory may take no other file
		return diskprobe.Room(path)
	}
	return err
}
