//go:build unix

package secretfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestGet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	f := New("password_file", path)
	_, err := f.Get()
	require.EqualError(t, err, "password_file: stat "+path+": no such file or directory")
	require.NotEmpty(t, retry.Hint(err))
	require.False(t, retry.IsPermanent(err))
	for _, content := range []string{"one", "two\n", " three "} {
		require.NoError(t, os.WriteFile(path+".new", []byte(content), 0o600))
		require.NoError(t, os.Rename(path+".new", path)) // as Kubernetes does it
		got, err := f.Get()
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(content), got)
	}
	for name, want := range map[string]string{"\ufeffmarked\r\n": "marked", "\ufeff": "is empty", "\xff\xfek\x00": "is text in UTF-16, save it in UTF-8"} {
		require.NoError(t, os.WriteFile(path, []byte(name), 0o600))
		if got, err := f.Get(); err != nil {
			require.EqualError(t, err, "password_file: read "+path+": "+want)
		} else {
			require.Equal(t, want, got)
		}
	}
}

// Each way leaves the size, the times or the inode as they were.
func TestEveryChangeIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	at := time.Now().Add(-time.Hour)
	write := func(path, content string) {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	write(path, "first")
	f := New("password_file", path)
	want := func(want string) {
		t.Helper()
		for range 2 {
			got, err := f.Get()
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	want("first")
	write(path, "secon") // in place
	want("secon")
	write(path+".new", "third") // as rsync -t does it
	require.NoError(t, os.Rename(path+".new", path))
	want("third")
	require.NoError(t, os.Remove(path)) // the inode may be used again
	write(path, "forth")
	want("forth")

	for _, content := range []string{"fifth", "sixth"} { // as Kubernetes does it
		require.NoError(t, os.Mkdir(filepath.Join(dir, content), 0o700))
		write(filepath.Join(dir, content, "secret"), content)
	}
	f = New("password_file", filepath.Join(dir, "data", "secret"))
	for _, content := range []string{"fifth", "sixth"} {
		require.NoError(t, os.Symlink(content, filepath.Join(dir, "new")))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "data")))
		want(content)
	}
}

// What is made of several files is made again when any of them changes, and only then.
func TestWatched(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "cert"), filepath.Join(dir, "key")}
	made := 0
	w := Watched[string]{Paths: paths, Make: func(contents [][]byte) (string, error) {
		made++
		if string(contents[1]) == "bad" {
			return "", errors.New("do not belong together")
		}
		return string(contents[0]) + "+" + string(contents[1]), nil
	}}
	_, err := w.Get()
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, c := range []struct {
		path, content, want string
		made                int
	}{{paths[0], "a", "", 0}, {paths[1], "b", "a+b", 1}, {paths[1], "b", "a+b", 1}, {paths[0], "c", "c+b", 2}, {paths[1], "bad", "", 3}, {paths[1], "b", "c+b", 3}} {
		require.NoError(t, os.WriteFile(c.path, []byte(c.content), 0o600))
		got, err := w.Get()
		require.Equal(t, c.want == "", err != nil)
		require.Equal(t, c.want, got)
		require.Equal(t, c.made, made)
	}
}

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for path, want := range map[string]string{
		write("good", "s3cret"):                      "",
		write("empty", " \n"):                        "is empty",
		write("large", strings.Repeat("x", 1<<20+1)): "is larger than 1 MiB",
		dir:           "is not a regular file",
		fifo:          "is not a regular file",
		dir + "/none": "no such file or directory",
	} {
		err := Validate("key", path, nil)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, `key: "`+path+`": `+want+"; let the user that runs vodrelay read it")
	}
	err := Validate("key", filepath.Join(dir, "good"), func(content string) error { return errors.New("is odd") })
	require.ErrorContains(t, err, "is odd")
	require.NotContains(t, err.Error(), "s3cret")
}
