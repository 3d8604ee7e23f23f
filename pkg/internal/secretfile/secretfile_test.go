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
	// In place, of the same length, a while later.
	require.NoError(t, os.WriteFile(path, []byte(" THREE "), 0o600))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Minute)))
	got, err := f.Get()
	require.NoError(t, err)
	require.Equal(t, "THREE", got)
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
		write("empty", " \n"):                        dir + "/empty is empty",
		write("large", strings.Repeat("x", 1<<20+1)): dir + "/large is larger than 1 MiB",
		dir:           dir + " is not a regular file",
		fifo:          fifo + " is not a regular file",
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
