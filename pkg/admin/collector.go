package admin

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
)

const (
	// unprocessed is the sink of events that a processor failed on.
	unprocessed = event.Unprocessed
	// removed is the label of all sinks that still have parcels and are not configured any more.
	removed = "(removed)"
)

var (
	breakerStates = []string{"closed", "half-open", "open"}
	parcelStates  = []event.ParcelState{event.ParcelWaiting, event.ParcelDead}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("vodrelay_"+name, help, labels, nil)
}

// What is read when somebody asks. Histograms and the events by type are the Observer's.
var (
	buildInfo  = desc("build_info", "Always 1; its labels are the version of vodrelay and of Go.", "version", "goversion")
	logDropped = desc("log_lines_dropped_total", "Lines that are missing in the log, since whatever reads it did not keep up or was gone.")

	joined     = desc("deliveries_joined_total", "Deliveries of an event that was in hand already.")
	remembered = desc("deliveries_remembered_total", "Deliveries of an event that was settled before and only had to be confirmed.")
	settled    = desc("events_settled_total", "Events that were handled with success.")
	unsettled  = desc("events_unsettled_total", "Events that were handled in vain; each of them is delivered again.")
	confirmed  = desc("events_confirmed_total", "Events that are gone from the queue.")
	refused    = desc("confirm_handles_refused_total", "Handles that the queue did not accept.")
	late       = desc("confirms_late_total", "Handles whose lease ended before they could be confirmed.")
	inHand     = desc("events_in_hand", "Events that are pulled and not yet confirmed.")
	inHandMax  = desc("events_in_hand_limit", "Most events that may be in hand.")
	pollers    = desc("pollers", "Pollers at work.")

	dropped  = desc("processor_events_dropped_total", "Events that a processor dropped.")
	failed   = desc("processor_events_failed_total", "Deliveries on which a processor failed.")
	unrouted = desc("events_unrouted_total", "Events that no sink wanted, by their type; types that are not documented count as other.", "type")
	partly   = desc("events_partly_accepted", "Events that are not settled although some sinks accepted them.")

	sinkSettled  = desc("sink_events_settled_total", "Events by sink and outcome: accepted (parcels included), skipped (its condition did not match), deduplicated (accepted before), parked (in the store, to be sent later) or dead (in the store, for a person).", "sink", "outcome")
	sinkFailed   = desc("sink_deliveries_failed_total", "Deliveries to a sink that failed after all attempts; with a store each is parked or dead.", "sink")
	sinkAttempts = desc("sink_attempts_total", "Attempts to send an event to a sink, repeated ones included.", "sink")
	sinkFailures = desc("sink_consecutive_failures", "Deliveries to a sink that failed since the last one that was accepted; those that it refused, and those that were not tried since it is down, among them.", "sink")
	sinkFailing  = desc("sink_failing_since_timestamp_seconds", "When the first attempt failed or was refused since the sink accepted an event last; missing while it accepts what it gets.", "sink")
	sinkBreaker  = desc("sink_breaker_state", "1 for the state that the sink's breaker has: closed, open (the target is down) or half-open (it is being tried).", "sink", "state")
	sinkLast     = desc("sink_last_success_timestamp_seconds", "When the sink accepted an event last; missing before the first.", "sink")

	parcelSends    = desc("parcel_sends_total", "Attempts to send a parcel again, by result: accepted or failed.", "result")
	parcelDead     = desc("parcels_given_up_total", "Parcels that became dead letters after attempts of the scheduler.")
	parcelNotTried = desc("parcel_sends_not_tried_total", "Parcels that were due and not tried, since the target is down or no place was free.")
	storeErrors    = desc("store_errors_total", "Calls of the store by the scheduler that failed.")

	cbRequests   = desc("callback_requests_total", "Requests that the receiver of VOD's normal callback has answered, whatever for.")
	cbAccepted   = desc("callback_notifications_accepted_total", "Notifications that were answered with 200.")
	cbRefused    = desc("callback_notifications_refused_total", "Notifications that were refused, by reason: unsigned or invalid.", "reason")
	cbUnsettled  = desc("callback_notifications_unsettled_total", "Notifications that were not accepted, since the event could not be settled or stored, or there was no time or room.")
	cbJoined     = desc("callback_notifications_joined_total", "Notifications of an event that was in hand already.")
	cbRemembered = desc("callback_notifications_remembered_total", "Notifications of an event that had been settled too late for its last attempt.")
	cbInHand     = desc("callback_events_in_hand", "Events that were posted and are being worked on.")

	connsOpen   = desc("connections", "Open connections of the servers of this program, admin and callback.", "server")
	connsClosed = desc("connections_closed_total", "Connections that were closed without being at work, by server and reason: stranger (its address may not connect), replaced (it waited, and another one needed its place), or crowded (its address has as many as one may have).", "server", "reason")

	storeUp      = desc("store_up", "1 if the store can be read and written.")
	storeInfo    = desc("store_info", "Always 1; its labels are the driver and the store: replicas with the same one share it, so that their parcels are the same, too.", "driver", "store")
	parcels      = desc("parcels", "Parcels in the store, by sink and state: waiting or dead. Sinks that are not configured any more count as (removed), events that a processor failed on as -.", "sink", "state")
	parcelBytes  = desc("parcels_bytes", "Size of the events in parcels, by sink and state.", "sink", "state")
	parcelOldest = desc("parcels_oldest_age_seconds", "Time since the oldest parcel was stored, by sink and state; 0 when there is none.", "sink", "state")
	parcelsMax   = desc("store_parcels_limit", "Most parcels that the store takes; missing without a limit.")
	logBytes     = desc("store_log_bytes", "Size of SQLite's write-ahead log on the disk; what is beyond 32 MiB counts into the bytes that the store takes.")
	usedBytes    = desc("store_used_bytes", "Bytes that count into the limit: those of the events in all parcels, and what the write-ahead log has beyond 32 MiB.")
	bytesMax     = desc("store_bytes_limit", "Most bytes that the store takes; missing without a limit.")
	shareMax     = desc("store_share_limit_ratio", "Largest part of these limits that the parcels of one sink may take; missing without one.")

	queueDepth   = desc("queue_depth", "About how many events wait in an application's queue; it lags by minutes, and is missing when it cannot be read.", "sub_app_id")
	queueFailing = desc("queue_failing_since_timestamp_seconds", "When the first call failed since one succeeded last, by application and step: pull or confirm; missing while they succeed.", "sub_app_id", "step")
	queueDepthAt = desc("queue_depth_timestamp_seconds", "When the depth of an application's queue was read.", "sub_app_id")
	lastSuccess  = desc("last_success_timestamp_seconds", "When a step succeeded last: pull, handle or confirm; missing before the first time.", "step")
)

