package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// verdict is what check and run make of a set-up.
type verdict int

const (
	// hopeless: both end with 78, since only a person can help.
	hopeless verdict = iota
	// busy: both end with 1. Another attempt may succeed without any change here.
	busy
	// passing: check ends with 1; run logs the same, tries again and goes on.
	passing
	// warned: check ends with 0 and a warning; run goes on.
	warned
	// fine: check ends with 0 and warns of nothing; run goes on.
	fine
)

// published is how many events wait when run starts.
const published = 3

// setup is a configuration, and the world around it, which a case of TestCheckAndRunAgree breaks in one way.
type setup struct {
	cloud   *emulator.Server
	environ []string
	// postgres is a server that the cases share: each makes a database of its own, and none stops the server.
	postgres func() *pgtest.Server
}

// set adds variables to the environment of check and run.
func (s *setup) set(variables ...string) { s.environ = append(s.environ, variables...) }

// without takes variables out whose names begin with prefix.
func (s *setup) without(prefix string) {
	s.environ = slices.DeleteFunc(s.environ, func(v string) bool { return strings.HasPrefix(v, prefix) })
}

// broken is one way in which a set-up can be broken, or look so.
type broken struct {
	name string
	as   uint32                                       // the user to run as; 0: that of the tests
	make func(t *testing.T, s *setup) (config string) // breaks it
	want verdict
	says string // a part of what both say, or check alone with warned; "" with fine
}

// What check finds, run meets, with the same words: see verdict. A new case is a new entry in one of the lists.
func TestCheckAndRunAgree(t *testing.T) {
	t.Parallel()
	shared := sync.OnceValue(func() *pgtest.Server { return pgtest.Start(t) })
	for _, c := range slices.Concat(brokenStores, brokenServers, brokenAddresses, brokenKeys, brokenSinks) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &setup{postgres: shared}
			s.cloud, s.environ = startEmulator(t, emulator.Options{Hold: 200 * time.Millisecond, SubAppIDs: []uint64{testApp}})
			begin := staged(t, c.as, "log: {format: json}\n"+c.make(t, s))
			s.cloud.Publish(testApp, emulator.GenerateUploads(published, 1)...)
			check := begin(s.environ, "check", "-o", "json")
			code := check.waitFor(2 * patient)
			c.compare(t, s, code, check, begin(s.environ, "run"))
		})
	}
}

func (c broken) compare(t *testing.T, s *setup, code int, check, run *process) {
	t.Helper()
	out := check.stdout.String()
	require.Equal(t, [...]int{exitConfig, exitFailed, exitFailed, exitDone, exitDone}[c.want], code, out+check.stderr.String())
	var found app.Report
	if out != "" {
		require.NoError(t, json.Unmarshal([]byte(out), &found), out)
	}
	failed := slices.DeleteFunc(slices.Clone(found.Findings), func(f app.Finding) bool { return f.Status != app.Failed })
	switch c.want {
	case fine, warned:
		warnings := slices.DeleteFunc(slices.Clone(found.Findings), func(f app.Finding) bool { return f.Status != app.Warned })
		require.Equal(t, c.want == warned, len(warnings) > 0, out)
		require.Empty(t, failed, out)
		require.Contains(t, out, c.says)
	default:
		require.Contains(t, out+check.stderr.String(), c.says)
		require.True(t, out == "" || len(failed) > 0, out)
	}

	switch c.want {
	case hopeless, busy:
		require.Equal(t, code, run.waitFor(2*patient), "of run")
	case passing:
		eventually(t, "run says the same", func() bool { return saysAll(plain(run.stderr.String()), failed) })
	case warned, fine:
		eventually(t, "run works", func() bool { return s.cloud.Counts().Confirmed == published })
	}
	if c.want > busy {
		run.signal(syscall.SIGTERM)
		require.Zero(t, run.waitFor(2*patient))
	}
	said := plain(run.stderr.String())
	if out == "" { // the configuration was refused before there was a check
		require.Equal(t, check.stderr.String(), run.stderr.String())
	}
	require.True(t, saysAll(said, failed), "check found %+v\nrun said %s", failed, said)
}

