//go:build unix

package exec

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell is a sink whose command is a shell script that finds dir in $OUT.
func shell(t *testing.T, dir, script string) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Command = []string{"sh", "-c", script}
	cfg.Env = []string{"OUT=" + dir, "TOKEN=hunter2hunter2"}
	cfg.KillGrace = 200 * time.Millisecond
	s, err := New(cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	return s
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		dir := t.TempDir()
		flag := func(name string) string { return filepath.Join(dir, name) }
		raise := func(t *testing.T, name string) { require.NoError(t, os.WriteFile(flag(name), nil, 0o600)) }
		lower := func(t *testing.T, name string) { require.NoError(t, os.Remove(flag(name))) }
		program := flag("program")
		write := func(t *testing.T) { require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\nexit 0\n"), 0o700)) }
		write(t)
		exits := func(name, how string) sinktest.Mistake {
			return sinktest.Mistake{
				Name: name,
				Make: func(t *testing.T) { require.NoError(t, os.WriteFile(flag("exit"), []byte(how), 0o600)) },
				Fix:  func(t *testing.T) { lower(t, "exit") },
			}
		}
		return sinktest.Harness{
			Sink: shell(t, dir, `
				if [ -e "$OUT/exit" ]; then . "$OUT/exit"; fi
				if [ "$VOD_EVENT_TYPE" = Refused ]; then exit 65; fi
				"$OUT/program" || exit
				if [ -e "$OUT/broken" ]; then echo "the database is away" >&2; exit 75; fi
				if [ -e "$OUT/stalled" ]; then sleep 60; fi
				f=$(mktemp "$OUT/new.XXXXXX") && cat >"$f" && mv "$f" "$OUT/event.${f##*.}" && echo "$VOD_EVENT_ID" >>"$OUT/ids"`),
			IDs: func(t *testing.T) []string { return strings.Fields(read(t, filepath.Join(dir, "ids"))) },
			Received: func(t *testing.T) [][]byte {
				files, err := filepath.Glob(filepath.Join(dir, "event.*"))
				require.NoError(t, err)
				var bodies [][]byte
				for _, name := range files {
					bodies = append(bodies, []byte(read(t, name)))
				}
				return bodies
			},
			Break:      func(t *testing.T) { raise(t, "broken") },
			Mend:       func(t *testing.T) { lower(t, "broken") },
			BlindCheck: true, // only the command knows
			Stall:      func(t *testing.T) func() { raise(t, "stalled"); return func() { lower(t, "stalled") } },
			Mistakes: []sinktest.Mistake{
				exits("error in the script", "exit 1"),
				exits("usage", "exit 64"),
				exits("crash", "exit 255"),
				exits("killed", "kill -9 $$"),
				{Name: "program missing", Make: func(t *testing.T) { lower(t, "program") }, Fix: write},
				{
					Name: "program not executable",
					Make: func(t *testing.T) { require.NoError(t, os.Chmod(program, 0o600)) },
					Fix:  func(t *testing.T) { require.NoError(t, os.Chmod(program, 0o700)) },
				},
			},
			Refused: map[string]event.Event{"status 65": {ID: "r", Type: "Refused", Raw: []byte(`{"EventType":"Refused"}`)}},
			Secrets: []string{"hunter2hunter2"},
		}
	})
}

// TestCommandMissing has the command itself come to be only later.
func TestCommandMissing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Command = []string{filepath.Join(t.TempDir(), "command")}
	s, err := New(cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	for _, mode := range []os.FileMode{0, 0o600} {
		err := s.Send(t.Context(), sinktest.Upload(0))
		require.False(t, retry.IsPermanent(err))
		require.NotEmpty(t, retry.Hint(err), mode)
		require.NoError(t, os.WriteFile(cfg.Command[0], []byte("#!/bin/sh\n"), 0o600))
	}
	require.NoError(t, os.Chmod(cfg.Command[0], 0o700))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
}

