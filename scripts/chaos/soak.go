//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/gauge"
	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/world"
)

const (
	sampleEvery = 5 * time.Second
	resultsFile = "RESULTS.md"
	plotFile    = "RESULTS.svg"
)

// soak runs one world of each kind of store at the same time, mildly disturbed, and watches what the relays use.
func (s settings) soak(ctx context.Context, p plan.Plan, o world.Options) ([]result, error) {
	watch := gauge.New(sampleEvery)
	began, results, errs := time.Now(), make([]result, len(p.Worlds)), make([]error, len(p.Worlds))
	var running sync.WaitGroup
	for i, w := range p.Worlds {
		o := o
		o.Dir = filepath.Join(o.Dir, fmt.Sprint("world-", i+1))
		o.Say = func(format string, args ...any) { s.say(w.Store+": "+format, args...) }
		o.Watch = func(ctx context.Context, relays map[string]string) {
			named := map[string]string{}
			for name, address := range relays {
				named[w.Store+" "+name] = "http://" + address + "/metrics"
			}
			watch.Run(ctx, named)
		}
		o.Say("%s", w)
		running.Go(func() {
			r, err := world.Run(ctx, w, o)
			results[i], errs[i] = result{w, r}, err
		})
	}
	running.Wait()
	err := errors.Join(errs...)
	verdicts, short := watch.Judge()
	_ = gauge.Table(os.Stdout, verdicts) // also where the rest failed
	err = errors.Join(err, short)
	if err == nil {
		err = watch.Plot(plotFile)
	}
	if err == nil {
		err = s.write(ctx, p, began, results, verdicts)
	}
	for _, v := range verdicts {
		if !v.Flat {
			err = errors.Join(err, fmt.Errorf("%s: %s grows from %.1f to %.1f", v.Process, v.Name, v.Early, v.Late))
		}
	}
	return results, err
}

// write writes the results for the repository.
func (s settings) write(ctx context.Context, p plan.Plan, began time.Time, results []result, verdicts []gauge.Verdict) error {
	var text bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	line("# A soak of %s\n", p.Worlds[0].Length)
	line("Written by `make soak`: worlds of all three kinds of store at the same time, under a steady load and with a disturbance now and then.\n")
	line("- %s", machine())
	line("- %s, commit %s, %s, seed %d", began.UTC().Format(time.DateOnly), output(ctx, "git", "-C", s.root, "rev-parse", "--short", "HEAD"), runtime.Version(), p.Seed)
	line("")
	line("## Nothing is lost\n")
	line("| world | actions | published | confirmed | dead letters | duplicates | checks | breaches |")
	line("| --- | --: | --: | --: | --: | --: | --: | --: |")
	causes := map[string]int{}
	for _, r := range results {
		duplicates := 0
		for cause, n := range r.Duplicates {
			duplicates += n
			causes[cause] += n
		}
		line("| %s | %d | %d | %d | %d | %d | %d | %d |", r.World, len(r.Actions), r.Published, r.Confirmed, r.Dead, duplicates, r.Checks, len(r.Breaches))
	}
	line("\nDead letters are events that their target refuses on purpose.")
	for _, cause := range slices.Sorted(maps.Keys(causes)) {
		line("%d duplicates: %s.", causes[cause], cause)
	}
	line("\n## Nothing grows\n")
	line("A sample each %s. The first quarter is for warming up. *After the start* is the median of the second quarter, *at the end* that", sampleEvery)
	line("of the last one, which may be as high as the table says. *Per hour* is the median slope (Theil-Sen) without the first quarter.\n")
	if err := gauge.Table(&text, verdicts); err != nil {
		return err
	}
	line("\n![memory, goroutines and open files over the time](%s)", plotFile)
	return os.WriteFile(resultsFile, text.Bytes(), 0o644) //nolint:gosec // it is part of the documentation
}

func machine() string {
	field := func(file, name string) string {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
		return "unknown"
	}
	var kilobytes float64
	_, _ = fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kilobytes)
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%d cores of %s, %.0f GiB; load average %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"), kilobytes/(1<<20),
		strings.Join(strings.Fields(string(load))[:3], " "))
}

func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
