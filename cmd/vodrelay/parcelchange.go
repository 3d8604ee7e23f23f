package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// parcelsChange is what replay and drop differ in.
type parcelsChange struct {
	use, short, verb, done string
	do                     func(parcelStore, context.Context, selection.Selection) (int64, error)
}

// consent is how a change is agreed to.
type consent struct{ yes, dryRun bool }

func (c *consent) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "say what would change, and change nothing")
}

func newParcelsChange(p *program, change parcelsChange) *cobra.Command {
	var selected parcelFilter
	var agreed consent
	var all, allSinks bool
	cmd := &cobra.Command{
		Use:   change.use + " [ID...]",
		Short: change.short,
		Long: change.short + `.

Name events by ID, or select parcels with flags, or take --all. An ID is whole, or at
least its first 8 digits when no other event's ID begins with them. It must lead to
one parcel: when its event has parcels for several sinks, add --sink or --all-sinks.

What would change is said before, by sink and state, and asked for. Parcels that are
stored meanwhile are left alone.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel := selected.selection(cmd)
			sel.All, sel.AllSinks = all, allSinks
			if len(args) > 0 {
				sel.IDs = args
			}
			if err := sel.Check(time.Now()); err != nil {
				return asFlags(err)
			}
			return p.withParcels(cmd, func(ctx context.Context, cfg *config.Config, s parcelStore) error {
				plan, err := s.Plan(ctx, sel)
				if err != nil {
					return asFlags(err)
				}
				if plan.Parcels == 0 && sel.Sink != nil {
					p.noteUnknownSink(cfg, *sel.Sink)
				}
				if ok, err := p.agree(ctx, agreed, change.verb, plan); err != nil || !ok {
					return err
				}
				n, err := change.do(s, ctx, plan.Selection)
				if err != nil {
					return midway(n, asFlags(err))
				}
				p.say("%s %s", parcelsAre(n), change.done)
				p.reportGone(plan.Parcels - n)
				return nil
			})
		},
	}
	config.AddFlags(cmd.Flags())
	selected.addFlags(cmd)
	agreed.addFlags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every parcel, without IDs and other flags that select")
	cmd.Flags().BoolVar(&allSinks, "all-sinks", false, "with IDs: the parcels of every sink")
	return cmd
}

// noteUnknownSink helps with a typo in the name of a sink.
func (p *program) noteUnknownSink(cfg *config.Config, name string) {
	names := []string{event.Unprocessed}
	for _, s := range cfg.Sinks {
		names = append(names, s.Name)
	}
	if slices.Contains(names, name) {
		return
	}
	text := fmt.Sprintf("there is no sink %s in the configuration, and no parcel for one", safetext.Name(name))
	if near := config.Nearest(name, names); near != "" {
		text += ": did you mean " + near + "?"
	} else if len(cfg.Sinks) > 0 {
		text += ": there is " + listed(names[1:])
	}
	p.say("%s", text)
}

// listed are names in a sentence, of which it shows ten.
func listed(names []string) string {
	const most = 10
	shown := make([]string, 0, most)
	for _, name := range names[:min(len(names), most)] {
		shown = append(shown, safetext.Name(name))
	}
	if more := len(names) - most; more > 0 {
		return strings.Join(shown, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(shown, ", ")
}

// agree says what plan changes and reports whether to go on. Without a person at a terminal to ask it refuses.
func (p *program) agree(ctx context.Context, c consent, verb string, plan *selection.Plan) (bool, error) {
	for _, id := range plan.Missing {
		p.say("no parcel of event %s fits: it was accepted or dropped, or has another sink or state", id)
	}
	if plan.Parcels == 0 {
		if len(plan.Missing) > 0 {
			return false, errors.New("0 parcels match: nothing was changed")
		}
		p.say("0 parcels match: nothing was changed")
		return false, nil
	}
	p.say("to %s: %s", verb, safetext.Count(plan.Parcels, "parcel", "parcels"))
	for _, g := range plan.Groups {
		fmt.Fprintf(p.stderr, "  sink %s: %d %s\n", safetext.Name(g.Sink), g.Parcels, g.State)
	}
	for _, line := range plan.Few {
		fmt.Fprintf(p.stderr, "    %s\n", line)
	}
	switch {
	case c.dryRun:
		p.say("nothing was changed (--dry-run)")
		return false, nil
	case c.yes:
		return true, nil
	}
	if err := p.confirm(ctx, strings.ToUpper(verb[:1])+verb[1:]+" them?"); err != nil {
		return false, err
	}
	return true, nil
}

// reportGone says that fewer parcels were changed than had been counted.
func (p *program) reportGone(n int64) {
	if n > 0 {
		p.say("%s not there any more: accepted, or changed by somebody else", parcelsAre(n))
	}
}

// confirm asks a person at a terminal. Without one to ask it refuses.
func (p *program) confirm(ctx context.Context, question string) error {
	if in, ok := p.stdin.(*os.File); !ok || !term.IsTerminal(int(in.Fd())) {
		return &exitError{exitUsage, errors.New("nothing was changed: there is no terminal to ask at: add --yes in a script")}
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	answers := make(chan string, 1)
	go func() { // a read from a terminal cannot be ended: the process is about to
		line, _ := bufio.NewReader(io.LimitReader(p.stdin, 100)).ReadString('\n') // nothing is no
		answers <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.stderr)
		return errors.New("nothing was changed")
	case line := <-answers:
		if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
			return errors.New("nothing was changed")
		}
		return nil
	}
}

func parcelsAre(n int64) string { return safetext.Count(n, "parcel is", "parcels are") }

// midway adds to the error of a change what it had changed.
func midway(changed int64, err error) error {
	if changed == 0 {
		return err
	}
	return fmt.Errorf("after %s: %w", safetext.Count(changed, "parcel", "parcels"), err)
}
