//go:build unix

package store

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

func benchmarkBoth(b *testing.B, bench func(b *testing.B, s *Store)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, open(b, sqliteConfig(b))) })
	b.Run("postgres", func(b *testing.B) { bench(b, open(b, postgresConfig(pgtest.Start(b)))) })
}

const batch = 16 // events of one pull

var benchNumber atomic.Int64

func freshBatch() []event.Parcel {
	n := int(benchNumber.Add(batch))
	all := parcels(n-batch, n, "site")
	for i := range all {
		all[i].Created, all[i].Next, all[i].Updated = time.Time{}, time.Time{}, time.Time{}
	}
	return all
}

// each calls do n times from many goroutines.
func each(b *testing.B, callers, n int, do func() error) {
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkPut stores batches of 16 events of 1.5 KB from 32 callers.
func BenchmarkPut(b *testing.B) {
	benchmarkBoth(b, func(b *testing.B, s *Store) {
		for b.Loop() {
			each(b, 32, 64, func() error { return s.Put(b.Context(), freshBatch()...) })
		}
		b.ReportMetric(float64(b.N*64*batch)/b.Elapsed().Seconds(), "events/s")
	})
}

// BenchmarkClaimComplete works stored events off, from 16 callers.
func BenchmarkClaimComplete(b *testing.B) {
	benchmarkBoth(b, func(b *testing.B, s *Store) {
		const perRound = 8192
		for b.Loop() {
			b.StopTimer()
			each(b, 8, perRound/batch/8, func() error {
				var all []event.Parcel
				for range 8 {
					all = append(all, freshBatch()...)
				}
				return s.Put(b.Context(), all...)
			})
			b.StartTimer()
			var done atomic.Int64
			each(b, 16, 16, func() error {
				for done.Load() < perRound {
					claimed, err := s.Claim(b.Context(), "site", 64, time.Minute)
					if err != nil || len(claimed) == 0 {
						return err
					}
					if err := s.Complete(b.Context(), keys(claimed)...); err != nil {
						return err
					}
					done.Add(int64(len(claimed)))
				}
				return nil
			})
			require.EqualValues(b, perRound, done.Load())
		}
		b.ReportMetric(float64(b.N*perRound)/b.Elapsed().Seconds(), "events/s")
	})
}

// BenchmarkSteady puts 1,600 events/s in and works them off at the same time, and reports what a core had
// to do for it and how long a batch took to be stored.
func BenchmarkSteady(b *testing.B) {
	const rate, length = 1600, 3 * time.Second
	benchmarkBoth(b, func(b *testing.B, s *Store) {
		var took []time.Duration
		var cpu, wall time.Duration
		for b.Loop() {
			began, used := time.Now(), cpuTime()
			total := int(rate * length.Seconds())
			var all sync.WaitGroup
			all.Go(func() {
				ticker := time.NewTicker(time.Second * batch / rate)
				defer ticker.Stop()
				for range total / batch {
					<-ticker.C
					start := time.Now()
					if err := s.Put(b.Context(), freshBatch()...); err != nil {
						b.Error(err)
						return
					}
					took = append(took, time.Since(start))
				}
			})
			all.Go(func() {
				for done := 0; done < total/batch*batch; {
					claimed, err := s.Claim(b.Context(), "site", 64, time.Minute)
					if err == nil {
						err = s.Complete(b.Context(), keys(claimed)...)
					}
					if err != nil {
						b.Error(err)
						return
					}
					if done += len(claimed); len(claimed) < 32 {
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
			all.Wait()
			cpu, wall = cpu+cpuTime()-used, wall+time.Since(began)
		}
		slices.Sort(took)
		b.ReportMetric(100*cpu.Seconds()/wall.Seconds(), "%cpu")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(len(took)*batch)/wall.Seconds(), "events/s")
	})
}

// BenchmarkList reads pages of 50 in the midst of many parcels.
func BenchmarkList(b *testing.B) {
	s := open(b, sqliteConfig(b))
	for range 400 {
		require.NoError(b, s.Put(b.Context(), slices.Concat(freshBatch(), freshBatch(), freshBatch(), freshBatch())...))
	}
	_, middle, err := s.List(b.Context(), Filter{}, "", 1000)
	require.NoError(b, err)
	for _, f := range []Filter{{}, {Sink: "site", State: event.ParcelWaiting}, {State: event.ParcelDead}, {EventID: "0123abcd"}} {
		b.Run(fmt.Sprintf("%v", f), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.List(b.Context(), f, middle, 50); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
