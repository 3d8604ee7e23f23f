//go:build unix

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// A link in the place of a file sink's file is not written through: check says so, and a drain keeps the event in the
// store. A file that is there gets the permissions of the configuration.
func TestAFileSinkFollowsNoLink(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.Publish(testApp, emulator.GenerateUploads(1, 1)...)
	dir := t.TempDir()
	victim, out := filepath.Join(dir, "victim"), filepath.Join(dir, "events.jsonl")
	require.NoError(t, os.WriteFile(victim, []byte("theirs\n"), 0o600))
	require.NoError(t, os.Symlink(victim, out))
	environ = fileSink(environ, out)

	code, stdout, stderr := command(t, environ, "check")
	require.Equal(t, exitFailed, code, stdout+stderr)
	require.Contains(t, stdout+stderr, out+" is a symbolic link, which is not followed")
	require.Contains(t, stdout+stderr, "write the path of the file itself")
	code, _, stderr = command(t, environ, "drain", "--quiet-for", "0")
	require.Equal(t, exitParked, code, stderr)
	require.Contains(t, stderr, "is a symbolic link, which is not followed")
	theirs, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "theirs\n", string(theirs))

	require.NoError(t, os.Remove(out))
	require.NoError(t, os.WriteFile(out, nil, 0o600))
	require.NoError(t, os.Chmod(out, 0o666))
	cloud.Publish(testApp, emulator.GenerateUploads(1, 2)...)
	_, _, stderr = command(t, environ, "drain", "--quiet-for", "0")
	require.Contains(t, stderr, "the file had other permissions than mode says")
	info, err := os.Stat(out)
	require.NoError(t, err)
	require.Zero(t, info.Mode()&^fs.FileMode(0o640), "%s", info.Mode())
	written, err := os.ReadFile(out)
	require.NoError(t, err)
	require.NotEmpty(t, idsOfLines(t, written))
}
