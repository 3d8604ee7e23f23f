package app

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	sampleTime = 10 * time.Second
	maxSamples = 1000
)

// sampler keeps warnings and errors that repeat themselves from flooding the log. The first is written at
// once. Of those that follow within sampleTime the last is written when that time is over, with their number
// as "repeated"; so the first and the last of a run are always there. Two are the same when logger, level,
// message, the sink and the fields of Logger.With are, and the errors are of one retry.Kind; other fields, such as
// event_id, are not looked at. Past maxSamples different ones at a time, the others are written as they come.
// An info line that a state is over, which "lasted", is treated likewise: such a state may come and go quickly.
type sampler struct {
	zapcore.Core
	context string // the fields of With, encoded
	runs    *runs
}

func newSampler(core zapcore.Core) zapcore.Core {
	return &sampler{Core: core, runs: &runs{open: map[sampleKey]*run{}}}
}

type sampleKey struct {
	level                                 zapcore.Level
	logger, message, context, sink, error string
}

// run is one line that was written, and what followed it.
type run struct {
	timer *time.Timer
	held  int
	core  zapcore.Core // with the fields of the last one held, which may not be read later than Write
	entry zapcore.Entry
}

// write writes the last one held.
func (r *run) write() error {
	return r.core.Write(r.entry, []zapcore.Field{zap.Int("repeated", r.held)})
}

// runs are those that are on, for all loggers made from one.
type runs struct {
	mu   sync.Mutex
	open map[sampleKey]*run
}

func (s *sampler) With(fields []zapcore.Field) zapcore.Core {
	return &sampler{Core: s.Core.With(fields), context: s.context + encode(fields), runs: s.runs}
}

// encode makes fields comparable.
func encode(fields []zapcore.Field) string {
	text, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(zapcore.Entry{}, fields)
	if err != nil {
		return ""
	}
	defer text.Free()
	return text.String()
}

func (s *sampler) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level < zapcore.InfoLevel || entry.Level > zapcore.ErrorLevel {
		return s.Core.Check(entry, checked)
	}
	if s.Enabled(entry.Level) {
		return checked.AddCore(entry, s)
	}
	return checked
}

func (s *sampler) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	key := sampleKey{entry.Level, entry.LoggerName, entry.Message, s.context, "", ""}
	over := false
	for _, f := range fields {
		switch err, isError := f.Interface.(error); {
		case isError && f.Type == zapcore.ErrorType:
			key.error = retry.Kind(err.Error())
		case f.Key == "sink":
			key.sink = f.String
		case f.Key == "lasted":
			over = true
		}
	}
	if (over || entry.Level > zapcore.InfoLevel) && s.runs.hold(key, s.Core, entry, fields) {
		return nil
	}
	return s.Core.Write(entry, fields)
}

// hold keeps a line that follows the first of a run, and reports it; otherwise a run may begin.
func (r *runs) hold(key sampleKey, core zapcore.Core, entry zapcore.Entry, fields []zapcore.Field) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on, ok := r.open[key]; ok {
		on.core, on.entry = core.With(fields), entry
		on.held++
		return true
	}
	if len(r.open) < maxSamples {
		r.open[key] = &run{timer: time.AfterFunc(sampleTime, func() { r.end(key) })}
	}
	return false
}

// end writes what was held of a run, which then goes on, or forgets the run.
func (r *runs) end(key sampleKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	on, ok := r.open[key]
	if !ok { // Sync was faster
		return
	}
	if on.held == 0 {
		delete(r.open, key)
		return
	}
	_ = on.write() // there is nobody to tell
	on.held = 0
	on.timer.Reset(sampleTime)
}

// Sync writes everything that is held, and ends all runs.
func (s *sampler) Sync() error {
	s.runs.mu.Lock()
	for key, on := range s.runs.open {
		on.timer.Stop()
		if on.held > 0 {
			_ = on.write() // Sync tells what is wrong
		}
		delete(s.runs.open, key)
	}
	s.runs.mu.Unlock()
	return s.Core.Sync()
}
