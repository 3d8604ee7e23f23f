package app

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// NewLogger writes logs to w as cfg says. Format auto is console on a terminal and JSON elsewhere. Where w is
// the standard error that systemd's journal reads, each line begins with its priority and has no time, which
// the journal adds. What repeats itself is written as sampler says; Sync writes what it holds.
//
// With the logger comes its level, which can be changed while it is in use.
func NewLogger(cfg config.Log, w io.Writer) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(cfg.Level)
	if err != nil {
		return nil, level, fmt.Errorf("log.level: %q: must be debug, info, warn or error", cfg.Level)
	}
	file, _ := w.(*os.File)
	console := cfg.Format == "console"
	if cfg.Format == "auto" {
		console = file != nil && term.IsTerminal(int(file.Fd()))
	}
	journal := file == os.Stderr && stderrIsJournal()
	sink := zapcore.Lock(zapcore.AddSync(w))
	core := newSampler(zapcore.NewCore(newEncoder(console, journal), sink, level))
	return zap.New(core, zap.ErrorOutput(sink)), level, nil
}

func newEncoder(console, journal bool) zapcore.Encoder {
	cfg, build := zap.NewProductionEncoderConfig(), zapcore.NewJSONEncoder
	cfg.TimeKey, cfg.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	if console {
		cfg, build = zap.NewDevelopmentEncoderConfig(), zapcore.NewConsoleEncoder
		cfg.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly)
	}
	cfg.EncodeDuration = zapcore.StringDurationEncoder
	if !journal {
		return build(cfg)
	}
	cfg.TimeKey = zapcore.OmitKey
	return journalEncoder{build(cfg), buffer.NewPool()}
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