// collector reads a server's data anew at every scrape.
type collector struct{ *Server }

// Describe implements prometheus.Collector. It says nothing: which metrics there are depends on whether
// there is a store, and on what succeeded already.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s collector) Collect(ch chan<- prometheus.Metric) {
	c := collection{ch}
	stats := s.opts.Stats()
	c.gauge(buildInfo, 1, label(s.opts.Version), runtime.Version())
	c.counter(logDropped, float64(stats.LogDropped))
	c.relay(stats.Relay)
	c.pipeline(stats.Pipeline)
	for _, sink := range stats.Pipeline.Sinks {
		c.sink(sink)
		c.timestamp(sinkLast, s.opts.Observer.lastSent(sink.Name), label(sink.Name))
	}
	if stats.Scheduler != nil {
		c.scheduler(*stats.Scheduler)
	}
	if stats.Callback != nil {
		c.callback(*stats.Callback)
		c.connections("callback", stats.Callback.Connections)
	}
	c.connections("admin", s.connections())
	if s.counts != nil {
		s.collectStore(c, stats.Pipeline.Sinks)
	}
	for _, app := range s.depths.apps {
		if depth, known := s.depths.of(app); known {
			c.gauge(queueDepth, float64(depth.events), strconv.FormatUint(app, 10))
			c.timestamp(queueDepthAt, depth.at, strconv.FormatUint(app, 10))
		}
	}
	for _, q := range stats.Queues {
		c.timestamp(queueFailing, q.Pull.Since, strconv.FormatUint(q.SubAppID, 10), "pull")
		c.timestamp(queueFailing, q.Confirm.Since, strconv.FormatUint(q.SubAppID, 10), "confirm")
	}
	c.timestamp(lastSuccess, s.opts.Observer.pulled.get(), "pull")
	c.timestamp(lastSuccess, s.opts.Observer.handled.get(), "handle")
	c.timestamp(lastSuccess, s.opts.Observer.confirmed.get(), "confirm")
}

func (s collector) collectStore(c collection, sinks []SinkStats) {
	if s.opts.StoreLabel != nil {
		c.gauge(storeInfo, 1, s.opts.StoreDriver, s.opts.StoreLabel())
	}
	if s.opts.MaxParcels > 0 {
		c.gauge(parcelsMax, float64(s.opts.MaxParcels))
	}
	if s.opts.MaxBytes > 0 {
		c.gauge(bytesMax, float64(s.opts.MaxBytes))
	}
	if s.opts.StoreLog != nil {
		c.gauge(logBytes, float64(s.opts.StoreLog()))
	}
	if share := s.share(); share > 0 {
		c.gauge(shareMax, float64(share)/100)
	}
	counts, err := s.counts.get(context.Background()) // a look has its own limit
	if err != nil {
		c.gauge(storeUp, 0)
		return
	}
	up := 1.0
	if _, err := s.health.get(context.Background()); err != nil {
		up = 0
	}
	c.gauge(storeUp, up)
	now, used := time.Now(), int64(0)
	if s.opts.StoreLogExcess != nil {
		used = s.opts.StoreLogExcess()
	}
	for _, n := range counts {
		used += n.Bytes
	}
	c.gauge(usedBytes, float64(used))
	for _, n := range bySink(counts, sinks) {
		c.gauge(parcels, float64(n.Parcels), label(n.Sink), string(n.State))
		c.gauge(parcelBytes, float64(n.Bytes), label(n.Sink), string(n.State))
		age := time.Duration(0)
		if n.Parcels > 0 {
			age = max(now.Sub(n.Oldest), 0)
		}
		c.gauge(parcelOldest, age.Seconds(), label(n.Sink), string(n.State))
	}
}

