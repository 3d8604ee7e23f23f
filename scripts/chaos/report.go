package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/plan"
	"github.com/vodrelay/vodrelay/scripts/chaos/world"
)

// result is a world and what became of it.
type result struct {
	plan.World
	world.Result
}

// report writes the summary for people.
func report(out io.Writer, results []result) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nworld\tstore\tconfirm\trelays\tactions\tpublished\tconfirmed\ttaken by others\tpushed\tdead letters\tduplicates\tchecks\tbreaches\ttime\tvariants")
	causes := map[string]int{}
	for i, r := range results {
		duplicates := 0
		for cause, n := range r.Duplicates {
			duplicates += n
			causes[cause] += n
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", i+1, r.Store, r.World.Confirm, r.World.Relays, len(r.Actions),
			r.Published, r.Confirmed, r.Taken, r.Pushed, r.Dead, duplicates, r.Checks, len(r.Breaches), r.Took.Round(time.Second), strings.Join(r.World.Variants, " "))
	}
	_ = table.Flush()
	for _, cause := range slices.Sorted(maps.Keys(causes)) {
		fmt.Fprintf(out, "%6d duplicates: %s\n", causes[cause], cause)
	}
	const most = 20
	for i, r := range results {
		for n, b := range r.Breaches {
			if n == most {
				fmt.Fprintf(out, "world %d: and %d more\n", i+1, len(r.Breaches)-most)
				break
			}
			fmt.Fprintf(out, "world %d: BREACH %s\n", i+1, b)
		}
	}
}
