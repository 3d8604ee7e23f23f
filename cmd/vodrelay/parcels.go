package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/store"
)

func newParcels(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parcels",
		Short: "List, show, replay, drop, export or import what waits in the store",
		Long: `A parcel is one event for one sink, kept in the store because the sink has not
accepted it yet. It is waiting, and sent again by itself when it is due, or dead,
and a person decides: replay it when the cause is mended, or drop it.

These commands ask a running vodrelay through its admin server (admin.listen), or
open the store themselves where none answers. export and import always open it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newParcelsList(p), newParcelsShow(p),
		newParcelsChange(p, parcelsChange{
			use: "replay", short: "Send parcels again, as if they had just arrived", verb: "replay", done: "are due now: a running vodrelay sends them within a minute",
			do: parcelStore.Replay,
		}),
		newParcelsChange(p, parcelsChange{
			use: "drop", short: "Delete parcels: their events are not sent to the sink", verb: "delete", done: "are deleted",
			do: parcelStore.Drop,
		}),
		newParcelsExport(p), newParcelsImport(p))
	return cmd
}

// parcelFilter is the flags that select parcels.
type parcelFilter struct {
	state, sink, kind, text string
	older, newer            time.Duration
}

func (f *parcelFilter) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "only waiting or only dead ones")
	flags.StringVar(&f.sink, "sink", "", "only those for this sink")
	flags.StringVar(&f.kind, "type", "", "only events of this type, such as NewFileUpload")
	flags.StringVar(&f.text, "error", "", "only those whose first or last error contains this text")
	flags.DurationVar(&f.older, "older-than", 0, "only those stored longer ago than this, such as 24h")
	flags.DurationVar(&f.newer, "newer-than", 0, "only those stored since then, such as 1h")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"waiting", "dead"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

func (f *parcelFilter) filter() (store.Filter, error) {
	state := event.ParcelState(f.state)
	if state != "" && state != event.ParcelWaiting && state != event.ParcelDead {
		return store.Filter{}, &exitError{exitUsage, fmt.Errorf("--state: %q is neither waiting nor dead", f.state)}
	}
	filter := store.Filter{State: state, Sink: f.sink, Type: f.kind, Error: f.text}
	now := time.Now()
	if f.older > 0 {
		filter.OlderThan = now.Add(-f.older)
	}
	if f.newer > 0 {
		filter.NewerThan = now.Add(-f.newer)
	}
	return filter, nil
}

func newParcelsList(p *program) *cobra.Command {
	var out outputFormat
	var selected parcelFilter
	var limit int
	var after string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List parcels, by sink, waiting before dead, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := selected.filter()
			if err != nil {
				return err
			}
			if limit < 1 {
				return &exitError{exitUsage, fmt.Errorf("--limit: %d: must be at least 1", limit)}
			}
			return p.withParcels(cmd, func(ctx context.Context, s parcelStore) error {
				views := []admin.Parcel{}
				cursor := store.Cursor(after)
				for len(views) < limit {
					page, next, err := s.List(ctx, filter, cursor, limit-len(views))
					if err != nil {
						return err
					}
					views = append(views, page...)
					if cursor = next; cursor == "" {
						break
					}
				}
				if err := out.write(p.stdout, views, func(w io.Writer) { printParcels(w, views) }); err != nil {
					return err
				}
				return p.printTotals(ctx, s, len(views), cursor)
			})
		},
	}
	config.AddFlags(cmd.Flags())
	out.addFlag(cmd)
	selected.addFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "most parcels to list")
	cmd.Flags().StringVar(&after, "after", "", "go on behind a page: what the list before said")
	return cmd
}

// printTotals tells how much there is beside the page.
func (p *program) printTotals(ctx context.Context, s parcelStore, shown int, next store.Cursor) error {
	waiting, dead, err := s.Totals(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "vodrelay: %d shown; in all %d waiting, %d dead\n", shown, waiting, dead)
	if next != "" {
		fmt.Fprintf(p.stderr, "vodrelay: there are more: add --after %s\n", next)
	}
	return nil
}

func printParcels(w io.Writer, views []admin.Parcel) {
	if len(views) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSINK\tSTATE\tTYPE\tFILE OR TASK\tATTEMPTS\tAGE\tDUE\tLAST ERROR")
	now := time.Now()
	for _, v := range views {
		due := "-"
		if v.Next != nil {
			due = "now"
			if v.Next.After(now) {
				due = "in " + v.Next.Sub(now).Round(time.Second).String()
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", v.ID, printable(v.Sink), v.State, printable(v.Type), printable(v.Subject),
			v.Attempts, now.Sub(v.Created).Round(time.Second), due, printable(v.LastError))
	}
	_ = table.Flush() // as every write to a terminal
}

func newParcelsShow(p *program) *cobra.Command {
	var sink string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show the parcels of an event, with its content, as JSON",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withParcels(cmd, func(ctx context.Context, s parcelStore) error {
				parcels, err := s.Get(ctx, args[0], sink)
				if err != nil {
					return err
				}
				if len(parcels) == 0 {
					return fmt.Errorf("no parcel of event %s: it was accepted or dropped, or the ID is not whole", args[0])
				}
				asJSON := outputFormat("json")
				return asJSON.write(p.stdout, parcels, nil)
			})
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&sink, "sink", "", "only the one for this sink")
	return cmd
}

// parcelsChange is what replay and drop differ in.
type parcelsChange struct {
	use, short, verb, done string
	do                     func(parcelStore, context.Context, store.Filter) (int64, error)
}

func newParcelsChange(p *program, change parcelsChange) *cobra.Command {
	var selected parcelFilter
	var all, yes bool
	cmd := &cobra.Command{
		Use:   change.use + " [ID...]",
		Short: change.short,
		Long:  change.short + ".\n\nName events by ID, or select parcels with flags, or take --all.",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := selected.filter()
			if err != nil {
				return err
			}
			if len(args) == 0 && filter == (store.Filter{}) && !all {
				return &exitError{exitUsage, fmt.Errorf("which parcels? name IDs, select with flags, or add --all to %s every one", change.verb)}
			}
			return p.withParcels(cmd, func(ctx context.Context, s parcelStore) error {
				if len(args) == 0 && !yes {
					if err := p.confirm(fmt.Sprintf("%s all parcels that fit?", change.verb)); err != nil {
						return err
					}
				}
				if len(args) == 0 {
					args = []string{""}
				}
				var total int64
				for _, id := range args {
					filter.EventID = id
					n, err := change.do(s, ctx, filter)
					total += n
					if err != nil {
						return fmt.Errorf("after %d parcels: %w", total, err)
					}
				}
				fmt.Fprintf(p.stderr, "vodrelay: %d parcels %s\n", total, change.done)
				return nil
			})
		},
	}
	config.AddFlags(cmd.Flags())
	selected.addFlags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every parcel")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirm asks a person. Without one to ask it refuses.
func (p *program) confirm(question string) error {
	fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(io.LimitReader(p.stdin, 100)).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	if err != nil {
		fmt.Fprintln(p.stderr)
		return &exitError{exitUsage, errors.New("nobody answered: add --yes in a script")}
	}
	return errors.New("nothing was changed")
}

func newParcelsExport(p *program) *cobra.Command {
	var selected parcelFilter
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write parcels as JSON lines, to move them to another store",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := selected.filter()
			if err != nil {
				return err
			}
			return p.withStore(cmd, func(ctx context.Context, s *store.Store) (err error) {
				out := p.stdout
				if len(args) == 1 && args[0] != "-" {
					f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
					if err != nil {
						return fmt.Errorf("export: %w", err)
					}
					defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
					out = f
				}
				n, err := s.Export(ctx, filter, out)
				if err == nil {
					fmt.Fprintf(p.stderr, "vodrelay: %d parcels written; they are still in the store\n", n)
				}
				return err
			})
		},
	}
	config.AddFlags(cmd.Flags())
	selected.addFlags(cmd)
	return cmd
}

func newParcelsImport(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Store the parcels that export wrote; those that are there already stay as they are",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withStore(cmd, func(ctx context.Context, s *store.Store) error {
				in := p.stdin
				if len(args) == 1 && args[0] != "-" {
					f, err := os.Open(args[0])
					if err != nil {
						return fmt.Errorf("import: %w", err)
					}
					defer func() { _ = f.Close() }() // only read
					in = f
				}
				n, err := s.Import(ctx, in)
				fmt.Fprintf(p.stderr, "vodrelay: %d parcels stored\n", n)
				return err
			})
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}
