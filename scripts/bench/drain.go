package main

import (
	"context"
	"fmt"
	"time"
)

// settings is a configuration of vodrelay for a world: its defaults but for the sink, the place of the
// store, and the limit where there is no quota.
func (h *harness) settings(w *around, quota bool, sink string) ([]string, error) {
	limit := 10_000 // the highest
	if quota {
		limit = 100
	}
	return h.configuration(fmt.Sprintf("vod: {rate_limit: %d}\nstore: {path: %q}\nsinks: [%s]\n",
		limit, fmt.Sprintf("%s/%d.db", h.dir, time.Now().UnixNano()), sinkSettings(sink, w, h.dir)))
}

// sinkSettings is a sink of vodrelay.
func sinkSettings(sink string, w *around, dir string) string {
	switch sink {
	case sinkFile:
		return fmt.Sprintf("{name: file, type: file, path: %q}", sinkPlace(sink, w, dir))
	case sinkWebhook:
		return fmt.Sprintf("{name: webhook, type: webhook, url: %q}", w.Webhook)
	case sinkKafka:
		return fmt.Sprintf("{name: kafka, type: kafka, brokers: [%q], topic: %s}", w.Kafka, topic)
	}
	return "{name: stdout, type: stdout}"
}

// sinkPlace is where a peer's target is.
func sinkPlace(sink string, w *around, dir string) string {
	switch sink {
	case sinkFile:
		return dir + "/events.ndjson"
	case sinkWebhook:
		return w.Webhook
	case sinkKafka:
		return w.Kafka
	}
	return "-"
}

// result is what one program did in one world.
type result struct {
	worldReport
	usage
	rate float64 // events per second from the first pull to the last confirm
}

// perEvent is the CPU time for each event.
func (r result) perEvent() time.Duration {
	if r.Confirmed == 0 {
		return 0
	}
	return r.CPU / time.Duration(r.Confirmed)
}

// contest has a program relay n events, or as many as it can within limit, and checks that it lost none.
func (h *harness) contest(ctx context.Context, opts worldOptions, program, sink string, n int, limit time.Duration) (r result, err error) {
	w, err := h.newWorld(ctx, opts, n)
	if err != nil {
		return r, err
	}
	defer w.close()
	place := sinkPlace(sink, w, h.dir)
	name, args := h.self, []string{program, sink, place}
	if program == "vodrelay" {
		name = h.program
		if args, err = h.settings(w, opts.Quota, sink); err != nil {
			return r, err
		}
	}
	if sink == sinkFile {
		if err := truncate(place); err != nil {
			return r, err
		}
	}
	p, err := w.start(nil, name, args...)
	if err != nil {
		return r, err
	}
	_, err = w.until(ctx, limit, func(r worldReport) bool { return r.Confirmed >= int64(n) })
	if r.usage, _ = p.kill(); err != nil { // the reports say whether it did its work
		return r, fmt.Errorf("%w\n%s", err, p.stderr.String())
	}
	if r.worldReport, err = w.report(ctx); err != nil {
		return r, err
	}
	if r.Confirmed == 0 {
		return r, fmt.Errorf("%s with %s relayed nothing:\n%s", program, sink, p.stderr.String())
	}
	r.rate = perSecond(r.Confirmed, r.FirstPull, r.LastConfirm)
	if program == roleFloor {
		return r, nil
	}
	arrived := r.Distinct
	switch sink {
	case sinkStdout:
		_, arrived = p.lines.counts()
	case sinkFile:
		if arrived, err = countEvents(place); err != nil {
			return r, err
		}
	case sinkKafka:
		arrived = r.Kafka
	}
	return r, whole(program+" with "+sink, r.Confirmed, arrived)
}

// drain is the queue at its documented quota, with stdout as sink.
func (h *harness) drain(ctx context.Context) (section, error) {
	const quota = 1600
	n := scale(h, 32_000, 2_000)
	s := section{title: "Drain at the quota", tables: []table{{header: []string{
		"round trip", "program", "events/s", "of 1,600", "ratio to the loop", "throttled requests", "CPU per event, µs", "most memory, MiB",
	}}}}
	for _, trip := range scale(h, []time.Duration{5 * time.Millisecond, 40 * time.Millisecond, 200 * time.Millisecond}, []time.Duration{5 * time.Millisecond}) {
		opts := worldOptions{Latency: trip, Quota: true}
		own, err := h.contest(ctx, opts, "vodrelay", sinkStdout, n, time.Minute)
		if err != nil {
			return s, err
		}
		if own.Confirmed < int64(n) {
			return s, fmt.Errorf("vodrelay confirmed %d of %d events in a minute at %s", own.Confirmed, n, trip)
		}
		loop, err := h.contest(ctx, opts, roleLoop, sinkStdout, n, scale(h, 6*time.Second, time.Second))
		if err != nil {
			return s, err
		}
		throttled := func(r result) string {
			return fmt.Sprintf("%.2f %%", 100*float64(r.Throttled)/float64(r.Pulls+r.Confirms))
		}
		for _, line := range []struct {
			name string
			r    result
		}{{"vodrelay", own}, {"documented loop", loop}} {
			s.tables[0].add(trip.String(), line.name, number(line.r.rate), fmt.Sprintf("%.1f %%", 100*line.r.rate/quota), ratio(line.r.rate, loop.rate),
				throttled(line.r), micros(line.r.perEvent()), mebi(line.r.RSS))
		}
		h.goal(fmt.Sprintf("drain %s events at %s round trip", number(float64(n)), trip), "1,584 events/s, 1 % throttled at most",
			"%s events/s, %s throttled; the loop %s", number(own.rate), throttled(own), number(loop.rate))
		h.floor("%s events/s: the first pull and the last confirm alone take two round trips", number(float64(n)/(float64(n)/quota+2*trip.Seconds())))
		h.fullRSS = max(h.fullRSS, own.RSS)
	}
	s.note("%s events of 1.5 KB, 100 requests per second for each API, from the first pull to the last confirm. The loop is stopped after 6 s; its rate is that of those.", number(float64(n)))
	s.note("The documented loop pulls, prints each event, confirms, one after the other, with the SDK's CommonRequest and CommonResponse.")
	return s, nil
}
