package app

import (
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vodrelay/vodrelay/pkg/redact"
)

// redactingCore writes texts and errors as redact.Text has them, whoever made them. A hint is ours: only what it
// quotes can be secret.
type redactingCore struct{ zapcore.Core }

func (r redactingCore) With(fields []zapcore.Field) zapcore.Core {
	return redactingCore{r.Core.With(redacted(fields))}
}

func (r redactingCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if r.Enabled(entry.Level) {
		return checked.AddCore(entry, r)
	}
	return checked
}

func (r redactingCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	entry.Message = redact.Text(entry.Message)
	return r.Core.Write(entry, redacted(fields))
}

// redacted copies fields only if one of them changes.
func redacted(fields []zapcore.Field) []zapcore.Field {
	copied := false
	for i, f := range fields {
		shown, changed := redactedField(f)
		if !changed {
			continue
		}
		if !copied {
			fields, copied = slices.Clone(fields), true
		}
		fields[i] = shown
	}
	return fields
}

func redactedField(f zapcore.Field) (_ zapcore.Field, changed bool) {
	text, show := f.String, redact.Text
	switch f.Type {
	case zapcore.StringType:
		if f.Key == "hint" {
			if text == "" { // there is nothing to do but to wait
				return zap.Skip(), true
			}
			show = redact.Quoted
		}
	case zapcore.ByteStringType:
		bytes, ok := f.Interface.([]byte)
		if !ok {
			return f, false
		}
		text = string(bytes)
	case zapcore.ErrorType:
		err, ok := f.Interface.(error)
		if !ok || err == nil {
			return f, false
		}
		text = err.Error()
	default:
		return f, false
	}
	if shown := show(text); shown != text {
		return zap.String(f.Key, shown), true
	}
	return f, false
}