// measured is what differs from one reply to the next.
var measured = regexp.MustCompile(`\b\d+m\d+s\b`)

// saysAll reports whether run's output has what check found, and its hints. The two may call the API for other things.
func saysAll(said string, failed []app.Finding) bool {
	said = measured.ReplaceAllString(said, "")
	for _, f := range failed {
		detail := f.Detail
		if action, rest, found := strings.Cut(detail, ": "); found && strings.HasPrefix(action, "Describe") {
			detail = rest
		}
		if !strings.Contains(said, measured.ReplaceAllString(detail, "")) || !strings.Contains(said, measured.ReplaceAllString(f.Hint, "")) {
			return false
		}
	}
	return true
}

// plain is a log whose lines of JSON are the texts in them.
func plain(log string) string {
	var text strings.Builder
	for line := range strings.Lines(log) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			text.WriteString(strings.TrimPrefix(line, "vodrelay: "))
			continue
		}
		for _, value := range fields {
			if s, ok := value.(string); ok {
				text.WriteString(s + "\n")
			}
		}
	}
	return text.String()
}

// staged puts a configuration, and for another user than that of the tests the program, where that user can read them.
// begin runs one of its commands.
func staged(t *testing.T, user uint32, configuration string) (begin func(environ []string, args ...string) *process) {
	t.Helper()
	other := user != 0 && user != uint32(os.Getuid())
	if other && os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can run a process as another user")
	}
	dir := openDir(t)
	config := filepath.Join(dir, "vodrelay.yaml")
	require.NoError(t, os.WriteFile(config, []byte(configuration), 0o644))
	program := programtest.Path(t)
	if other {
		data, err := os.ReadFile(program)
		require.NoError(t, err)
		program = filepath.Join(dir, "vodrelay")
		require.NoError(t, os.WriteFile(program, data, 0o755))
	}
	return func(environ []string, args ...string) *process {
		cmd := exec.Command(program, append(args, "-c", config)...)
		cmd.Dir = dir
		if other {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		}
		return startCommand(t, environ, cmd)
	}
}

// nobody is a user that does not own the files of the tests.
const nobody = 65534

// openDir is a directory that every user can reach.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vodrelay")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// A clock that is almost too far off fails before run does, which still works.
func TestCheckFailsBeforeTheClockDoes(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	cloud.SetClockSkew(vod.MaxSkew - 30*time.Second)
	code, out, log := command(t, environ, "check")
	require.Equal(t, exitFailed, code, out+log)
	require.Regexp(t, `failed      clock: this machine's clock is 4m(2[5-9]|3[0-5])s behind the server's\n +what to do: set this machine's clock`, out)
	require.Regexp(t, `, 0 warnings, 1 failed, `, out)
}

// A check leaves nothing where it has looked, not even tables that it has tried to make.
func TestCheckLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty.db"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old.jsonl"), []byte("{}\n"), 0o600))
	before := listing(t, dir)
	for _, path := range []string{"s.db", "state/of/s.db", "empty.db"} {
		for _, out := range []string{"new.jsonl", "old.jsonl"} {
			code, said, log := command(t, environ, "check", "--set", "store.path="+filepath.Join(dir, path), "--set", fmt.Sprintf("sinks=[{type: file, path: %q}]", filepath.Join(dir, out)))
			require.Zero(t, code, said+log)
			require.Contains(t, said, "at the next start")
			require.Equal(t, before, listing(t, dir))
		}
	}
	server := pgtest.Start(t)
	code, said, log := command(t, append(environ, "VODRELAY_STORE_DRIVER=postgres", "VODRELAY_STORE_URL="+server.URL("postgres")), "check")
	require.Zero(t, code, said+log)
	require.Contains(t, said, "the tables will be made at the next start")
	server.Order(`CREATE TABLE vodrelay_schema (made INT)`) // fails if there is one
}

// listing is what a directory holds, with sizes and times.
func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		text := path
		if !d.IsDir() { // whose time is that of a file that came and went
			text += fmt.Sprint(" ", info.Size(), info.Mode(), info.ModTime())
		}
		all = append(all, text)
		return nil
	}))
	return all
}
