package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// parcelFilter is the flags that select parcels.
type parcelFilter struct {
	state, sink, kind, text, older, newer string
	app                                   uint64
}

func (f *parcelFilter) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "only waiting or only dead ones")
	flags.StringVar(&f.sink, "sink", "", "only those for this sink")
	flags.StringVar(&f.kind, "type", "", "only events of this type, such as NewFileUpload")
	flags.StringVar(&f.text, "error", "", "only those whose first or last error contains this text")
	flags.StringVar(&f.older, "older-than", "", "only those stored longer ago than this, such as 24h, or before a time")
	flags.StringVar(&f.newer, "newer-than", "", "only those stored since then, such as 1h or 2026-01-31T12:00:00Z")
	flags.Uint64Var(&f.app, "sub-app-id", 0, "only events of this application")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"waiting", "dead"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// selection is what the flags say. One that is given counts, also when it is blank: what becomes of that is not
// decided here.
func (f *parcelFilter) selection(cmd *cobra.Command) (sel selection.Selection) {
	for _, flag := range []struct {
		name  string
		value *string
		said  **string
	}{
		{"state", &f.state, &sel.State}, {"sink", &f.sink, &sel.Sink}, {"type", &f.kind, &sel.Type}, {"error", &f.text, &sel.Error},
		{"older-than", &f.older, &sel.OlderThan}, {"newer-than", &f.newer, &sel.NewerThan},
	} {
		if cmd.Flags().Changed(flag.name) {
			*flag.said = flag.value
		}
	}
	if cmd.Flags().Changed("sub-app-id") {
		sel.SubAppID = &f.app
	}
	return sel
}

// filter is for commands that change nothing.
func (f *parcelFilter) filter(cmd *cobra.Command) (selection.Filter, error) {
	filter, err := f.selection(cmd).Filter(time.Now())
	return filter, asFlags(err)
}

// asFlags says in the words of the command line what is wrong with a selection.
func asFlags(err error) error {
	var field *selection.FieldError
	var ambiguous *selection.AmbiguousError
	switch {
	case errors.As(err, &field):
		name := "--" + dashed(field.Key) + ": "
		switch field.Key {
		case "":
			return &exitError{exitUsage, errors.New("which parcels? Name IDs, select with flags, or add --all for every one")}
		case "ids":
			if name = "IDs: "; field.Index >= 0 {
				name = fmt.Sprintf("ID %d: ", field.Index+1)
			}
		case "id":
			name = "ID: "
		}
		return &exitError{exitUsage, errors.New(name + field.Problem)}
	case errors.As(err, &ambiguous):
		var remedies []string
		for _, key := range ambiguous.Narrow() {
			switch key {
			case "ids":
				return retry.WithHint(err, "write more of the ID, or all of it")
			case "sink":
				remedies = append(remedies, "--sink NAME")
			case "sub_app_id":
				remedies = append(remedies, "--sub-app-id N")
			case "all_sinks":
				remedies = append(remedies, "--all-sinks")
			}
		}
		return retry.WithHint(err, "add "+strings.Join(remedies, " or "))
	}
	return err
}

func dashed(key string) string { return strings.ReplaceAll(key, "_", "-") }
