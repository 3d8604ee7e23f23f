package admin

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// otherType is the label of every event type that is not documented: types come from outside, and a label
// must have a bound.
const otherType = "other"

// typeLabels are all values of the label for the type of an event.
var typeLabels = append(slices.Sorted(maps.Keys(event.PayloadFields())), event.Unknown, otherType)

func typeLabel(eventType string) string {
	if event.Known(eventType) {
		return eventType
	}
	return otherType
}

// Observer turns what the engine and the pipeline report into metrics. Its methods are safe for concurrent
// use, quick, and do nothing on a nil Observer.
type Observer struct {
	received map[string]prometheus.Counter // by documented type, and otherType; never changed
	pulls    outcomes
	handling outcomes
	confirms outcomes
	batches  outcomes
	waits    outcomes
	left     prometheus.Histogram
	sends    *prometheus.HistogramVec
	sinks    atomic.Pointer[map[string]*observedSink] // a map is never changed, only replaced
	all      []prometheus.Collector

	pulled, handled, confirmed lastTime
	authenticated              atomic.Bool // VOD has answered a pull, be it that the callback mode forbids it
}

// observedSink is what is kept for one sink.
type observedSink struct {
	sends outcomes
	last  lastTime
}

// outcomes are the histograms of one step by what came of it.
type outcomes map[string]prometheus.Observer

// lastTime is when something happened last: nanoseconds since 1970, 0 for never.
type lastTime struct{ at atomic.Int64 }

func (l *lastTime) set() { l.at.Store(time.Now().UnixNano()) }

// get is the zero time for never.
func (l *lastTime) get() time.Time {
	if at := l.at.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

var (
	// A poll of an empty queue takes 5 s.
	callBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 6, 10, 30}
	workBuckets = []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30}
	// Of a lease of 30 s.
	leaseBuckets = []float64{0, 1, 2.5, 5, 7.5, 10, 15, 20, 25, 28, 29, 29.5, 30}
	batchBuckets = []float64{1, 2, 4, 8, 12, event.MaxBatch}
)

// NewObserver makes one for a pipeline with the sinks of these names.
func NewObserver(sinks ...string) *Observer {
	o := &Observer{received: make(map[string]prometheus.Counter)}
	received := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vodrelay_events_received_total",
		Help: "Events pulled, repeated deliveries included, by their type; types that are not documented count as other.",
	}, []string{"type"})
	o.all = append(o.all, received)
	for _, eventType := range typeLabels {
		o.received[eventType] = received.WithLabelValues(eventType)
	}
	o.pulls = o.histograms("vodrelay_pull_duration_seconds", "Time of a poll, by result: events, empty or error. An empty queue holds a poll for 5 s.", callBuckets, "result", "events", "empty", "error")
	o.waits = o.histograms("vodrelay_rate_limit_wait_seconds", "Time that a request waited for the rate limiter, by API.", callBuckets, "api", "pull", "confirm")
	o.handling = o.histograms("vodrelay_handling_duration_seconds", "Time from an event's arrival in the pipeline to its end there, by result: settled or unsettled.", workBuckets, "result", "settled", "unsettled")
	o.confirms = o.histograms("vodrelay_confirm_duration_seconds", "Time of a confirm call, by result: confirmed, refused (for a handle) or error.", callBuckets, "result", "confirmed", "refused", "error")
	o.batches = o.histograms("vodrelay_confirm_batch_handles", "Handles in a confirm call, by result: confirmed, refused (for a handle) or error.", batchBuckets, "result", "confirmed", "refused", "error")
	o.left = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "vodrelay_confirm_lease_left_seconds",
		Help:    "Time that was left of the shortest lease in a batch when it was confirmed, of 30 s.",
		Buckets: leaseBuckets,
	})
	o.all = append(o.all, o.left)
	o.sends = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "vodrelay_sink_send_duration_seconds",
		Help:    "Time of one attempt to send an event to a sink, by result: accepted, refused (for good) or failed.",
		Buckets: workBuckets,
	}, []string{"sink", "result"})
	o.all = append(o.all, o.sends)
	o.UseSinks(sinks...)
	return o
}

