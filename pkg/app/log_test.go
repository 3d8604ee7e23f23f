//go:build unix

package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// logged runs f with a logger and returns its lines.
func logged(t *testing.T, format string, f func(log *zap.Logger)) []string {
	t.Helper()
	var buf bytes.Buffer
	log, err := NewLogger(config.Log{Level: "info", Format: format}, &buf)
	require.NoError(t, err)
	f(log.Logger)
	require.NoError(t, log.Sync())
	return strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n")
}

func TestLoggerFormats(t *testing.T) {
	write := func(log *zap.Logger) { log.Info("pulling again", zap.Duration("lasted", 90*time.Second)) }
	for _, format := range []string{"auto", "json"} { // a buffer is no terminal
		lines := logged(t, format, write)
		require.Len(t, lines, 1)
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(lines[0]), &fields))
		_, err := time.Parse(time.RFC3339Nano, fields["time"].(string))
		require.NoError(t, err)
		delete(fields, "time")
		require.Equal(t, map[string]any{"level": "info", "msg": "pulling again", "lasted": "1m30s"}, fields)
	}
	lines := logged(t, "console", write)
	require.Len(t, lines, 1)
	require.Regexp(t, `^\d\d:\d\d:\d\d\tINFO\tpulling again\t{"lasted": "1m30s"}$`, lines[0])
}

// Whatever made a line, no secret stands in it.
func TestTheLogShowsNoSecret(t *testing.T) {
	const address, secret = "https://user:planted@example.com/planted", "token=planted"
	for _, format := range []string{"json", "console"} {
		lines := logged(t, format, func(log *zap.Logger) {
			log.With(zap.String("of", address)).Warn("no answer of "+address, zap.Error(errors.New(secret)), zap.Strings("odd", []string{"a", "b"}),
				zap.String("text", secret), zap.ByteString("bytes", []byte(address)), zap.String("hint", `write "`+address+`" anew, as in token=...`))
		})
		require.Len(t, lines, 1)
		require.NotContains(t, lines[0], "planted")
		require.Equal(t, 4, strings.Count(lines[0], "https://***@example.com/***"), lines[0])
		require.Equal(t, 2, strings.Count(lines[0], "token=***"), lines[0])
		require.Contains(t, lines[0], "anew, as in token=...", "only what a hint quotes can be secret")
	}
}

func TestLoggerOnATerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	defer func() { _ = terminal.Close() }()
	log, err := NewLogger(config.Log{Level: "info", Format: "auto"}, terminal)
	require.NoError(t, err)
	log.Info("hello")
	buf := make([]byte, 100)
	n, err := terminal.Read(buf) // the echo
	require.NoError(t, err)
	require.Contains(t, string(buf[:n]), "INFO")
	require.NotContains(t, string(buf[:n]), "{")
}

func TestLoggerLevelCanBeChanged(t *testing.T) {
	var buf bytes.Buffer
	base, err := NewLogger(config.Log{Level: "error", Format: "json"}, &buf)
	require.NoError(t, err)
	log := base.With(zap.String("sink", "site"))
	log.Warn("not yet")
	require.NoError(t, log.Sync())
	require.Empty(t, buf.String())
	require.NoError(t, base.Level.UnmarshalText([]byte("debug")))
	log.Warn("warned")
	log.Debug("debugged")
	require.NoError(t, log.Sync())
	require.Equal(t, 2, strings.Count(buf.String(), "\n"))
	_, err = NewLogger(config.Log{Level: "loud"}, &buf)
	require.ErrorContains(t, err, `log.level: "loud"`)
}

// TestLoggerIntoTheJournal is its own child: what counts is the process's standard error.
func TestLoggerIntoTheJournal(t *testing.T) {
	if format := os.Getenv("TEST_LOG_FORMAT"); format != "" {
		base, err := NewLogger(config.Log{Level: "debug", Format: format}, os.Stderr)
		require.NoError(t, err)
		log := base.With(zap.String("sink", "site")) // also a clone must write priorities
		log.Debug("d")
		log.Info("i")
		log.Warn("w", zap.Error(errors.New("two\nlines")))
		log.WithOptions(zap.AddStacktrace(zap.ErrorLevel)).Error("e")
		require.NoError(t, log.Sync())
		return
	}
	run := func(format string, redirected bool) []string {
		file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		require.NoError(t, err)
		defer func() { _ = file.Close() }()
		var stat syscall.Stat_t
		require.NoError(t, syscall.Fstat(int(file.Fd()), &stat))
		if redirected {
			stat.Ino++
		}
		child := exec.Command(os.Args[0], "-test.run=^TestLoggerIntoTheJournal$")
		child.Env = append(os.Environ(), "TEST_LOG_FORMAT="+format, fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino))
		child.Stderr = file
		require.NoError(t, child.Run())
		text, err := os.ReadFile(file.Name())
		require.NoError(t, err)
		return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}

	lines := run("auto", false)
	require.Len(t, lines, 4)
	require.Equal(t, `<7>{"level":"debug","msg":"d","sink":"site"}`, lines[0])
	require.Equal(t, `<6>{"level":"info","msg":"i","sink":"site"}`, lines[1])
	require.Equal(t, `<4>{"level":"warn","msg":"w","sink":"site","error":"two\nlines"}`, lines[2])
	require.True(t, strings.HasPrefix(lines[3], "<3>{"), lines[3])

	lines = run("console", false)
	require.Greater(t, len(lines), 4, "the stack has lines of its own")
	require.Equal(t, `<6>INFO`+"\ti\t"+`{"sink": "site"}`, lines[1])
	for _, line := range lines[3:] {
		require.True(t, strings.HasPrefix(line, "<3>"), line)
	}

	for _, line := range run("auto", true) {
		require.True(t, strings.HasPrefix(line, `{"level":`) && strings.Contains(line, `"time":"20`), line)
	}
}

