package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// starting is the time from exec to the first pull, and the size of the program.
func (h *harness) starting(ctx context.Context) (section, error) {
	s := section{title: "Start", tables: []table{{header: []string{"", "median", "longest"}}}}
	var bare []time.Duration
	for range scale(h, 7, 1) {
		started := time.Now()
		if out, err := exec.CommandContext(ctx, h.program, "version").CombinedOutput(); err != nil {
			return s, fmt.Errorf("%w: %s", err, out)
		}
		bare = append(bare, time.Since(started))
	}
	s.tables[0].add("vodrelay version, from exec to exit, ms", millis(median(bare)), millis(slices.Max(bare)))
	for i, what := range []string{"from exec to the first pull, first start ever, ms", "from exec to the first pull, every later start, ms"} {
		var took []time.Duration
		for range scale(h, 7, 1) {
			d, err := h.firstPull(ctx, i > 0)
			if err != nil {
				return s, err
			}
			took = append(took, d)
		}
		s.tables[0].add(what, millis(median(took)), millis(slices.Max(took)))
		h.goal(what, "50", "%s", millis(median(took)))
		h.floor("%s: vodrelay version, which does nothing", millis(median(bare)))
	}
	s.tables[0].add("static binary, stripped, MiB", mebi(h.size), "")
	h.goal("static binary, stripped", "45 MiB", "%s MiB", mebi(h.size))
	s.note("With a store (SQLite), which the first start makes, and the admin server.")
	return s, nil
}

// firstPull starts vodrelay until it pulls; again: it was started before.
func (h *harness) firstPull(ctx context.Context, again bool) (time.Duration, error) {
	w, err := h.newWorld(ctx, worldOptions{Quota: true}, 0)
	if err != nil {
		return 0, err
	}
	defer w.close()
	args, err := h.settings(w, true, sinkStdout)
	if err != nil {
		return 0, err
	}
	var pulls int64
	for {
		p, err := w.start(nil, h.program, args...)
		if err != nil {
			return 0, err
		}
		r, err := w.until(ctx, 10*time.Second, func(r worldReport) bool { return r.Pulls > pulls })
		stopped := p.terminate()
		switch {
		case err != nil:
			return 0, err
		case r.Pulls == pulls:
			return 0, fmt.Errorf("no pull within 10 s of the start:\n%s", p.stderr.String())
		case stopped != nil:
			return 0, stopped
		case again == (pulls > 0):
			return time.Unix(0, r.LastPull).Sub(p.started), nil
		}
		pulls = r.Pulls
	}
}
