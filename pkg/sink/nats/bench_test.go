package nats

import (
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// BenchmarkSend is as many Sends at a time as a sink has by default.
func BenchmarkSend(b *testing.B) {
	c := startServer(b, func(o *server.Options) { o.SyncAlways = false })
	c.addStream(b)
	s := open(b, c)
	var next atomic.Int64
	b.SetParallelism(32) // times two processors
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.Send(b.Context(), sinktest.Upload(int(next.Add(1)))); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