// bySink has an entry for each configured sink and state, also where there is nothing, and puts all sinks
// together that are not configured: a store may hold the names of years.
func bySink(counts []Count, sinks []SinkStats) []Count {
	names := make([]string, 0, len(sinks)+2)
	for _, sink := range sinks {
		names = append(names, sink.Name)
	}
	names = append(names, unprocessed, removed)
	var all []Count
	for _, name := range names {
		for _, state := range parcelStates {
			all = append(all, Count{Sink: name, State: state})
		}
	}
	for _, n := range counts {
		at := slices.Index(names, n.Sink)
		if at < 0 {
			at = len(names) - 1
		}
		state := slices.Index(parcelStates, n.State)
		if state < 0 {
			continue
		}
		sum := &all[at*len(parcelStates)+state]
		if sum.Parcels == 0 || n.Oldest.Before(sum.Oldest) {
			sum.Oldest = n.Oldest
		}
		sum.Parcels += n.Parcels
		sum.Bytes += n.Bytes
	}
	return all
}

// collection sends metrics.
type collection struct{ ch chan<- prometheus.Metric }

func (c collection) gauge(d *prometheus.Desc, value float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (c collection) counter(d *prometheus.Desc, value float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
}

// timestamp leaves out what never happened: as 1970 it would look like an outage of decades.
func (c collection) timestamp(d *prometheus.Desc, at time.Time, labels ...string) {
	if !at.IsZero() {
		c.gauge(d, float64(at.UnixMilli())/1000, labels...)
	}
}

func (c collection) relay(r RelayStats) {
	c.counter(joined, float64(r.Joined))
	c.counter(remembered, float64(r.Remembered))
	c.counter(settled, float64(r.Settled))
	c.counter(unsettled, float64(r.Unsettled))
	c.counter(confirmed, float64(r.Confirmed))
	c.counter(refused, float64(r.Refused))
	c.counter(late, float64(r.Late))
	c.gauge(inHand, float64(r.InHand))
	c.gauge(inHandMax, float64(r.MaxInHand))
	c.gauge(pollers, float64(r.Pollers))
}

func (c collection) pipeline(p PipelineStats) {
	c.counter(dropped, float64(p.Dropped))
	c.counter(failed, float64(p.Failed))
	byType := make(map[string]uint64, len(typeLabels))
	for eventType, n := range p.UnroutedTypes {
		byType[typeLabel(eventType)] += n
	}
	for _, eventType := range typeLabels { // also where there is nothing, so that an increase from 0 is seen
		c.counter(unrouted, float64(byType[eventType]), eventType)
	}
	c.gauge(partly, float64(p.Remembered))
}

func (c collection) sink(s SinkStats) {
	name := label(s.Name)
	c.counter(sinkSettled, float64(s.Sent), name, "accepted")
	c.counter(sinkSettled, float64(s.Skipped), name, "skipped")
	c.counter(sinkSettled, float64(s.Deduplicated), name, "deduplicated")
	c.counter(sinkSettled, float64(s.Parked), name, "parked")
	c.counter(sinkSettled, float64(s.Dead), name, "dead")
	c.counter(sinkFailed, float64(s.Failed), name)
	c.counter(sinkAttempts, float64(s.Attempts), name)
	c.gauge(sinkFailures, float64(s.Failing.InARow), name)
	c.timestamp(sinkFailing, s.Failing.Since, name)
	if s.Breaker == "" {
		return
	}
	for _, state := range breakerStates {
		value := 0.0
		if s.Breaker == state {
			value = 1
		}
		c.gauge(sinkBreaker, value, name, state)
	}
}

func (c collection) scheduler(s SchedulerStats) {
	c.counter(parcelSends, float64(s.Delivered), "accepted")
	c.counter(parcelSends, float64(s.Failed), "failed")
	c.counter(parcelDead, float64(s.Dead))
	c.counter(parcelNotTried, float64(s.NotTried))
	c.counter(storeErrors, float64(s.StoreErrors))
}

func (c collection) connections(server string, s httpserver.Stats) {
	c.gauge(connsOpen, float64(s.Open), server)
	for reason, count := range s.Closed {
		c.counter(connsClosed, float64(count), server, httpserver.Reason(reason).String())
	}
}

func (c collection) callback(s CallbackStats) {
	c.counter(cbRequests, float64(s.Requests))
	c.counter(cbAccepted, float64(s.Accepted))
	c.counter(cbRefused, float64(s.Unsigned), "unsigned")
	c.counter(cbRefused, float64(s.Refused), "invalid")
	c.counter(cbUnsettled, float64(s.Unsettled))
	c.counter(cbJoined, float64(s.Joined))
	c.counter(cbRemembered, float64(s.Remembered))
	c.gauge(cbInHand, float64(s.InHand))
}
