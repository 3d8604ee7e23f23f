// Package secretfile reads what the configuration names by file: secrets, keys and certificates, which are
// replaced under a program that runs for months.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// maxSize is the most bytes of a file with a secret or a certificate.
const maxSize = 1 << 20

// Watched is what is made from files, made again when one of them changes, as Kubernetes and vault agents do
// it. It is safe for concurrent use.
type Watched[T any] struct {
	Paths []string
	Load  func() (T, error)

	mu    sync.Mutex
	infos []fs.FileInfo
	value T
}

// Get returns what the files make now. It keeps nothing in place of what cannot be made: the last secret may
// have been revoked.
func (w *Watched[T]) Get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var none T
	// The state is taken before the content, so that a change in between is seen the next time.
	infos := make([]fs.FileInfo, len(w.Paths))
	for i, path := range w.Paths {
		info, err := os.Stat(path)
		if err != nil {
			return none, err
		}
		infos[i] = info
	}
	if slices.EqualFunc(w.infos, infos, unchanged) {
		return w.value, nil
	}
	value, err := w.Load()
	if err != nil {
		return none, err
	}
	w.infos, w.value = infos, value
	return value, nil
}

func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// File is a file whose content is read again when it changes. It is safe for concurrent use.
type File struct {
	key     string
	content Watched[string]
}

// New reads nothing yet. key is the file's place in the configuration, such as secret_file.
func New(key, path string) *File {
	return &File{key: key, content: Watched[string]{Paths: []string{path}, Load: func() (string, error) { return Read(path) }}}
}

// Get returns the content without white space around it. An error is transient: the last content may have
// been revoked, and a target that refuses it would refuse the event for good.
func (f *File) Get() (string, error) {
	content, err := f.content.Get()
	if err != nil {
		return "", f.unreadable(err)
	}
	return content, nil
}

func (f *File) unreadable(err error) error {
	return retry.WithHint(fmt.Errorf("%s: %w", f.key, err), "let the user that runs vodrelay read the file, and put the secret in it")
}

// Read returns the content of a file without white space around it; an empty one is an error.
func Read(path string) (string, error) {
	content, err := ReadAll(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(content))
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// ReadAll returns the content of a regular file of at most 1 MiB.
func ReadAll(path string) ([]byte, error) {
	content, err := Regular(path, maxSize)
	switch {
	case errors.Is(err, ErrTooLarge):
		return content, fmt.Errorf("%s is larger than 1 MiB", path)
	case errors.Is(err, ErrIrregular):
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return content, err
}

// The errors of Regular that are no *fs.PathError. They do not name the path.
var (
	ErrIrregular = errors.New("is not a regular file")
	ErrTooLarge  = errors.New("is too large")
)

// Regular returns the content of a regular file of at most limit bytes.
func Regular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // a FIFO would have its open wait
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrIrregular
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = ErrTooLarge
	}
	return content, err
}

// Validate reads the file that key names and has check look at its content. check may be nil.
func Validate(key, path string, check func(content string) error) error {
	content, err := Read(path)
	if err == nil && check != nil {
		err = check(content)
	}
	return Error(key, path, err)
}

// Error is err as one line on the key that names the file; nil for nil.
func Error(key, path string, err error) error {
	if err == nil {
		return nil
	}
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("%s: %q: %w; let the user that runs vodrelay read it", key, path, err)
}