func TestExitCodes(t *testing.T) {
	for script, want := range map[string]struct {
		text      string
		permanent bool
	}{
		"exit 0":                 {"", false},
		"exit 75":                {`command "sh" exited with status 75`, false},
		"echo down >&2; exit 75": {`command "sh" exited with status 75: down`, false},
		"exit 1":                 {`command "sh" exited with status 1`, false},
		"exit 65":                {`command "sh" exited with status 65`, true},
		"exit 255":               {`command "sh" exited with status 255`, false},
		"exit 126":               {`command "sh" exited with status 126`, false},
		"exit 127":               {`command "sh" exited with status 127`, false},
		"kill -9 $$":             {`command "sh" died: signal: killed`, false},
		"kill -15 $$":            {`command "sh" died: signal: terminated`, false},
		"echo Traceback >&2; yes '  a frame' | head -n 3000 >&2; echo 'ValueError: no such bucket' >&2; exit 3": {`command "sh" exited with status 3: Traceback ... ValueError: no such bucket`, false},
		"printf '\\n \\033[31mred\\033[0m\\nmore\\n' >&2; exit 3":                                               {`command "sh" exited with status 3: \u001b[31mred\u001b[0m; more`, false},
	} {
		t.Run(script, func(t *testing.T) {
			s := shell(t, "", script)
			err := s.Send(t.Context(), sinktest.Upload(0))
			if want.text == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, want.text)
			require.Equal(t, want.permanent, retry.IsPermanent(err))
			require.NotEmpty(t, retry.Hint(err))
		})
	}
}

