package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// idle is what vodrelay costs when there is nothing to do, and how much memory it takes at most.
func (h *harness) idle(ctx context.Context) (section, error) {
	s := section{title: "Idle, and memory", tables: []table{
		{header: []string{"idle for", "CPU, % of a core", "context switches/min", "long polls/min", "resident memory, MiB", "of it private"}},
		{header: []string{"memory", "most resident, MiB"}},
	}}
	if err := h.idleMinute(ctx, &s); err != nil {
		return s, err
	}
	if h.fullRSS == 0 { // the drain has not been run
		r, err := h.contest(ctx, worldOptions{Latency: 40 * time.Millisecond, Quota: true}, "vodrelay", sinkStdout, scale(h, 16_000, 2_000), time.Minute)
		if err != nil {
			return s, err
		}
		h.fullRSS = r.RSS
	}
	s.tables[1].add("at the full quota", mebi(h.fullRSS))
	h.goal("memory at the full quota", "48 MiB", "%s MiB", mebi(h.fullRSS))
	var most int64
	for _, store := range []string{"sqlite", "none"} {
		rss, err := h.stuck(ctx, store)
		if err != nil {
			return s, err
		}
		s.tables[1].add("sink that never answers, 1,600 events/s, store "+store, mebi(rss))
		most = max(most, rss)
	}
	h.goal("memory with a stuck sink and an endless queue", "64 MiB", "%s MiB", mebi(most))
	return s, nil
}

func (h *harness) idleMinute(ctx context.Context, s *section) error {
	w, err := h.newWorld(ctx, worldOptions{Quota: true}, 0)
	if err != nil {
		return err
	}
	defer w.close()
	args, err := h.settings(w, true, sinkStdout)
	if err != nil {
		return err
	}
	p, err := w.start(nil, h.program, args...)
	if err != nil {
		return err
	}
	// Beside it what nobody could do without: a long poll, and the program with nothing to do, or without a store.
	besides, err := h.newWorld(ctx, worldOptions{Quota: true}, 0)
	if err != nil {
		return err
	}
	defer besides.close()
	poll, err := besides.start(nil, h.self, roleIdle)
	if err != nil {
		return err
	}
	nothing, err := besides.start(nil, h.program, "emulator", "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	args, err = h.configuration("store: {driver: none}\nsinks: [{name: stdout, type: stdout}]\n")
	if err != nil {
		return err
	}
	storeless, err := besides.start(nil, h.program, args...)
	if err != nil {
		return err
	}
	length := scale(h, time.Minute, 3*time.Second)
	sleep(ctx, 2*time.Second) // the start
	before, err := p.look()
	pollBefore, err2 := poll.look()
	polls, err3 := w.report(ctx)
	sleep(ctx, length)
	after, err4 := p.look()
	pollAfter, err5 := poll.look()
	r, err6 := w.report(ctx)
	resting, err7 := nothing.look()
	bare, err8 := storeless.look()
	_, err9 := poll.kill()
	if err := errors.Join(err, err2, err3, err4, err5, err6, err7, err8, err9, nothing.terminate(), storeless.terminate(), p.terminate()); err != nil {
		return err
	}
	minutes := length.Minutes()
	percent := func(from, to moment) float64 { return 100 * (to.CPU - from.CPU).Seconds() / length.Seconds() }
	share := percent(before, after)
	perMinute := float64(r.Pulls-polls.Pulls) / minutes
	s.tables[0].add(length.String(), fmt.Sprintf("%.3f", share), number(float64(after.Switches-before.Switches)/minutes), fmt.Sprintf("%.1f", perMinute), mebi(after.RSS), mebi(after.Private))
	h.goal("idle: CPU", "0.1 % of a core", "%.3f %%", share)
	h.floor("%.3f %%: a loop of the SDK that polls, and nothing else", percent(pollBefore, pollAfter))
	h.goal("idle: long polls", "12 to 13 a minute", "%.1f", perMinute)
	h.goal("idle: memory", "25 MiB", "%s MiB, of it %s private", mebi(after.RSS), mebi(after.Private))
	h.floor("%s MiB without a store, and %s as an emulator that nobody asks, of which %s are private", mebi(bare.RSS), mebi(resting.RSS), mebi(resting.Private))
	s.note("What is not private are pages of the program's file: they are shared with other processes of it, and the kernel can drop them.")
	return nil
}

// stuck has events come at the full quota while the sink does not answer.
func (h *harness) stuck(ctx context.Context, store string) (int64, error) {
	w, err := h.newWorld(ctx, worldOptions{Latency: 40 * time.Millisecond, Quota: true, Receiver: receiveHang}, scale(h, 32_000, 4_000))
	if err != nil {
		return 0, err
	}
	defer w.close()
	settings := fmt.Sprintf("store: {driver: %s}\nsinks: [%s]\n", store, sinkSettings(sinkWebhook, w, h.dir))
	if store == "sqlite" {
		settings = fmt.Sprintf("store: {path: %q}\nsinks: [%s]\n", h.dir+"/stuck.db", sinkSettings(sinkWebhook, w, h.dir))
	}
	args, err := h.configuration(settings)
	if err != nil {
		return 0, err
	}
	p, err := w.start(nil, h.program, args...)
	if err != nil {
		return 0, err
	}
	sleep(ctx, scale(h, 15*time.Second, 3*time.Second))
	u, err := p.kill()
	return u.RSS, err
}
