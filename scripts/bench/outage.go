package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// outage is a webhook that is down and comes back: what happens to the events meanwhile.
func (h *harness) outage(ctx context.Context) (section, error) {
	s := section{title: "Outage", tables: []table{{header: []string{"store", "events", "parked/s", "drained/s after the recovery", "CPU per event, µs", "most memory, MiB"}}}}
	stores := map[string]string{"sqlite": fmt.Sprintf("{path: %q}", h.dir+"/outage.db")}
	server := &standIn{}
	defer server.end()
	if url := server.database(); url != "" {
		stores["postgres"] = fmt.Sprintf("{driver: postgres, url: %q}", url)
	} else {
		s.note("PostgreSQL: not measured, no server is installed.")
	}
	for _, name := range []string{"sqlite", "postgres"} {
		if stores[name] == "" {
			continue
		}
		n := scale(h, 32_000, 2_000)
		parked, drained, u, err := h.breakdown(ctx, stores[name], n)
		if err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
		s.tables[0].add(name, number(float64(n)), number(parked), number(drained), micros(u.CPU/time.Duration(n)), mebi(u.RSS))
		h.goal("events parked, "+name, "1,600/s", "%s/s, and drained %s/s", number(parked), number(drained))
	}
	s.note("No quota. The webhook answers 503 until every event is parked and confirmed, then 204. breaker.open is 1s. CPU time is for parking and sending together.")
	return s, nil
}

// breakdown parks n events and sends them when the webhook is back.
func (h *harness) breakdown(ctx context.Context, store string, n int) (parked, drained float64, u usage, err error) {
	w, err := h.newWorld(ctx, worldOptions{Receiver: receiveDown}, n)
	if err != nil {
		return 0, 0, u, err
	}
	defer w.close()
	args, err := h.configuration(fmt.Sprintf("vod: {rate_limit: 10000}\nstore: %s\nsinks: [{name: webhook, type: webhook, url: %q, breaker: {open: 1s}}]\n", store, w.Webhook))
	if err != nil {
		return 0, 0, u, err
	}
	p, err := w.start(nil, h.program, args...)
	if err != nil {
		return 0, 0, u, err
	}
	const limit = time.Minute
	r, err := w.until(ctx, limit, func(r worldReport) bool { return r.Confirmed >= int64(n) })
	if err == nil && r.Confirmed < int64(n) {
		err = fmt.Errorf("%d of %d events were parked within %s:\n%s", r.Confirmed, n, limit, p.stderr.String())
	}
	parked = perSecond(r.Confirmed, r.FirstPull, r.LastConfirm)
	if err == nil {
		err = w.receive(ctx, receiveOK)
	}
	if err == nil {
		r, err = w.until(ctx, limit, func(r worldReport) bool { return r.Distinct >= int64(n) })
	}
	drained = perSecond(r.Distinct, r.FirstAccepted, r.LastAccept)
	if err == nil {
		err = whole("after the outage", int64(n), r.Distinct)
	}
	u, killed := p.kill()
	if err == nil {
		err = killed
	}
	return parked, drained, u, err
}

// standIn is a testing.TB for pgtest outside of a test: it keeps what is to be cleaned up, and panics with
// a skip or a failure.
type standIn struct {
	testing.TB // nil: no other method is called
	cleanups   []func()
}

type notRunning string

func (s *standIn) Helper()           {}
func (s *standIn) Cleanup(f func())  { s.cleanups = append(s.cleanups, f) }
func (s *standIn) Skip(args ...any)  { panic(notRunning(fmt.Sprint(args...))) }
func (s *standIn) Fatal(args ...any) { panic(notRunning(fmt.Sprint(args...))) }
func (s *standIn) Error(args ...any) { fmt.Fprintln(os.Stderr, args...) }
func (s *standIn) Fatalf(format string, args ...any) {
	panic(notRunning(fmt.Sprintf(format, args...)))
}

func (s *standIn) end() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// database is an empty database of a PostgreSQL server of our own, "" where none is installed.
func (s *standIn) database() (url string) {
	defer func() {
		if reason, ok := recover().(notRunning); ok {
			fmt.Fprintf(os.Stderr, " (%s) ", reason)
			url = ""
		}
	}()
	return pgtest.Start(s).Database()
}
