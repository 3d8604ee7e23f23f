package file

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestFullDisk fills a real volume of 64 KiB, then frees it. Where no volume can be mounted the faults of
// TestContract have to do.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs (run as root): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 40<<10), 0o600))
	path := filepath.Join(dir, "events.jsonl")
	s := create(t, path)

	accepted, failed := 0, error(nil)
	for failed == nil {
		if failed = s.Send(t.Context(), sinktest.Upload(accepted)); failed == nil {
			accepted++
		}
	}
	require.ErrorIs(t, failed, syscall.ENOSPC)
	require.False(t, retry.IsPermanent(failed))
	require.Contains(t, retry.Hint(failed), "free space")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, byte('\n'), text[len(text)-1], "the torn line is cut off")
	require.Len(t, lines(t, path), accepted)
	require.EqualError(t, s.Send(t.Context(), sinktest.Upload(accepted)), failed.Error())
	check := s.Check(t.Context())
	require.ErrorIs(t, check, syscall.ENOSPC)
	require.Contains(t, retry.Hint(check), "free space")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "a check leaves nothing behind")

	require.NoError(t, os.Remove(ballast))
	for i := range 10 {
		require.NoError(t, s.Send(t.Context(), sinktest.Upload(accepted+i)))
	}
	require.NoError(t, s.Close(t.Context()))
	got := lines(t, path)
	require.Len(t, got, accepted+10)
	for i, line := range got {
		require.Equal(t, string(sinktest.Body(t, sinktest.Upload(i))), string(line))
	}
}
