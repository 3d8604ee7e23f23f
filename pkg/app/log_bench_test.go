package app

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// BenchmarkLog is what one line into a file costs whoever writes it, alone and from several goroutines.
func BenchmarkLog(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	require.NoError(b, err)
	defer func() { _ = file.Close() }()
	base, err := NewLogger(config.Log{Level: "info", Format: "json"}, file)
	require.NoError(b, err)
	log := base.With(zap.String("sink", "site"))
	refused := errors.New("status 503")
	line := func() { log.Info("sink does not accept an event", zap.Error(refused), zap.Int("attempt", 3)) }
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			line()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				line()
			}
		})
		b.ReportMetric(float64(base.Dropped()), "dropped")
	})
}