func TestVariables(t *testing.T) {
	t.Setenv("TENCENTCLOUD_SECRET_KEY", "secret")
	t.Setenv("VODRELAY_SINKS_0_SECRET", "secret")
	t.Setenv("SOME_OTHER", "other")
	t.Setenv("WANTED", "wanted")
	t.Setenv("TZ", "Asia/Shanghai")
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Command = []string{"sh", "-c", `env >"$OUT/env"; pwd >"$OUT/pwd"; cat >"$OUT/stdin"`}
	cfg.Env = []string{"OUT=" + dir, "WANTED", "NOT_SET_ANYWHERE", "EQUALS=a=b"}
	cfg.Dir = dir
	s, err := New(cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	e := sinktest.Upload(1)
	require.NoError(t, s.Send(t.Context(), e))

	env := strings.Split(read(t, filepath.Join(dir, "env")), "\n")
	for _, want := range []string{
		"VOD_EVENT_ID=" + e.DedupID(), "VOD_EVENT_TYPE=NewFileUpload", "VOD_SUB_APP_ID=1500000001",
		"VOD_FILE_ID=5285890784273533168", "VOD_TASK_ID=", "VOD_FILE_NAME=clip 1", "VOD_FILE_TYPE=mp4",
		"VOD_MEDIA_URL=http://example.com/1.mp4", "VOD_CLASS_ID=", "WANTED=wanted", "EQUALS=a=b", "TZ=Asia/Shanghai",
	} {
		require.Contains(t, env, want)
	}
	for _, line := range env {
		for _, not := range []string{"TENCENTCLOUD_", "VODRELAY_", "SOME_OTHER", "NOT_SET_ANYWHERE"} {
			require.NotContains(t, line, not)
		}
	}
	pwd, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	require.Equal(t, pwd+"\n", read(t, filepath.Join(dir, "pwd")))
	require.Equal(t, string(sinktest.Body(t, e)), read(t, filepath.Join(dir, "stdin")))
}

// TestHugeFields has every field longer than an environment may be.
func TestHugeFields(t *testing.T) {
	dir := t.TempDir()
	s := shell(t, dir, `printf %s "$VOD_FILE_NAME" >"$OUT/name"; cat >"$OUT/stdin"`)
	long := strings.Repeat("长", 200_000)
	item := fmt.Sprintf(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%[1]s","ProcedureTaskId":"%[1]s","MediaBasicInfo":{`+
		`"Name":"%[1]s","Type":"%[1]s","MediaUrl":"%[1]s","CoverUrl":"%[1]s","CreateTime":"%[1]s","StorageRegion":"%[1]s",`+
		`"SourceInfo":{"SourceType":"%[1]s","SourceContext":"%[1]s"}}}}`, long)
	e, _, err := event.Decode([]byte(item), 1)
	require.NoError(t, err)
	require.NoError(t, s.Send(t.Context(), e))
	name := read(t, filepath.Join(dir, "name"))
	require.Equal(t, strings.Repeat("长", maxValue/3), name)
	require.Equal(t, string(sinktest.Body(t, e)), read(t, filepath.Join(dir, "stdin")))
}

func TestEventEnv(t *testing.T) {
	decode := func(item string) event.Event { e, _, _ := event.Decode([]byte(item), 0); return e }
	for item, want := range map[string][]string{
		`{"EventType":"ProcedureStateChanged","ProcedureStateChangeEvent":{"TaskId":"t","FileId":7}}`: {"VOD_SUB_APP_ID=", "VOD_TASK_ID=t", "VOD_FILE_ID=7"},
		`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":["x"],"MediaBasicInfo":{"Name":"a\u0000b","ClassId":-3}}}`: {
			"VOD_FILE_ID=", "VOD_FILE_NAME=ab", "VOD_CLASS_ID=-3"},
		`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"1","MediaBasicInfo":"odd"}}`: {"VOD_FILE_ID=1", "VOD_FILE_NAME="},
		`{"EventType":"NewFileUpload"}`:                                     {"VOD_FILE_ID=", "VOD_FILE_NAME="},
		`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["7"]}}`: {"VOD_FILE_ID=7"},
		`[]`: {"VOD_EVENT_TYPE=unknown", "VOD_FILE_ID="},
	} {
		env := eventEnv(decode(item))
		for _, setting := range want {
			require.Contains(t, env, setting, item)
		}
	}
	require.NotContains(t, strings.Join(eventEnv(decode(`{"EventType":"FileDeleted"}`)), "\n"), "VOD_FILE_NAME")
}

// alive reports whether the process whose number a script wrote to path is there and not a zombie.
func alive(t *testing.T, path string) bool {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, path)))
	require.NoError(t, err)
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestTimeLimit ends the command, its child and its grandchild, whether they listen to SIGTERM or not.
func TestTimeLimit(t *testing.T) {
	for name, script := range map[string]string{
		"obedient":                          `sh -c 'sleep 60 & echo $! >"$OUT/pid"; wait' & wait`,
		"deaf":                              `trap "" TERM; sh -c 'trap "" TERM; sleep 60 & echo $! >"$OUT/pid"; wait' & wait; wait; sleep 60`,
		"leader obeys, grandchild does not": `sh -c 'trap "" TERM; sleep 60 >/dev/null 2>&1 & echo $! >"$OUT/pid"; wait' & wait`,
		"exits with 0 on SIGTERM":           `trap "exit 0" TERM; sleep 60 & echo $! >"$OUT/pid"; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := shell(t, dir, script)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := s.Send(ctx, sinktest.Upload(0))
			require.Less(t, time.Since(start), 3*time.Second)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.EqualError(t, err, `command "sh" was ended before it was done: context deadline exceeded`)
			require.False(t, retry.IsPermanent(err))
			for alive(t, filepath.Join(dir, "pid")) {
				require.Less(t, time.Since(start), 10*time.Second, "the grandchild lives on")
			}
		})
	}
}

// TestAllAreAsked lets the grandchild end in its own way, not only the command.
func TestAllAreAsked(t *testing.T) {
	dir := t.TempDir()
	s := shell(t, dir, `sh -c 'trap "echo asked >\"$OUT/asked\"; exit" TERM; while :; do sleep 0.05; done' & trap "" TERM; wait; wait`)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Send(ctx, sinktest.Upload(0)), context.DeadlineExceeded)
	require.Equal(t, "asked\n", read(t, filepath.Join(dir, "asked")))
}

// TestGrandchildHoldsPipe has the command exit while a child of it keeps standard error open.
func TestGrandchildHoldsPipe(t *testing.T) {
	for _, code := range []int{0, 75} {
		dir := t.TempDir()
		s := shell(t, dir, fmt.Sprintf(`sleep 60 & echo $! >"$OUT/pid"; exit %d`, code))
		start := time.Now()
		err := s.Send(t.Context(), sinktest.Upload(0))
		require.Equal(t, code == 0, err == nil, "%v", err)
		require.Less(t, time.Since(start), 3*time.Second)
		require.True(t, alive(t, filepath.Join(dir, "pid")), "what a command leaves behind is its own affair")
		pid, err := strconv.Atoi(strings.TrimSpace(read(t, filepath.Join(dir, "pid"))))
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
}

// TestStdinNotRead has a big event and a command that does not look at it, or closes it.
func TestStdinNotRead(t *testing.T) {
	e, _, err := event.Decode(fmt.Appendf(nil, `{"EventType":"X","E":{"a":"%s"}}`, strings.Repeat("x", 5_000_000)), 0)
	require.NoError(t, err)
	for script, ok := range map[string]bool{"exit 0": true, "exec <&-; exit 0": true, "head -c 10 >/dev/null": true, "exit 1": false} {
		err := shell(t, "", script).Send(t.Context(), e)
		require.Equal(t, ok, err == nil, "%s: %v", script, err)
		require.False(t, retry.IsPermanent(err), script)
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600))
	for name, tt := range map[string]struct{ command, dir, text, hint string }{
		"not in PATH":    {"vodrelay-no-such-command", "", `command "vodrelay-no-such-command" cannot be started: executable file not found in $PATH`, "install it"},
		"no such file":   {"/no/such/command", "", `command "/no/such/command" cannot be started: no such file or directory`, "install it"},
		"not executable": {plain, "", `cannot be started: permission denied`, "chmod +x"},
		"no directory":   {"sh", "/no/such/dir", `directory "/no/such/dir" of the command: no such file or directory`, "create it"},
		"relative":       {"./plain", dir, `command "./plain" cannot be started: permission denied`, "chmod +x"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Command, cfg.Dir = []string{tt.command}, tt.dir
			s, err := New(cfg, zaptest.NewLogger(t))
			require.NoError(t, err)
			for _, err := range []error{s.Send(t.Context(), sinktest.Upload(0)), s.Check(t.Context())} {
				require.ErrorContains(t, err, tt.text)
				require.Contains(t, retry.Hint(err), tt.hint)
				require.False(t, retry.IsPermanent(err), "a person can put the command right")
			}
		})
	}
}

func TestCheckRunsNothing(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run"), []byte("#!/bin/sh\ntouch ran\n"), 0o700))
	cfg := DefaultConfig()
	cfg.Command, cfg.Dir = []string{"./run"}, dir
	s, err := New(cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	require.NoError(t, s.Check(t.Context()))
	require.NoFileExists(t, filepath.Join(dir, "ran"))
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`command: []: name a program, such as [/usr/local/bin/on-upload]`: func(c *Config) { c.Command = nil },
		`command: "run" and what follows it, all in one item, is one program with this name; write each argument as an item of its own, or use [sh, -c, "..."]`: func(c *Config) {
			c.Command = []string{"run --now"}
		},
		`command: no item may contain a NUL character`:                                                    func(c *Config) { c.Command = []string{"sh", "a\x00"} },
		`env: an item has no name: write NAME=value`:                                                      func(c *Config) { c.Env = []string{"=secret"} },
		`env: "A": must not contain a NUL character`:                                                      func(c *Config) { c.Env = []string{"A=secret\x00"} },
		`env: "VOD_FILE_ID": VOD_ is kept for the fields of the event, choose another name`:               func(c *Config) { c.Env = []string{"VOD_FILE_ID=secret"} },
		`format: "xml": use callback or cloudevents`:                                                      func(c *Config) { c.Format = "xml" },
		`kill_grace: 1m0s: must be between 10ms and 10s`:                                                  func(c *Config) { c.KillGrace = time.Minute },
		`format: "cloudevents-binary": standard input has no headers for the attributes, use cloudevents`: func(c *Config) { c.Format = event.FormatCloudEventsBinary },
	} {
		cfg := DefaultConfig()
		cfg.Command = []string{"sh"}
		require.NoError(t, cfg.Validate())
		change(&cfg)
		require.EqualError(t, cfg.Validate(), want)
	}
}

func TestTail(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	trace := "Traceback (most recent call last):\n" + strings.Repeat("  File \"/usr/lib/on-upload\", line 7, in handle\n", 2000) + "ValueError: no such bucket\n\n"
	for name, tt := range map[string]struct {
		writes []string
		want   string
	}{
		"nothing":             {nil, ""},
		"blank":               {[]string{"\n \t\n"}, ""},
		"one line":            {[]string{"no route", " to host\n"}, ": no route to host"},
		"two lines":           {[]string{"a\n\nb\n"}, ": a; b"},
		"three lines":         {[]string{"\na\nb\nc"}, ": a ... c"},
		"exactly full":        {[]string{"first\n", strings.Repeat("y\n", (tailBytes-6)/2)}, ": first ... y"},
		"traceback at once":   {[]string{trace}, ": Traceback (most recent call last): ... ValueError: no such bucket"},
		"traceback in pieces": {pieces(trace, 100), ": Traceback (most recent call last): ... ValueError: no such bucket"},
		"long lines":          {[]string{strings.Repeat("é", 500) + "\n" + strings.Repeat("e", 500)}, ": " + strings.Repeat("é", 58) + "...; " + strings.Repeat("e", lastBytes-3) + "..."},
		"one long line": {[]string{strings.Repeat("é", 5000) + "no space left"},
			": " + strings.Repeat("é", 58) + "... ... ..." + strings.Repeat("é", 53) + "no space left"},
		"cut":          {[]string{"first\n", strings.Repeat(line, 100)}, ": first ... " + line[:99]},
		"blank at end": {[]string{"first\n", strings.Repeat("\n", 2*tailBytes)}, ": first"},
		"not UTF-8":    {[]string{"a\xffb\x00c\n"}, ": a\uFFFDb\\u0000c"},
	} {
		var kept tail
		for _, text := range tt.writes {
			n, err := kept.Write([]byte(text))
			require.NoError(t, err)
			require.Equal(t, len(text), n)
		}
		require.LessOrEqual(t, len(kept.kept), tailBytes, name)
		require.Equal(t, tt.want, kept.cause(), name)
		all := strings.Join(tt.writes, "")
		shown, cut := strings.CutPrefix(kept.text(), "...\n")
		require.Equal(t, len(all) > tailBytes, cut, name)
		if utf8.ValidString(all) {
			require.True(t, strings.HasSuffix(all, shown), name)
		}
	}
}

func pieces(text string, size int) []string {
	var all []string
	for piece := range slices.Chunk([]byte(text), size) {
		all = append(all, string(piece))
	}
	return all
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("error: x\n"), 3)
	f.Add([]byte("\xff\xfe\x00\u2028"), 1)
	f.Fuzz(func(t *testing.T, text []byte, times int) {
		var kept tail
		for range times & 0xff {
			_, _ = kept.Write(text)
		}
		all := bytes.Repeat(text, times&0xff)
		require.Equal(t, all[max(0, len(all)-tailBytes):], append([]byte{}, kept.kept...))
		line := kept.cause()
		require.LessOrEqual(t, len(line), firstBytes+lastBytes+len(":  ... ..."))
		require.NotContains(t, line, "\n")
		require.True(t, utf8.ValidString(line))
		require.True(t, utf8.ValidString(kept.text()))
	})
}
