package disk

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func volume(t *testing.T) *Volume {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip("NOT TESTED: ", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	dir := filepath.Join(t.TempDir(), "volume")
	v, err := New(ctx, dir, 16<<20)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, v.Close(context.Background()))
		require.NoDirExists(t, dir)
	})
	return v
}

// open makes a file with a text that is on the disk.
func open(t *testing.T, v *Volume, name, text string) *os.File {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(v.Dir(), name), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	_, err = file.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, file.Sync())
	dir, err := os.Open(v.Dir())
	require.NoError(t, err)
	defer dir.Close()
	require.NoError(t, dir.Sync())
	return file
}

func content(t *testing.T, v *Volume, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(v.Dir(), name))
	require.NoError(t, err)
	return string(text)
}

func TestFull(t *testing.T) {
	v := volume(t)
	file := open(t, v, "file", "before")
	require.NoError(t, v.Fill())
	_, err := file.Write(make([]byte, 8<<10)) // more than is left in its last block
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, v.Free())
	require.NoError(t, v.Free(), "it was not full")
	_, err = file.WriteString(" after")
	require.NoError(t, err)
	require.NoError(t, file.Sync())
	require.False(t, v.Faulty())
	require.NoError(t, file.Close())
}

// TestReadOnly: the file that a process has open can be read, and not written, and a repair ends that.
func TestReadOnly(t *testing.T) {
	v := volume(t)
	file := open(t, v, "file", "before")
	require.NoError(t, v.ReadOnly())
	require.True(t, v.Faulty())
	_, err := file.WriteString(" not")
	require.ErrorIs(t, err, unix.EROFS)
	require.Equal(t, "before", content(t, v, "file"))
	require.Error(t, v.Repair(t.Context()), "a file is open")
	require.NoError(t, file.Close())
	require.NoError(t, v.Repair(t.Context()))
	require.False(t, v.Faulty())
	require.Equal(t, "before", content(t, v, "file"))
	file = open(t, v, "file", " after")
	require.NoError(t, file.Close())
}

// TestFail: nothing works any more, syncs included; what was synced is there after a repair, and nothing else.
func TestFail(t *testing.T) {
	v := volume(t)
	file := open(t, v, "file", "before")
	_, err := file.WriteString(" not synced")
	require.NoError(t, err)
	require.NoError(t, v.Fail())
	require.ErrorIs(t, file.Sync(), unix.EIO)
	_, err = file.WriteString(" after")
	require.ErrorIs(t, err, unix.EIO)
	require.NoError(t, file.Close())
	require.NoError(t, v.Repair(t.Context()))
	require.Equal(t, "before", content(t, v, "file"))
	file = open(t, v, "file", " after")
	require.NoError(t, file.Close())
	require.Equal(t, "before after", content(t, v, "file"))
}
