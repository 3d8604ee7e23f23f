package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// chooseVariants has the emulator follow the named variants. What it does with an application that does not exist
// can only be seen when not every one exists, so that choice leaves it with one.
func chooseVariants(opts *emulator.Options, names []string, subAppID uint64) error {
	for _, name := range names {
		v, ok := emulator.FindVariant(name)
		switch {
		case ok && v.Question == emulator.AskUnknownSubApp:
			opts.SubAppIDs = []uint64{subAppID}
		case ok:
		case config.Nearest(name, variantNames()) != "":
			return fmt.Errorf("--variant: %q: did you mean %s?", name, config.Nearest(name, variantNames()))
		default:
			return fmt.Errorf("--variant: %q: does not exist: see vodrelay emulator --variant list", name)
		}
	}
	if err := opts.Choose(names...); err != nil {
		return fmt.Errorf("--variant: %w", err)
	}
	return nil
}

func variantNames() []string {
	var names []string
	for _, v := range emulator.AllVariants() {
		names = append(names, v.Name)
	}
	return names
}

// listVariants prints the variants by question, the default of each first.
func listVariants(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var question emulator.Question
	for _, v := range emulator.AllVariants() {
		name := "  " + v.Name
		if v.Default {
			name = "* " + v.Name
		}
		if v.Question != question {
			question = v.Question
			fmt.Fprintf(table, "%s\n", question)
		}
		fmt.Fprintf(table, "%s\t%s\n", name, v.Summary)
	}
	return table.Flush()
}
