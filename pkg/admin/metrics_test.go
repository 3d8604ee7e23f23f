package admin

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

var update = flag.Bool("update", false, "write testdata/metrics.txt anew")

// busy reports something of everything.
func busy(o *Observer) {
	o.PullWaited(time.Millisecond)
	o.PullDone(time.Second, 3, nil)
	o.PullDone(5*time.Second, 0, nil)
	o.PullDone(time.Second, 0, errors.New("down"))
	o.Received(event.NewFileUpload)
	o.Handled(time.Millisecond, true)
	o.Handled(time.Second, false)
	o.ConfirmWaited(0)
	o.Confirmed(10*time.Millisecond, 16, 28*time.Second, nil)
	o.Confirmed(10*time.Millisecond, 2, 0, fmt.Errorf("confirm: %w", event.ErrStaleHandle))
	o.Confirmed(10*time.Millisecond, 1, 0, errors.New("down"))
	o.Sent("site", time.Second, nil)
	o.Sent("site", time.Second, errors.New("503"))
	o.Sent("site", time.Second, retry.Permanent(errors.New("410")))
	o.Sent("site", time.Second, fmt.Errorf("the target is down: %w", retry.ErrNotTried))
	o.Sent("no such sink", time.Second, nil)
}

// gathered is a server's metrics by name, when everything has something to tell.
func gathered(t *testing.T, opts Options) (*Server, map[string]*dto.MetricFamily) {
	t.Helper()
	s, err := New(Config{Listen: "127.0.0.1:0"}, nil, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Shutdown(t.Context())) })
	for _, app := range opts.Applications {
		require.NoError(t, s.depths.once(t.Context(), app))
	}
	families, err := s.registry.Gather()
	require.NoError(t, err)
	all := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		all[f.GetName()] = f
	}
	return s, all
}

func fullOptions() Options {
	store := &fakeStore{parcels: []event.Parcel{
		parcel(1, "site", event.ParcelWaiting), parcel(90, "site", event.ParcelDead), parcel(3, "gone", event.ParcelDead), parcel(4, "gone too", event.ParcelDead),
	}}
	opts := someOptions(store)
	busy(opts.Observer)
	return opts
}

