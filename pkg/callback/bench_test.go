package callback

import (
	"context"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/pipeline"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// BenchmarkReceive posts signed notifications of 1.5 KB over loopback, 64 at a time: to a handler that does
// nothing, and to a store on disk.
func BenchmarkReceive(b *testing.B) {
	b.Run("nothing", func(b *testing.B) {
		benchmark(b, HandlerFunc(func(context.Context, event.Delivery) error { return nil }))
	})
	b.Run("sqlite", func(b *testing.B) {
		cfg := store.DefaultConfig()
		cfg.Path = filepath.Join(b.TempDir(), "store.db")
		parcels, err := store.Open(b.Context(), cfg, nil)
		require.NoError(b, err)
		p, err := pipeline.New(nil, nil, []pipeline.Route{{Name: "site", Sink: pipeline.SinkFunc(func(context.Context, event.Event) error { return nil })}},
			pipeline.WithParking(parcels, pipeline.ParkEverything))
		require.NoError(b, err)
		benchmark(b, p)
		require.NoError(b, parcels.Close(context.Background()))
	})
}

func benchmark(b *testing.B, h Handler) {
	cfg := testConfig()
	cfg.SignKey = testKey
	s := receiver(b, cfg, nil, h)
	url := serve(b, s)
	contents := emulator.GenerateUploads(b.N, 1)
	bodies := make([][]byte, len(contents))
	for i, c := range contents {
		var err error
		bodies[i], err = Sign(c, testKey, time.Now().Add(time.Hour))
		require.NoError(b, err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var next atomic.Int64
	b.SetParallelism(32) // for each of GOMAXPROCS
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			status, err := post(client, url, bodies[next.Add(1)-1])
			if err != nil || status != http.StatusOK {
				b.Errorf("%d %v", status, err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "notifications/s")
}

// BenchmarkDecode is the part of it that reads a body.
func BenchmarkDecode(b *testing.B) {
	cfg := testConfig()
	cfg.SignKey = testKey
	s := receiver(b, cfg, nil, &recorder{})
	body, err := Sign(emulator.GenerateUploads(1, 1)[0], testKey, time.Now().Add(time.Hour))
	require.NoError(b, err)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, refused := s.decode(body, time.Now()); refused != nil {
			b.Fatal(refused.text)
		}
	}
}