// histograms registers one with a single label, for the values that the label has.
func (o *Observer) histograms(name, help string, buckets []float64, label string, values ...string) outcomes {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{label})
	o.all = append(o.all, vec)
	all := make(outcomes, len(values))
	for _, value := range values {
		all[value] = vec.WithLabelValues(value)
	}
	return all
}

// UseSinks replaces the sinks, as after a reload: what is reported of others is left out, and what was
// reported of those that are gone is forgotten. It must not be called by two at the same time.
func (o *Observer) UseSinks(names ...string) {
	before := o.observed()
	sinks := make(map[string]*observedSink, len(names))
	for _, name := range names {
		if sinks[name] = before[name]; sinks[name] != nil {
			continue
		}
		sink := &observedSink{sends: make(outcomes)}
		for _, result := range []string{"accepted", "refused", "failed"} {
			sink.sends[result] = o.sends.WithLabelValues(label(name), result)
		}
		sinks[name] = sink
	}
	o.sinks.Store(&sinks)
	for name := range before {
		if sinks[name] == nil {
			o.sends.DeletePartialMatch(prometheus.Labels{"sink": label(name)})
		}
	}
}

func (o *Observer) observed() map[string]*observedSink {
	if sinks := o.sinks.Load(); sinks != nil {
		return *sinks
	}
	return nil
}

// label makes a text fit to be the value of a label.
func label(text string) string { return safetext.Line(text, 0) }

// PullWaited reports how long a pull waited for the rate limiter.
func (o *Observer) PullWaited(d time.Duration) {
	if o != nil {
		o.waits["pull"].Observe(d.Seconds())
	}
}

// PullDone reports the end of a poll that brought so many events. A poll that a stop cancelled is not
// reported.
func (o *Observer) PullDone(d time.Duration, events int, err error) {
	if o == nil {
		return
	}
	result := "events"
	switch {
	case err != nil:
		result = "error"
	case events == 0:
		result = "empty"
	}
	o.pulls[result].Observe(d.Seconds())
	if err == nil {
		o.pulled.set()
	}
	if err == nil || errors.Is(err, event.ErrQueueClosed) {
		o.authenticated.Store(true)
	}
}

// Received reports one delivery of an event.
func (o *Observer) Received(eventType string) {
	if o == nil {
		return
	}
	o.received[typeLabel(eventType)].Inc()
}

// Handled reports that an event left the pipeline.
func (o *Observer) Handled(d time.Duration, settled bool) {
	if o == nil {
		return
	}
	if !settled {
		o.handling["unsettled"].Observe(d.Seconds())
		return
	}
	o.handling["settled"].Observe(d.Seconds())
	o.handled.set()
}

// ConfirmWaited reports how long a confirm waited for the rate limiter.
func (o *Observer) ConfirmWaited(d time.Duration) {
	if o != nil {
		o.waits["confirm"].Observe(d.Seconds())
	}
}

// Confirmed reports the end of a confirm call for size handles. leaseLeft is what was left then of the
// lease that ends first; it is not used when the call failed.
func (o *Observer) Confirmed(d time.Duration, size int, leaseLeft time.Duration, err error) {
	if o == nil {
		return
	}
	result := "confirmed"
	switch {
	case errors.Is(err, event.ErrStaleHandle):
		result = "refused"
	case err != nil:
		result = "error"
	}
	o.confirms[result].Observe(d.Seconds())
	o.batches[result].Observe(float64(size))
	if err == nil {
		o.left.Observe(leaseLeft.Seconds())
		o.confirmed.set()
	}
}

// Sent reports the end of one attempt to send an event to a sink. An attempt that was not made is left out.
func (o *Observer) Sent(sink string, d time.Duration, err error) {
	if o == nil || errors.Is(err, retry.ErrNotTried) {
		return
	}
	s, known := o.observed()[sink]
	if !known {
		return
	}
	switch {
	case err == nil:
		s.sends["accepted"].Observe(d.Seconds())
		s.last.set()
	case retry.IsPermanent(err):
		s.sends["refused"].Observe(d.Seconds())
	default:
		s.sends["failed"].Observe(d.Seconds())
	}
}

// lastSent is when the sink accepted an event last; the zero time for never.
func (o *Observer) lastSent(sink string) time.Time {
	if s := o.observed()[sink]; s != nil {
		return s.last.get()
	}
	return time.Time{}
}
