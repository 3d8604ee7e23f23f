//go:build unix

package mistakes

import (
	"io"
	"log"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stretchr/testify/require"
)

// quiet is for servers whose clients fail on purpose.
var quiet = log.New(io.Discard, "", 0)

// move renames a file or directory of the world.
func move(from, to string) action {
	return func(w *world) { require.NoError(w.t, os.Rename(w.path(from), w.path(to))) }
}

// removed deletes one.
func removed(name string) action {
	return func(w *world) { require.NoError(w.t, os.RemoveAll(w.path(name))) }
}

// directory makes one.
func directory(name string) action {
	return func(w *world) { require.NoError(w.t, os.Mkdir(w.path(name), 0o700)) }
}

// mode changes permissions.
func mode(name string, to os.FileMode) action {
	return func(w *world) { require.NoError(w.t, os.Chmod(w.path(name), to)) }
}

// onVolume is a world with a file on a small volume of its own.
func onVolume(w *world) {
	require.NoError(w.t, os.Mkdir(w.path("out"), 0o700))
	w.mount("out")
	require.NoError(w.t, os.Remove(w.path("out/keep")))
	path := w.path("out/events.jsonl")
	w.add("archive", "type: file, path: "+path, w.lines)
}

// mount makes a directory a small file system of its own.
func (w *world) mount(name string) {
	w.t.Helper()
	if err := syscall.Mount("tmpfs", w.path(name), "tmpfs", 0, "size=24m"); err != nil {
		w.t.Skipf("NOT TESTED: cannot mount a tmpfs (run as root): %v", err)
	}
	w.t.Cleanup(func() { require.NoError(w.t, syscall.Unmount(w.path(name), syscall.MNT_DETACH)) })
	write(filepath.Join(name, "keep"), "")(w)
}

// fill leaves no room on the volume at a directory.
func fill(name string) action {
	return func(w *world) {
		err := os.WriteFile(w.path(name+"/ballast"), make([]byte, 32<<20), 0o600)
		require.ErrorIs(w.t, err, syscall.ENOSPC)
	}
}

// remount changes the flags of a volume.
func remount(name string, flags uintptr) action {
	return func(w *world) {
		require.NoError(w.t, syscall.Mount("", w.path(name), "", syscall.MS_REMOUNT|flags, ""))
	}
}

var files = []mistake{
	{name: "file: its directory is renamed", world: toFile, make: move("out", "old"), fix: move("old", "out"), spares: true},
	{name: "file: its directory is deleted", shows: `no such file or directory: create the directory, or mount its volume, or correct path`, world: toFile, make: removed("out"), fix: directory("out")},
	{name: "file: it is deleted", log: `the file was deleted, making a new one`, world: toFile, make: removed("out/events.jsonl"), fix: nothing, spares: true},
	{name: "file: it is renamed and not reopened", world: toFile, make: move("out/events.jsonl", "out/events.1"), fix: nothing, spares: true},
	{name: "file: it is replaced by a directory", shows: `is not a regular file: events cannot be made durable there: name a file`, world: toFile, make: each(removed("out/events.jsonl"), directory("out/events.jsonl")), fix: removed("out/events.jsonl")},
	{name: "file: it is replaced by a link", world: toFile, make: each(move("out/events.jsonl", "out/events.1"), func(w *world) { require.NoError(w.t, os.Symlink("events.1", w.path("out/events.jsonl"))) }), fix: removed("out/events.jsonl"), spares: true},
	{name: "file: a path into a directory that is missing", shows: `no such file or directory: create the directory, or mount its volume, or correct path`, world: toFile, make: edit("/out/", "/uot/")},
	{name: "file: a path that is a directory", shows: `is not a regular file: events cannot be made durable there: name a file`, world: toFile, make: edit("/out/events.jsonl", "/out")},
	{name: "file: two sinks write one", world: toFile, make: edit("- {", "- {name: copy, type: file, path: {dir}/out/events.jsonl}\n- {"), spares: true},
	{name: "file: the disk is full", shows: `no space left on device: free space on the volume or raise the quota; no event is lost meanwhile`, world: onVolume, make: fill("out"), fix: removed("out/ballast")},
	{name: "file: the volume is read-only", shows: `read-only file system: mount the volume for writing`, world: toFile, make: each(func(w *world) { require.NoError(w.t, os.Mkdir(w.path("ro"), 0o700)); w.mount("ro") }, remount("ro", syscall.MS_RDONLY), edit("/out/events", "/ro/events"))},
}

var scripts = []mistake{
	{name: "exec: the command is deleted", shows: `cannot be started: no such file or directory: install it, or write its full path`, world: toCommand, make: move("command", "gone"), fix: move("gone", "command")},
	{name: "exec: the command may not be run", shows: `cannot be started: permission denied: make it executable (chmod +x)`, world: toCommand, make: mode("command", 0o600), fix: mode("command", 0o700)},
	{name: "exec: the interpreter is missing", shows: `no such file or directory … for a script, check the program in its first line too`, world: toCommand, make: script("#!/usr/bin/no-such-shell\n"), fix: whole},
	{name: "exec: line ends of Windows", shows: `no such file or directory … for a script, check the program in its first line too, and that no line ends as on Windows`, world: toCommand, make: script("#!/bin/sh\r\nexit 0\r\n"), fix: whole},
	{name: "exec: no first line", shows: `exec format error: it is neither a program for this machine nor a script with #! in its first line`, world: toCommand, make: script("exit 0\n"), fix: whole},
	{name: "exec: it is a directory", shows: `cannot be started: is a directory: name the program in it`, world: toCommand, make: each(move("command", "gone"), directory("command")), fix: each(removed("command"), move("gone", "command"))},
	{name: "exec: it fails", shows: `exited with status 1: the database is away: see the command's log and correct it`, world: toCommand, make: script("#!/bin/sh\necho the database is away >&2\nexit 1\n"), fix: whole},
	{name: "exec: it refuses every event", shows: `script refuses … exited with status 65: no such folder: the command refused the event`, world: toCommand, make: script("#!/bin/sh\necho no such folder >&2\nexit 65\n"), fix: each(func(w *world) { w.confirmed() }, whole, replay("script"))},
	{name: "exec: it hangs", shows: `not accepted within 300ms … make the command faster or the sink's timeout longer`, world: toCommand, make: each(script("#!/bin/sh\nexec sleep 60\n"), edit("type: exec", "type: exec, timeout: 300ms, kill_grace: 100ms")), fix: each(whole, restore)},
	{name: "exec: its directory is missing", shows: `no such file or directory: create it, or correct dir`, world: toCommand, make: edit("dir: \"", "dir: \"/nowhere")},
	{name: "exec: the command and its arguments in one text", log: refused + `(script).command: … write each argument as an item of its own`, world: toCommand, make: edit(`/command"]`, `/command --quiet"]`)},
	{name: "exec: a shell without a command", world: toCommand, make: edit("command: [", "command: [/bin/sh, ")},
}

// script replaces the command.
func script(text string) action {
	return func(w *world) {
		require.NoError(w.t, os.WriteFile(w.path("command.new"), []byte(text), 0o700))
		require.NoError(w.t, os.Rename(w.path("command.new"), w.path("command")))
	}
}

// whole puts the command back.
var whole = script(commandText)
