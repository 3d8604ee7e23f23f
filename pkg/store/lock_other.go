//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package store

import (
	"context"
	"io/fs"
	"os"
)

func lockName(path string) string { return path + ".lock" }

// lockFile does nothing: two daemons should not use one file here. SQLite itself keeps it whole.
func lockFile(context.Context, *os.File) error { return nil }

func lockedByOther(*os.File, string) error { return nil }

func links(fs.FileInfo) uint64 { return 1 }
