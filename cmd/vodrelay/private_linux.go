package main

import "golang.org/x/sys/unix"

// keepPrivate closes this process to others of the same user: with PR_SET_DUMPABLE off only root, with the
// capability SYS_PTRACE, gets at its environment, memory and open files in /proc or by ptrace, and no core file is
// written. An exec sink's command runs as the same user, and the environment may hold the API key. A program that
// this one starts is open again. Source: PR_SET_DUMPABLE in prctl(2), and ptrace(2).
func keepPrivate() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