func TestPriorities(t *testing.T) {
	for level, want := range map[zapcore.Level]string{
		zapcore.DebugLevel: "<7>", zapcore.InfoLevel: "<6>", zapcore.WarnLevel: "<4>", zapcore.ErrorLevel: "<3>",
		zapcore.DPanicLevel: "<2>", zapcore.PanicLevel: "<2>", zapcore.FatalLevel: "<2>",
	} {
		require.Equal(t, want, priority(level), level)
	}
}

// sampled runs f in a bubble of time and returns what is in the log, each line as "SECOND message event repeated".
func sampled(t *testing.T, f func(log *zap.Logger, lines func() []string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var buf bytes.Buffer
		began := time.Now()
		log, err := NewLogger(config.Log{Level: "debug", Format: "json"}, writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return buf.Write(p)
		}))
		require.NoError(t, err)
		f(log.Logger, func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			var found []string
			for line := range bytes.Lines(buf.Bytes()) {
				var l struct {
					Time     time.Time
					Msg      string
					EventID  string `json:"event_id"`
					Repeated int
				}
				require.NoError(t, json.Unmarshal(line, &l))
				found = append(found, fmt.Sprintf("%gs %s %s %d", l.Time.Sub(began).Round(time.Millisecond).Seconds(), l.Msg, l.EventID, l.Repeated))
			}
			buf.Reset()
			return found
		})
		_ = log.Sync()
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSamplerKeepsTheFirstAndTheLast(t *testing.T) {
	sampled(t, func(log *zap.Logger, lines func() []string) {
		refused := errors.New("status 400")
		for i := range 100 {
			log.Warn("given up", zap.Error(refused), zap.String("event_id", fmt.Sprint(i)))
			time.Sleep(70 * time.Millisecond)
		}
		require.Equal(t, []string{"0s given up 0 0"}, lines())
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"6.93s given up 99 99"}, lines(), "with its own time")
		time.Sleep(time.Hour)
		require.Empty(t, lines())
		log.Warn("given up", zap.Error(refused), zap.String("event_id", "100"))
		require.Equal(t, []string{"3610s given up 100 0"}, lines(), "a new run")
	})
}

func TestSamplerTellsOfALongRunNowAndThen(t *testing.T) {
	sampled(t, func(log *zap.Logger, lines func() []string) {
		for range 60 {
			log.Error("given up")
			time.Sleep(900 * time.Millisecond)
		}
		require.Len(t, lines(), 6)
	})
}

func TestSamplerTellsApart(t *testing.T) {
	sampled(t, func(log *zap.Logger, lines func() []string) {
		one, two := log.With(zap.String("sink", "one")), log.With(zap.String("sink", "two"))
		for range 3 {
			one.Warn("fails", zap.Error(errors.New("a")))
			one.Warn("fails", zap.Error(errors.New("b")))
			two.Warn("fails", zap.Error(errors.New("a")))
			two.Error("fails", zap.Error(errors.New("a")))
			two.Named("x").Error("fails", zap.Error(errors.New("a")))
			two.Error("fails too", zap.Error(errors.New("a")))
		}
		require.Len(t, lines(), 6)
		require.NoError(t, log.Sync())
		require.Len(t, lines(), 6)
		time.Sleep(time.Hour)
		require.Empty(t, lines(), "Sync has ended the runs")
	})
}

// A state that is over is held like an error, since it may come and go; other information is not.
func TestSamplerOfStatesAndDetails(t *testing.T) {
	sampled(t, func(log *zap.Logger, lines func() []string) {
		for i := range 5 {
			log.Info("credential replaced")
			log.Info("sink is back", zap.String("sink", "one"), zap.Duration("lasted", time.Duration(i)))
			log.Info("sink is back", zap.String("sink", "two"), zap.Duration("lasted", time.Duration(i)))
			log.Warn("full", zap.Error(fmt.Errorf("%d parcels", i)))
			log.Debug("exchange")
		}
		require.Len(t, lines(), 5+1+1+1+5)
	})
}

func TestSamplerIsBounded(t *testing.T) {
	sampled(t, func(log *zap.Logger, lines func() []string) {
		for i := range maxSamples + 10 {
			log.Warn(fmt.Sprint("different ", i))
			log.Warn(fmt.Sprint("different ", i))
		}
		require.Len(t, lines(), maxSamples+20, "what does not fit is not held")
		time.Sleep(sampleTime)
		require.Len(t, lines(), maxSamples)
	})
}

// TestSamplerReadsFieldsAtOnce is for buffers that are used again.
func TestSamplerReadsFieldsAtOnce(t *testing.T) {
	sampled(t, func(log *zap.Logger, lines func() []string) {
		buf := []byte("one")
		for range 2 {
			log.Warn("fails", zap.ByteString("event_id", buf))
		}
		copy(buf, "two")
		require.NoError(t, log.Sync())
		require.Equal(t, []string{"0s fails one 0", "0s fails one 1"}, lines())
	})
}
