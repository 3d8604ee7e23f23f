package app

import (
	"bytes"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// stderrIsJournal compares the standard error with $JOURNAL_STREAM, which a redirection leaves in place.
func stderrIsJournal() bool {
	is, err := journal.StderrIsJournalStream()
	return err == nil && is
}

// journalEncoder puts the priority before each line.
// Source: https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html.
type journalEncoder struct {
	zapcore.Encoder
	lines buffer.Pool
}

func (e journalEncoder) Clone() zapcore.Encoder { return journalEncoder{e.Encoder.Clone(), e.lines} }

func (e journalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	text, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	defer text.Free()
	out := e.lines.Get()
	for line := range bytes.Lines(text.Bytes()) { // several: a stack, in the format console
		out.AppendString(priority(entry.Level))
		_, _ = out.Write(line) // cannot fail
	}
	return out, nil
}

func priority(level zapcore.Level) string {
	switch {
	case level >= zapcore.DPanicLevel:
		return "<2>"
	case level == zapcore.ErrorLevel:
		return "<3>"
	case level == zapcore.WarnLevel:
		return "<4>"
	case level == zapcore.InfoLevel:
		return "<6>"
	}
	return "<7>"
}