func TestMetricsLint(t *testing.T) {
	s, _ := gathered(t, fullOptions())
	families, err := s.registry.Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

// A name is a promise to dashboards and alerts: whoever changes one changes the golden file, with -update.
func TestMetricsGolden(t *testing.T) {
	_, all := gathered(t, fullOptions())
	var lines []string
	for name, f := range all {
		if !strings.HasPrefix(name, "vodrelay_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		lines = append(lines, fmt.Sprintf("%s{%s} %s: %s\n", name, strings.Join(labels, ","), strings.ToLower(f.GetType().String()), f.GetHelp()))
	}
	slices.Sort(lines)
	const path = "testdata/metrics.txt"
	got := strings.Join(lines, "")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
	require.Contains(t, all, "go_goroutines")
	require.Contains(t, all, "process_start_time_seconds")
}

func TestMetricsOverHTTP(t *testing.T) {
	s := start(t, Config{}, fullOptions(), defaultLimits)
	got := s.get("/metrics")
	require.Equal(t, 200, got.status)
	for _, line := range []string{
		`vodrelay_build_info{goversion="go`,
		`vodrelay_events_received_total{type="NewFileUpload"} 1`,
		`vodrelay_pull_duration_seconds_count{result="empty"} 1`,
		`vodrelay_confirm_batch_handles_bucket{result="confirmed",le="16"} 1`,
		`vodrelay_confirm_duration_seconds_count{result="refused"} 1`,
		`vodrelay_confirm_lease_left_seconds_bucket{le="28"} 1`,
		`vodrelay_confirm_lease_left_seconds_count 1`,
		`vodrelay_confirms_late_total 2`,
		`vodrelay_events_unrouted_total{type="NewFileUpload"} 4`,
		`vodrelay_events_unrouted_total{type="FileDeleted"} 0`,
		`vodrelay_events_unrouted_total{type="other"} 5`,
		`vodrelay_sink_events_settled_total{outcome="accepted",sink="site"} 4`,
		`vodrelay_sink_breaker_state{sink="site",state="open"} 1`,
		`vodrelay_sink_breaker_state{sink="site",state="closed"} 0`,
		`vodrelay_sink_send_duration_seconds_count{result="refused",sink="site"} 1`,
		`vodrelay_sink_send_duration_seconds_count{result="failed",sink="site"} 1`,
		`vodrelay_sink_send_duration_seconds_count{result="accepted",sink="site"} 1`,
		`vodrelay_sink_consecutive_failures{sink="site"} 2`,
		`vodrelay_sink_failing_since_timestamp_seconds{sink="site"} 1.`,
		`vodrelay_sink_failing_since_timestamp_seconds{sink="archive"} 1.`,
		`vodrelay_queue_failing_since_timestamp_seconds{step="pull",sub_app_id="1500000002"} 1.`,
		`vodrelay_store_info{driver="sqlite",store="abcd"} 1`,
		`vodrelay_parcels{sink="site",state="dead"} 1`,
		`vodrelay_parcels{sink="archive",state="waiting"} 0`,
		`vodrelay_parcels{sink="(removed)",state="dead"} 2`,
		`vodrelay_parcels_oldest_age_seconds{sink="archive",state="dead"} 0`,
		`vodrelay_store_up 1`,
		`vodrelay_store_parcels_limit 1000`,
		`vodrelay_store_share_limit_ratio 0.5`,
		`vodrelay_events_in_hand_limit 512`,
		`vodrelay_last_success_timestamp_seconds{step="pull"} 1.`,
	} {
		require.Contains(t, got.body, line)
	}
	for _, absent := range []string{`vodrelay_sink_failing_since_timestamp_seconds{sink="plain"}`, `step="confirm",sub_app_id`} {
		require.NotContains(t, got.body, absent)
	}
	used, bytes := 1000, 0
	for _, p := range fullOptions().Parcels.(*fakeStore).parcels {
		bytes += len(p.Raw)
	}
	require.Contains(t, got.body, fmt.Sprintf("vodrelay_store_used_bytes %d\n", used+bytes))
	require.NotContains(t, got.body, `sink="plain",state="open"`, "a sink without a breaker has no state of it")
	require.NotContains(t, got.body, "no such sink")
	require.NotContains(t, got.body, "New<b>", "types come from outside")
	require.Contains(t, s.get("/metrics", "Accept", "application/openmetrics-text;version=1.0.0").header.Get("Content-Type"), "openmetrics")
}

func TestMetricsOfAFailingStore(t *testing.T) {
	opts := fullOptions()
	opts.Parcels.(*fakeStore).fail(errors.New("no connection"))
	_, all := gathered(t, opts)
	require.Zero(t, all["vodrelay_store_up"].GetMetric()[0].GetGauge().GetValue())
	require.NotContains(t, all, "vodrelay_parcels", "nobody knows is not zero")
	require.Contains(t, all, "vodrelay_events_confirmed_total")
}

func TestMetricsOfAStoreThatCanOnlyBeRead(t *testing.T) {
	opts := fullOptions()
	opts.Parcels.(*fakeStore).ill = errors.New("the store is lost")
	_, all := gathered(t, opts)
	require.Zero(t, all["vodrelay_store_up"].GetMetric()[0].GetGauge().GetValue())
	require.Contains(t, all, "vodrelay_parcels", "what is in it is known all the same")
}

// Before anything succeeded there is no time of it: as 1970 it would set off every alert.
func TestMetricsOfAFreshStart(t *testing.T) {
	opts := someOptions(nil)
	opts.Depth, opts.Applications = nil, nil
	opts.MaxParcels, opts.MaxBytes, opts.MaxShare = 0, 0, func() int { return 0 }
	_, all := gathered(t, opts)
	for _, name := range []string{"vodrelay_last_success_timestamp_seconds", "vodrelay_sink_last_success_timestamp_seconds", "vodrelay_queue_depth", "vodrelay_store_up", "vodrelay_store_bytes_limit", "vodrelay_store_share_limit_ratio"} {
		require.NotContains(t, all, name)
	}
	require.Len(t, all["vodrelay_pull_duration_seconds"].GetMetric(), 3, "results are there before they happen")
}

// Whatever comes from outside, the number of series has a bound that the configuration gives.
func TestLabelsAreBounded(t *testing.T) {
	store := &fakeStore{}
	opts := someOptions(store)
	series := func() int {
		_, all := gathered(t, opts)
		n := 0
		for name, f := range all {
			if strings.HasPrefix(name, "vodrelay_") {
				n += len(f.GetMetric())
			}
		}
		return n
	}
	busy(opts.Observer)
	before := series()
	for i := range 5000 {
		opts.Observer.Received(fmt.Sprintf("Type%d", i))
		opts.Observer.Sent(fmt.Sprintf("sink%d", i), time.Second, nil)
		store.parcels = append(store.parcels, parcel(i, fmt.Sprintf("sink%d", i), event.ParcelDead))
	}
	opts.Observer.Received("")
	opts.Observer.Received("\xff\"}\n")
	opts.Observer.Received(event.Unknown)
	require.Equal(t, before, series())
	_, all := gathered(t, opts)
	received := make(map[string]float64)
	for _, m := range all["vodrelay_events_received_total"].GetMetric() {
		received[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	require.Len(t, received, len(event.PayloadFields())+2)
	require.Equal(t, 5002.0, received["other"])
	require.Equal(t, 1.0, received["unknown"])
}

func TestSinksCanBeReplaced(t *testing.T) {
	o := NewObserver("a", "b")
	o.Sent("a", time.Second, nil)
	o.Sent("b", time.Second, nil)
	o.UseSinks("b", "c")
	o.Sent("a", time.Second, nil)
	o.Sent("b", time.Second, nil)
	o.Sent("c", time.Second, nil)
	opts := someOptions(nil)
	opts.Observer = o
	_, all := gathered(t, opts)
	counts := make(map[string]uint64)
	for _, m := range all["vodrelay_sink_send_duration_seconds"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "sink" {
				counts[l.GetValue()] += m.GetHistogram().GetSampleCount()
			}
		}
	}
	require.Equal(t, map[string]uint64{"b": 2, "c": 1}, counts)
	require.True(t, o.lastSent("a").IsZero())
	require.False(t, o.lastSent("b").IsZero())
}

// A sink's name is a person's choice, and a label value must be UTF-8.
func TestOddSinkNames(t *testing.T) {
	opts := someOptions(&fakeStore{})
	opts.Observer = NewObserver("a\xffb", `"quoted"`)
	opts.Stats = func() Stats {
		return Stats{Pipeline: PipelineStats{Sinks: []SinkStats{{Name: "a\xffb", Breaker: "closed"}, {Name: `"quoted"`}}}}
	}
	opts.Version = "v\xff"
	opts.Observer.Sent("a\xffb", time.Second, nil)
	s := start(t, Config{}, opts, defaultLimits)
	require.Equal(t, 200, s.get("/metrics").status)
	require.Equal(t, 200, s.get("/status").status)
	require.Equal(t, 200, s.get("/").status)
}

func TestNilObserver(t *testing.T) {
	busy(nil)
}

func BenchmarkObserver(b *testing.B) {
	o := NewObserver("site")
	for b.Loop() {
		o.Received(event.NewFileUpload)
		o.Handled(time.Millisecond, true)
		o.Sent("site", time.Millisecond, nil)
	}
}
