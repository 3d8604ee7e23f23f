//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/gauge"
)

// soaked writes the figures of a soak into dir, and fails when something grows.
func soaked(dir string, seed uint64, r result, g *gauge.Gauge) error {
	verdicts, err := g.Judge()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	duplicates := 0
	for _, n := range r.Duplicates {
		duplicates += n
	}
	fmt.Fprintf(&out, "# Results of a soak\n\nWritten by `make chaos CHAOS=\"-seed %d -soak %s\"` on %s, %s with %d CPUs. Do not edit.\n\n",
		seed, r.Length, time.Now().UTC().Format(time.DateOnly), runtime.GOARCH, runtime.NumCPU())
	fmt.Fprintf(&out, "World: %s. In this time %d actions disturbed it.\n\n", r.World, len(r.Actions))
	fmt.Fprintf(&out, "| published | confirmed | dead letters, refused on purpose | duplicates, each with its cause | breaches | drain at the end |\n| --: | --: | --: | --: | --: | --- |\n| %d | %d | %d | %d | %d | %s |\n\n",
		r.Published, r.Confirmed, r.Dead, duplicates, len(r.Breaches), r.Drain)
	if err := gauge.Table(&out, verdicts); err != nil {
		return err
	}
	fmt.Fprintf(&out, "\n*After the start* and *at the end* are the medians of the second and the last quarter of the time.\n\n![memory, goroutines and open files over the time](RESULTS.svg)\n")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "RESULTS.md"), out.Bytes(), 0o644), g.Plot(filepath.Join(dir, "RESULTS.svg"))); err != nil { //nolint:gosec // everybody may read it
		return err
	}
	for _, v := range verdicts {
		if !v.Flat {
			err = errors.Join(err, fmt.Errorf("%s of %s grows from %.1f to %.1f %s", v.Name, v.Process, v.Early, v.Late, v.Unit))
		}
	}
	return err
}
