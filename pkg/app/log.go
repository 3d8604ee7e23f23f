package app

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// Log is a logger that never waits for whoever reads its lines. Sync writes what is held back, and waits for it
// at most LogSyncTime.
type Log struct {
	*zap.Logger
	Level zap.AtomicLevel // can be changed while the logger is in use
	lines *logWriter
}

// Write puts text, such as whole lines for a person, among the lines of the log, in the order of all calls. It
// never blocks or fails; what does not fit counts as one line.
func (l *Log) Write(text []byte) (int, error) { return l.lines.Write(text) }

// Dropped is how many lines are missing in the log, since whatever reads it did not keep up or was gone.
func (l *Log) Dropped() int64 { return l.lines.Missing() }

// NewLogger writes logs to w as cfg says. Format auto is console on a terminal and JSON elsewhere. Where w is
// the standard error that systemd's journal reads, each line begins with its priority and has no time, which
// the journal adds. What repeats itself is written as sampler says, and addresses as redact does. Lines that w does not take in time are
// dropped, and a line says how many; see logWriter.
func NewLogger(cfg config.Log, w io.Writer) (*Log, error) {
	level, err := zap.ParseAtomicLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %q: must be debug, info, warn or error", cfg.Level)
	}
	file, _ := w.(*os.File)
	console := cfg.Format == "console"
	if cfg.Format == "auto" {
		console = file != nil && term.IsTerminal(int(file.Fd()))
	}
	journal := file == os.Stderr && stderrIsJournal()
	encoder := newEncoder(console, journal)
	lines := &logWriter{out: w, notice: func(missing int64) []byte { return missingLines(encoder, missing) }}
	core := newSampler(redactingCore{zapcore.NewCore(encoder, lines, level)})
	return &Log{zap.New(core, zap.ErrorOutput(lines)), level, lines}, nil
}

// missingLines is the line that says how many are missing before it.
func missingLines(encoder zapcore.Encoder, n int64) []byte {
	entry := zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "lines of the log are missing: whatever reads it did not keep up"}
	text, err := encoder.EncodeEntry(entry, []zapcore.Field{zap.Int64("dropped", n)})
	if err != nil {
		return nil
	}
	defer text.Free()
	return slices.Clone(text.Bytes())
}

func newEncoder(console, journal bool) zapcore.Encoder {
	cfg, build := zap.NewProductionEncoderConfig(), zapcore.NewJSONEncoder
	cfg.TimeKey, cfg.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	if console {
		cfg, build = zap.NewDevelopmentEncoderConfig(), zapcore.NewConsoleEncoder
		cfg.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly)
	}
	cfg.EncodeDuration = zapcore.StringDurationEncoder
	if journal {
		cfg.TimeKey = zapcore.OmitKey
	}
	encoder := zapcore.Encoder(safeEncoder{build(cfg), buffer.NewPool()})
	if journal {
		encoder = journalEncoder{encoder, buffer.NewPool()}
	}
	return encoder
}

// output makes a writer that several sinks print to without mixing their lines.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}
