package gauge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soak is an hour of samples, with values from a function of the hours.
func soak(values func(hours float64) []float64) *Gauge {
	g, begin := New(time.Second), time.Now().Add(-time.Hour)
	for n := range 720 {
		at := time.Duration(n) * 5 * time.Second
		g.Add("relay", Sample{At: begin.Add(at), Born: 1, Values: values(at.Hours())})
	}
	return g
}

func flat(t *testing.T, g *Gauge) []bool {
	t.Helper()
	verdicts, err := g.Judge()
	require.NoError(t, err)
	var flat []bool
	for _, v := range verdicts {
		flat = append(flat, v.Flat)
	}
	return flat
}

func TestJudge(t *testing.T) {
	noise := func(most float64) float64 { return most * rand.Float64() }
	for name, c := range map[string]struct {
		values func(hours float64) []float64
		flat   []bool
	}{
		"noise": {func(float64) []float64 {
			return []float64{40 + noise(15), 10 + noise(10), 50 + noise(20), 30 + noise(10)}
		}, []bool{true, true, true, true}},
		"warming":   {func(h float64) []float64 { return []float64{40 * min(1, 8*h), 10 * min(1, 8*h), 50, 30} }, []bool{true, true, true, true}},
		"shrinking": {func(h float64) []float64 { return []float64{80 - 40*h, 20 - 10*h, 100 - 50*h, 60 - 30*h} }, []bool{true, true, true, true}},
		"a peak at the end": {func(h float64) []float64 {
			if h > 0.97 {
				return []float64{400, 300, 900, 900}
			}
			return []float64{40, 10, 50, 30}
		}, []bool{true, true, true, true}},
		"leaks": {func(h float64) []float64 {
			return []float64{40 + 30*h + noise(5), 10 + 20*h + noise(5), 50 + 60*h + noise(10), 30 + 30*h + noise(5)}
		}, []bool{false, false, false, false}},
		"one leak": {func(h float64) []float64 { return []float64{40, 10, 50, 30 + 60*h} }, []bool{true, true, true, false}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.flat, flat(t, soak(c.values))) })
	}
}

func TestSlope(t *testing.T) {
	verdicts, err := soak(func(h float64) []float64 { return []float64{40 + 7*h, 10, 50, 30} }).Judge()
	require.NoError(t, err)
	require.InDelta(t, 7, verdicts[0].Slope, 0.01)
	require.InDelta(t, 0, verdicts[1].Slope, 0.01)
	require.InDelta(t, 40+7*0.375, verdicts[0].Early, 0.1)
	require.InDelta(t, 40+7*0.875, verdicts[0].Late, 0.1)
	require.InDelta(t, 47, verdicts[0].Most, 0.1)
}

// TestLives: a restart ends a life, and the longest one is judged.
func TestLives(t *testing.T) {
	g, begin := New(time.Second), time.Now()
	add := func(minute int, born, value float64) {
		g.Add("relay", Sample{At: begin.Add(time.Duration(minute) * 15 * time.Second), Born: born, Values: []float64{value, value, value, value}})
	}
	for n := range 20 {
		add(n, 1, 500)
	}
	for n := range 80 {
		add(20+n, 2, 10)
	}
	verdicts, err := g.Judge()
	require.NoError(t, err)
	require.Equal(t, 2, verdicts[0].Lives)
	require.Equal(t, 80, verdicts[0].Samples)
	require.InDelta(t, 10, verdicts[0].Most, 0)

	for n := range 30 {
		add(100+n, 3, 10)
	}
	short := New(time.Second)
	for n := range 30 {
		short.Add("relay", Sample{At: begin.Add(time.Duration(n) * time.Second), Born: 1, Values: []float64{1, 1, 1, 1}})
	}
	_, err = short.Judge()
	require.ErrorContains(t, err, "too short")
	_, err = New(time.Second).Judge()
	require.ErrorContains(t, err, "no process answered")
}

// TestRun reads the metrics of a process, and goes on where it does not answer.
func TestRun(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 2:
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		case 3:
			_, _ = fmt.Fprint(w, "# TYPE go_goroutines gauge\ngo_goroutines 5\n") // and none of the others
			return
		}
		_, _ = fmt.Fprint(w, strings.ReplaceAll(`# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.048576e+08
# TYPE go_memstats_heap_inuse_bytes gauge
go_memstats_heap_inuse_bytes 1.048576e+07
# TYPE go_goroutines gauge
go_goroutines 40
# TYPE process_open_fds gauge
process_open_fds 20
# TYPE process_start_time_seconds gauge
process_start_time_seconds 7
`, "\t", ""))
	}))
	defer server.Close()
	g := New(10 * time.Millisecond)
	g.client.Timeout = 10 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx, map[string]string{"relay": server.URL}) }()
	require.Eventually(t, func() bool { samples, _ := g.Samples("relay"); return len(samples) >= 3 }, 20*time.Second, time.Millisecond)
	cancel()
	<-done
	samples, missed := g.Samples("relay")
	require.Equal(t, 2, missed)
	require.Equal(t, []float64{100, 10, 40, 20}, samples[0].Values)
	require.InDelta(t, 7, samples[0].Born, 0)
}

func TestTableAndPlot(t *testing.T) {
	g := soak(func(h float64) []float64 { return []float64{40, 10, 50, 30 + 60*h} })
	verdicts, err := g.Judge()
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, Table(&text, verdicts))
	require.Contains(t, text.String(), "| relay | resident memory, MiB | 40.0 | 40.0 | 40.0 | +0.0 | 48.0 | flat |\n")
	require.Contains(t, text.String(), "| relay | open files | 52.5 | 82.5 | 89.9 | +60.0 | 60.1 | **grows** |\n")

	path := filepath.Join(t.TempDir(), "soak.svg")
	require.Error(t, New(time.Second).Plot(path))
	require.NoError(t, g.Plot(path))
	svg, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, q := range Quantities {
		require.Contains(t, string(svg), q.Name)
	}
	require.Less(t, len(svg), 200<<10)
}
