package app

import (
	"io"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// Sink is what a test may put around a real sink.
type Sink = sink

// WithSinks has wrap put something around each sink that is made.
func WithSinks(wrap func(name string, s Sink) Sink) Option {
	return func(a *App) {
		build := a.build
		a.build = func(cfg config.Sink, log *zap.Logger, out io.Writer) (sink, error) {
			s, err := build(cfg, log, out)
			if err != nil {
				return nil, err
			}
			return wrap(cfg.Name, s), nil
		}
	}
}
