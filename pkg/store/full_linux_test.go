package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// TestFullDisk fills a real volume, then frees it.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("cannot mount a tmpfs (run as root): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 3<<20), 0o600))
	cfg := DefaultConfig()
	cfg.Path = filepath.Join(dir, "vodrelay.db")
	s := open(t, cfg)
	defer func() { require.NoError(t, s.Close(t.Context())) }() // before the volume goes

	var stored []event.Parcel
	var failed error
	for n := 0; failed == nil; n += 10 {
		if failed = s.Put(t.Context(), parcels(n, n+10, "a")...); failed == nil {
			stored = append(stored, parcels(n, n+10, "a")...)
		}
	}
	require.NotEmpty(t, stored)
	require.False(t, retry.IsPermanent(failed))
	require.Contains(t, retry.Hint(failed), "space")
	require.Error(t, s.Put(t.Context(), parcels(9000, 9010, "a")...))
	same(t, stored, all(t, s, Filter{}))

	require.NoError(t, os.Remove(ballast))
	require.NoError(t, s.Healthy(t.Context()))
	more := parcels(5000, 5050, "a")
	require.NoError(t, s.Put(t.Context(), more...))
	same(t, append(stored, more...), all(t, s, Filter{}))
	consistent(t, s)
	require.NoError(t, s.Close(t.Context()))
	s = open(t, cfg)
	require.Len(t, all(t, s, Filter{}), len(stored)+len(more))
	require.NoError(t, s.Close(t.Context()))
}

// TestReadOnlyVolume: the error says what to do, and the volume is waited for.
func TestReadOnlyVolume(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot mount a tmpfs (run as root): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	cfg := DefaultConfig()
	cfg.Path = filepath.Join(dir, "vodrelay.db")
	err := failsToOpen(t, cfg)
	require.Contains(t, retry.Hint(err), "mount the volume for writing")
	require.False(t, retry.IsPermanent(err), "it can be mounted again, also by itself")
}

func TestNetworkKind(t *testing.T) {
	require.Equal(t, "NFS", networkKind(0x6969))
	require.Equal(t, "SMB", networkKind(0xff534d42))
	require.Equal(t, "SMB", networkKind(0xff534d42-1<<32), "where the number is of 32 bits, with a sign")
	require.Empty(t, networkKind(0xef53), "ext4")
	require.Empty(t, networkKind(0x01021994), "tmpfs")
	require.Empty(t, networkFileSystem(t.TempDir()))
}
