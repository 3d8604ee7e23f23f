// Package gauge watches what processes use while they run for long: memory, goroutines, file descriptors. It judges
// whether that stays flat, and draws it.
package gauge

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Quantity is something that a process uses.
type Quantity struct {
	Name   string
	Unit   string
	Metric string
	Scale  float64 // of the metric, to the unit
	// Growth and Slack are how much more there may be at the end than after the start: a share, and an amount.
	Growth, Slack float64
}

// Quantities are what is watched. The tolerance is for what changes by itself: the collector's moments, connections
// that come and go.
var Quantities = []Quantity{
	{Name: "resident memory", Unit: "MiB", Metric: "process_resident_memory_bytes", Scale: 1 << 20, Growth: 0.10, Slack: 4},
	{Name: "heap in use", Unit: "MiB", Metric: "go_memstats_heap_inuse_bytes", Scale: 1 << 20, Growth: 0.10, Slack: 4},
	{Name: "goroutines", Metric: "go_goroutines", Scale: 1, Growth: 0.05, Slack: 5},
	{Name: "open files", Metric: "process_open_fds", Scale: 1, Growth: 0.05, Slack: 5},
}

const started = "process_start_time_seconds"

// Sample is what a process used at a moment.
type Sample struct {
	At     time.Time
	Born   float64   // tells the lives of a process apart
	Values []float64 // as Quantities, in their units
}

// Gauge collects samples.
type Gauge struct {
	every  time.Duration
	client *http.Client

	mu      sync.Mutex
	samples map[string][]Sample
	missed  map[string]int
}

// New is a gauge that looks so often.
func New(every time.Duration) *Gauge {
	return &Gauge{
		every: every, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: every},
		samples: map[string][]Sample{}, missed: map[string]int{},
	}
}

// Run looks until ctx ends at processes, given as the name of each and the URL of its metrics. A process that does not
// answer, since it is killed or stopped, is missed at that moment.
func (g *Gauge) Run(ctx context.Context, processes map[string]string) {
	ticker := time.NewTicker(g.every)
	defer ticker.Stop()
	for {
		var looking sync.WaitGroup
		for name, url := range processes {
			looking.Go(func() {
				sample, err := g.look(ctx, url)
				if ctx.Err() != nil {
					return
				}
				g.mu.Lock()
				defer g.mu.Unlock()
				if err != nil {
					g.missed[name]++
					return
				}
				g.samples[name] = append(g.samples[name], sample)
			})
		}
		looking.Wait()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (g *Gauge) look(ctx context.Context, url string) (s Sample, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return s, err
	}
	res, err := g.client.Do(req)
	if err != nil {
		return s, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s answers %s", url, res.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		return s, err
	}
	value := func(name string) float64 {
		family := families[name]
		if family == nil || len(family.Metric) != 1 || family.Metric[0].Gauge == nil {
			err = fmt.Errorf("%s has no gauge %s", url, name)
			return 0
		}
		return family.Metric[0].Gauge.GetValue()
	}
	s = Sample{At: time.Now(), Born: value(started)}
	for _, q := range Quantities {
		s.Values = append(s.Values, value(q.Metric)/q.Scale)
	}
	return s, err
}

// Names are those of the processes that answered.
func (g *Gauge) Names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.samples))
}

// Samples are those of a process, and how often it did not answer.
func (g *Gauge) Samples(name string) ([]Sample, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.samples[name]), g.missed[name]
}

// Add enters a sample that was taken elsewhere.
func (g *Gauge) Add(name string, s Sample) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.samples[name] = append(g.samples[name], s)
}
