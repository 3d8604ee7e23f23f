// Package secretfile reads what the configuration names by file: secrets, keys and certificates, which are
// replaced under a program that runs for months.
package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// maxSize is the most bytes of a file with a secret or a certificate.
const maxSize = 1 << 20

// Watched is what is made from files, made again when the content of one of them changes, as Kubernetes and
// vault agents change it. Each Get reads the files: they are small, and neither their size, their times nor
// their inode tells of every change (cp -p keeps the times, a clock has its grain, an inode is used again). It
// is safe for concurrent use.
type Watched[T any] struct {
	Paths []string
	// Make gets the contents in the order of Paths.
	Make func(contents [][]byte) (T, error)

	mu       sync.Mutex
	contents [][]byte // nil: nothing was made
	value    T
}

// Get returns what the files make now. It keeps nothing in place of what cannot be made: the last secret may
// have been revoked.
func (w *Watched[T]) Get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var none T
	contents := make([][]byte, len(w.Paths))
	for i, path := range w.Paths {
		content, err := ReadAll(path)
		if err != nil {
			return none, err
		}
		contents[i] = content
	}
	if w.contents != nil && slices.EqualFunc(w.contents, contents, bytes.Equal) {
		return w.value, nil
	}
	value, err := w.Make(contents)
	if err != nil {
		return none, err
	}
	w.contents, w.value = contents, value
	return value, nil
}

// File is a file with a secret, which may be replaced at any time. It is safe for concurrent use.
type File struct {
	key     string
	content Watched[string]
}

// New reads nothing yet. key is the file's place in the configuration, such as secret_file.
func New(key, path string) *File {
	return &File{key: key, content: Watched[string]{Paths: []string{path}, Make: func(contents [][]byte) (string, error) {
		return text(path, contents[0])
	}}}
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

// Read returns the text in a file without white space around it; an empty one is an error.
func Read(path string) (string, error) {
	content, err := ReadAll(path)
	if err != nil {
		return "", err
	}
	return text(path, content)
}

func text(path string, content []byte) (string, error) {
	plain, err := Text(content)
	if err == nil && plain == "" {
		err = errors.New("is empty")
	}
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return plain, nil
}

// errUTF16 is about what Windows' editors and PowerShell's > write.
var errUTF16 = errors.New("is text in UTF-16, save it in UTF-8")

// Text is the content of a file with a secret: what an editor puts around a text, which is white space and a
// byte order mark, does not belong to it. Text in UTF-16 is an error, which does not name the file.
func Text(content []byte) (string, error) {
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return "", errUTF16
	}
	return string(bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\ufeff")))), nil
}

// ReadAll returns the content of a regular file of at most 1 MiB. Its errors are of type *fs.PathError.
func ReadAll(path string) ([]byte, error) {
	content, err := Regular(path, maxSize)
	if errors.Is(err, ErrTooLarge) {
		err = errors.New("is larger than 1 MiB")
	}
	var failed *fs.PathError
	if err != nil && !errors.As(err, &failed) {
		err = &fs.PathError{Op: "read", Path: path, Err: err}
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
