package app

import (
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// safeEncoder sees to it that nothing in a line can steer a terminal or look like another line, wherever the text
// comes from. Only a stack, in the format console, has several lines.
type safeEncoder struct {
	zapcore.Encoder
	lines buffer.Pool
}

func (e safeEncoder) Clone() zapcore.Encoder { return safeEncoder{e.Encoder.Clone(), e.lines} }

func (e safeEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	entry.Message = safetext.Line(entry.Message, 0)
	text, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	safe := safetext.Text(text.Bytes())
	if len(safe) == 0 || &safe[0] == &text.Bytes()[0] { // nothing was escaped
		return text, nil
	}
	defer text.Free()
	out := e.lines.Get()
	_, _ = out.Write(safe) // cannot fail
	return out, nil
}
