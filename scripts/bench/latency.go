package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// latency is the time from the publication of an event to its acceptance by a webhook.
func (h *harness) latency(ctx context.Context) (section, error) {
	s := section{title: "Latency", tables: []table{{header: []string{"events/s", "quota", "events", "p50, ms", "p99, ms", "p99.9, ms", "max, ms"}}}}
	add := func(rate, quota string, all []time.Duration) {
		s.tables[0].add(rate, quota, strconv.Itoa(len(all)), millis(quantile(all, 0.5)), millis(quantile(all, 0.99)), millis(quantile(all, 0.999)), millis(quantile(all, 1)))
	}
	bare, err := h.bare(ctx, scale(h, 400, 20))
	if err != nil {
		return s, err
	}
	add("bare round trips", "-", bare)
	for _, c := range []struct {
		rate  float64
		n     int
		quota bool
	}{
		{1, scale(h, 15, 2), true}, {100, scale(h, 800, 50), true}, {1000, scale(h, 8000, 500), true},
		{100, scale(h, 800, 50), false}, {1000, scale(h, 8000, 500), false},
	} {
		all, err := h.streamed(ctx, c.rate, c.n, c.quota)
		if err != nil {
			return s, err
		}
		quota := "100/s"
		if !c.quota {
			quota = "none"
		}
		add(number(c.rate), quota, all)
		h.goal(fmt.Sprintf("latency at %s events/s, quota %s: p99", number(c.rate), quota), fmt.Sprintf("%s ms (bare p99 and 5 ms)", millis(quantile(bare, 0.99)+5*time.Millisecond)),
			"%s ms", millis(quantile(all, 0.99)))
		if c.quota && c.rate >= 100 {
			h.floor("100 polls a second let an event wait 10 ms for the next one")
		}
	}
	s.note("From the publication at the emulator to the arrival of the whole request at a webhook, both in one process and on one clock. Events come at random (Poisson).")
	s.note("Bare: a signed request to the emulator and then a POST of 1.5 KB to the webhook, one pair every 10 ms.")
	s.note("A quota of 100 polls per second lets an event wait up to 10 ms for the next poll, whoever polls.")
	return s, nil
}

// streamed runs vodrelay under a stream of events.
func (h *harness) streamed(ctx context.Context, rate float64, n int, quota bool) ([]time.Duration, error) {
	w, err := h.newWorld(ctx, worldOptions{Quota: quota}, 0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	args, err := h.settings(w, quota, sinkWebhook)
	if err != nil {
		return nil, err
	}
	p, err := w.start(nil, h.program, args...)
	if err != nil {
		return nil, err
	}
	// Some before, so that connections stand.
	err = w.publish(ctx, 100)
	if err == nil {
		_, err = w.until(ctx, 10*time.Second, func(r worldReport) bool { return r.Confirmed == 100 })
	}
	if err == nil {
		err = w.control(ctx, nil, "/stream", url.Values{"rate": {fmt.Sprint(rate)}, "n": {strconv.Itoa(n)}})
	}
	if _, killed := p.kill(); err == nil {
		err = killed
	}
	if err != nil {
		return nil, err
	}
	r, err := w.report(ctx)
	if err == nil && r.Missing > 0 {
		err = fmt.Errorf("%w: %d of %d did not arrive within 10 s:\n%s", errLost, r.Missing, n, p.stderr.String())
	}
	return r.Latencies, err
}

// bare measures the round trips that no relay can do without.
func (h *harness) bare(ctx context.Context, n int) ([]time.Duration, error) {
	w, err := h.newWorld(ctx, worldOptions{}, 0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	client, err := newClient(w.API, nil)
	if err != nil {
		return nil, err
	}
	content := emulator.GenerateUploads(1, 1)[0]
	var all []time.Duration
	for range n {
		began := time.Now()
		if _, err := call(client, emulator.ActionDescribeEventsState, map[string]any{}); err != nil {
			return nil, err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.Webhook, bytes.NewReader(content))
		if err != nil {
			return nil, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil {
			return nil, err
		}
		all = append(all, time.Since(began))
		sleep(ctx, 10*time.Millisecond)
	}
	slices.Sort(all)
	return all, nil
}
