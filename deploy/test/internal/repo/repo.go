// Package repo finds the repository that the tests are part of, and builds its program. Go's cache of test
// results does not see files outside of the module: run the tests with -count=1.
package repo

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Path is the absolute path of a file in the repository.
func Path(elem ...string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(file), "../../../.."}, elem...)...)
}

// Read is the content of a file in the repository.
func Read(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(Path(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Build builds the program as the Makefile does, so that it comes from the cache, and returns its path.
func Build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "./cmd/vodrelay")
	cmd.Dir, cmd.Stderr = Path(), os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		t.Fatalf("go build ./cmd/vodrelay: %v", err)
	}
	return filepath.Join(dir, "vodrelay")
}
