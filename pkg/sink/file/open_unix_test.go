//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package file

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestWhatSomebodyElsePutThere is refused, by Check and by Send alike, and nothing is written through it; when it is
// gone the sink goes on.
func TestWhatSomebodyElsePutThere(t *testing.T) {
	for name, tt := range map[string]struct {
		put       func(t *testing.T, path, victim string)
		text      string
		hint      string
		needsRoot bool
	}{
		"link to a file": {func(t *testing.T, path, victim string) { require.NoError(t, os.Symlink(victim, path)) },
			"is a symbolic link, which is not followed", "write the path of the file itself", false},
		"link to nowhere": {func(t *testing.T, path, victim string) { require.NoError(t, os.Symlink(victim+".new", path)) },
			"is a symbolic link, which is not followed", "delete the link", false},
		"link to a device": {func(t *testing.T, path, _ string) { require.NoError(t, os.Symlink("/dev/null", path)) },
			"is a symbolic link, which is not followed", "use the sink stdout", false},
		"second name of a file": {func(t *testing.T, path, victim string) { require.NoError(t, os.Link(victim, path)) },
			"has 2 names (hard links)", "move the file away", false},
		"FIFO": {func(t *testing.T, path, _ string) { require.NoError(t, syscall.Mkfifo(path, 0o666)) },
			"is not a regular file", "use the sinks stdout or exec", false},
		"file of another user": {func(t *testing.T, path, _ string) {
			require.NoError(t, os.WriteFile(path, nil, 0o666))
			require.NoError(t, os.Chown(path, 65534, 65534))
		}, fmt.Sprintf("belongs to the user with the number 65534, and vodrelay runs as %d", os.Geteuid()), "chown", true},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.needsRoot && os.Geteuid() != 0 {
				t.Skip("NOT TESTED: only root can make a file of another user")
			}
			dir := t.TempDir()
			path, victim := filepath.Join(dir, "events.jsonl"), filepath.Join(dir, "victim")
			require.NoError(t, os.WriteFile(victim, []byte("theirs\n"), 0o600))
			tt.put(t, path, victim)
			s := create(t, path)
			for _, err := range []error{s.Check(t.Context()), s.Send(t.Context(), sinktest.Upload(0)), s.Reopen()} {
				require.ErrorContains(t, err, path+" "+tt.text)
				require.Contains(t, retry.Hint(err), tt.hint)
				require.False(t, retry.IsPermanent(err), "a person can put it right")
			}
			require.Equal(t, [][]byte{[]byte("theirs")}, lines(t, victim))
			require.NoFileExists(t, victim+".new")

			require.NoError(t, os.Remove(path))
			require.NoError(t, s.Check(t.Context()))
			require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
			require.Len(t, lines(t, path), 1)
			require.NoError(t, s.Close(t.Context()))
		})
	}
}

// TestOpenDoesNotWait: between the look and the open somebody may put a FIFO or a link in the place.
func TestOpenDoesNotWait(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	f, err := os.OpenFile(pipe, os.O_WRONLY|noFollow, 0)
	require.ErrorIs(t, err, syscall.ENXIO, "it would have waited for a reader")
	require.Nil(t, f)
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(filepath.Join(dir, "file"), link))
	_, err = os.OpenFile(link, os.O_CREATE|os.O_RDWR|noFollow, 0o600)
	require.Error(t, err)
}

func TestADirectoryMayBeALink(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "log")))
	s := create(t, filepath.Join(dir, "log", "events.jsonl"))
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Close(t.Context()))
	require.Len(t, lines(t, filepath.Join(dir, "real", "events.jsonl")), 1)
}

// TestTheOwnerOfTheDirectory can put any file there, so that one of his is as good: root may drain with the
// configuration of a service.
func TestTheOwnerOfTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can make a file of another user")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Chown(path, 65534, 65534))
	require.NoError(t, os.Chown(dir, 65534, 65534))
	s := create(t, path)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, s.Close(t.Context()))
}

func TestModeOfAFoundFile(t *testing.T) {
	for was, mode := range map[fs.FileMode]Mode{0o666: 0o640, 0o777: 0o600, 0o600: 0o660, 0o640: 0o640} {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chmod(path, was))
		cfg := config(path)
		cfg.Mode = mode
		s, err := New(cfg, zap.NewNop())
		require.NoError(t, err)
		require.NoError(t, s.Check(t.Context()))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, was, info.Mode().Perm(), "a check changes nothing")
		require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
		info, err = os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(mode)&^umask, info.Mode().Perm(), "it was %o", was)
		require.NoError(t, s.Close(t.Context()))
	}
}

// stubborn is a file on a file system that has no permissions.
type stubborn struct {
	handle
	err error
}

func (s stubborn) Chmod(fs.FileMode) error { return s.err }

func TestPermissionsThatCannotBeSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Chmod(path, 0o755))
	for _, failure := range []error{nil, syscall.EPERM} {
		open := func(path string, mode fs.FileMode) (handle, error) {
			f, err := openFile(path, mode)
			return stubborn{f, failure}, err
		}
		cfg := config(path)
		s := newSink(cfg, zap.NewNop(), open)
		err := s.Send(t.Context(), sinktest.Upload(0))
		require.ErrorContains(t, err, path+" has the permissions 0755, which cannot be set to 0640")
		require.Contains(t, retry.Hint(err), `mode: "0755"`)
		require.Empty(t, lines(t, path))
		require.NoError(t, s.Close(t.Context()))
		cfg.Mode = 0o755
		s = newSink(cfg, zap.NewNop(), open)
		require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
		require.NoError(t, s.Close(t.Context()))
		require.NoError(t, os.Truncate(path, 0))
	}
}
