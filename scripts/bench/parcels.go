package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/store"
)

// parcels is a store with a million of them: half wait, half are dead.
func (h *harness) parcels(ctx context.Context) (section, error) {
	n := scale(h, 1_000_000, 10_000)
	s := section{title: "Many parcels", tables: []table{{header: []string{"SQLite, " + number(float64(n)) + " parcels", "median, ms", "longest, ms"}}}}
	cfg := store.DefaultConfig()
	cfg.Path = h.dir + "/parcels.db"
	st, err := store.Open(ctx, cfg, nil)
	if err != nil {
		return s, err
	}
	defer st.Close(context.WithoutCancel(ctx))
	began := time.Now()
	if err := fill(ctx, st, n); err != nil {
		return s, err
	}
	filled := time.Since(began)

	var worst time.Duration
	measure := func(what string, times int, do func() error) {
		if err != nil {
			return
		}
		var took []time.Duration
		for range times {
			began := time.Now()
			if err = do(); err != nil {
				err = fmt.Errorf("%s: %w", what, err)
				return
			}
			took = append(took, time.Since(began))
		}
		longest := took[0]
		for _, d := range took {
			longest = max(longest, d)
		}
		worst = max(worst, median(took))
		s.tables[0].add(what, millis(median(took)), millis(longest))
	}
	const sink = "sink-1"
	var middle store.Cursor
	for range 50 {
		if _, middle, err = st.List(ctx, store.Filter{}, middle, min(1000, n/100)); err != nil {
			return s, err
		}
	}
	page := func(f store.Filter, after store.Cursor) func() error {
		return func() error {
			_, _, err := st.List(ctx, f, after, 50)
			return err
		}
	}
	measure("list 50, the first page", 20, page(store.Filter{}, ""))
	measure("list 50, far in", 20, page(store.Filter{}, middle))
	measure("list 50 dead of one sink", 20, page(store.Filter{Sink: sink, State: event.ParcelDead}, ""))
	measure("list one event by its ID", 20, page(store.Filter{EventID: parcelID(n / 2)}, ""))
	measure("counts", 20, func() error { _, err := st.Counts(ctx); return err })
	measure("NextDue", 20, func() error { _, _, err := st.NextDue(ctx, sink); return err })
	var claimed []event.ParcelKey
	measure("Claim 64", 20, func() error {
		all, err := st.Claim(ctx, sink, 64, time.Minute)
		for _, p := range all {
			claimed = append(claimed, p.Key())
		}
		return err
	})
	measure("Complete 64", min(20, len(claimed)/64), func() error {
		err := st.Complete(ctx, claimed[:64]...)
		claimed = claimed[64:]
		return err
	})
	i := 1
	measure("replay one dead letter", 20, func() error {
		i += 2
		_, err := st.Replay(ctx, store.Filter{EventID: parcelID(i)})
		return err
	})
	if err != nil {
		return s, err
	}
	began = time.Now()
	replayed, err := st.Replay(ctx, store.Filter{Sink: "sink-3", State: event.ParcelDead})
	if err != nil {
		return s, err
	}
	s.note("Filled with %s parcels/s. %s dead letters of one sink replayed with %s/s.", number(float64(n)/filled.Seconds()),
		number(float64(replayed)), number(float64(replayed)/time.Since(began).Seconds()))
	h.goal("a million parcels: list, replay one, NextDue, Claim", "quick: by an index", "each at most %s ms (median)", millis(worst))
	return s, nil
}

const parcelSinks = 4

func parcelID(i int) string { return fmt.Sprintf("%032x", uint64(i)*0x9e3779b97f4a7c15) }

// fill stores n parcels of 300 bytes, for several sinks, of several ages; every other one is dead.
func fill(ctx context.Context, st *store.Store, n int) error {
	const batch, writers = 1000, 4
	now := time.Now()
	next := make(chan int)
	var all sync.WaitGroup
	failed := make(chan error, writers)
	for range writers {
		all.Go(func() {
			for from := range next {
				parcels := make([]event.Parcel, 0, batch)
				for i := from; i < min(from+batch, n); i++ {
					created := now.Add(-time.Duration(n-i) * time.Millisecond)
					p := event.Parcel{
						Event: event.Event{ID: parcelID(i), Type: event.NewFileUpload, SubAppID: application, Raw: json.RawMessage(fmt.Sprintf(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%d","Pad":"%0230d"}}`, i, i))},
						Sink:  fmt.Sprintf("sink-%d", i/2%parcelSinks), State: event.ParcelWaiting,
						Created: created, Updated: created, Next: created, Attempts: 1, FirstError: "503 Service Unavailable", LastError: "503 Service Unavailable",
					}
					if i%2 == 1 {
						p.State = event.ParcelDead
					}
					parcels = append(parcels, p)
				}
				if err := st.Put(ctx, parcels...); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for from := 0; from < n && err == nil; from += batch {
		select {
		case next <- from:
		case err = <-failed:
		}
	}
	close(next)
	all.Wait()
	select {
	case err = <-failed:
	default:
	}
	return err
}
