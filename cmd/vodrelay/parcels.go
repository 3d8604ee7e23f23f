package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/admin"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/selection"
	"github.com/vodrelay/vodrelay/pkg/store"
)

func newParcels(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parcels",
		Short: "List, show, replay, drop, move, export or import what waits in the store",
		Long: `A parcel is one event for one sink, kept in the store because the sink has not
accepted it yet. It is waiting, and sent again by itself when it is due, or dead,
and a person decides: replay it when the cause is fixed, or drop it.

An ID is an event's whole ID, or at least its first 8 digits when no other event's
ID begins with them. What replay, drop and move would change they say first, and
ask; --yes answers for a script, --dry-run changes nothing.

These commands ask a running vodrelay through its admin server (admin.listen), or
open the store themselves where none answers. export and import always open it.`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newParcelsList(p), newParcelsShow(p),
		newParcelsChange(p, parcelsChange{
			use: "replay", short: "Send parcels again, as if they had just arrived", verb: "send again", done: "due now: a running vodrelay sends them within a minute",
			do: parcelStore.Replay,
		}),
		newParcelsChange(p, parcelsChange{
			use: "drop", short: "Delete parcels: their events are not sent to the sink", verb: "delete", done: "deleted",
			do: parcelStore.Drop,
		}),
		newParcelsMove(p), newParcelsExport(p), newParcelsImport(p))
	return cmd
}

func newParcelsList(p *program) *cobra.Command {
	var out outputFormat
	var selected parcelFilter
	var limit int
	var after, id string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List parcels, by sink, waiting before dead, oldest first",
		Args:  arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := selected.filter(cmd)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("id") {
				if filter.EventID, _, err = selection.ParseID(id); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--id: %w", err)}
				}
			}
			if limit < 1 {
				return &exitError{exitUsage, fmt.Errorf("--limit: %d: must be at least 1", limit)}
			}
			return p.withParcels(cmd, func(ctx context.Context, cfg *config.Config, s parcelStore) error {
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
				if len(views) == 0 && filter.Sink != "" {
					p.noteUnknownSink(cfg, filter.Sink)
				}
				return p.printTotals(ctx, s, len(views), cursor)
			})
		},
	}
	config.AddFlags(cmd.Flags())
	out.addFlag(cmd)
	selected.addFlags(cmd)
	cmd.Flags().StringVar(&id, "id", "", "only those of the event with this ID, or of those whose IDs begin with it")
	cmd.Flags().IntVar(&limit, "limit", 50, "most parcels to list")
	cmd.Flags().StringVar(&after, "after", "", "go on behind a page: what the list before said")
	return cmd
}

// printTotals says how much there is beside the page.
func (p *program) printTotals(ctx context.Context, s parcelStore, shown int, next store.Cursor) error {
	waiting, dead, err := s.Totals(ctx)
	if err != nil {
		return err
	}
	p.say("%d shown; in all %d waiting, %d dead", shown, waiting, dead)
	if next != "" {
		p.say("there are more: add --after %s", next)
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
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", v.ID, cell(v.Sink), v.State, cell(v.Type), cell(v.Subject),
			v.Attempts, now.Sub(v.Created).Round(time.Second), due, cell(v.LastError))
	}
	_ = table.Flush() // as every write to a terminal
}

func newParcelsShow(p *program) *cobra.Command {
	var selected parcelFilter
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show the parcels of an event, with its content, as JSON",
		Args:  arguments(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := selection.ParseID(args[0]); err != nil {
				return &exitError{exitUsage, fmt.Errorf("ID: %w", err)}
			}
			filter, err := selected.filter(cmd)
			if err != nil {
				return err
			}
			return p.withParcels(cmd, func(ctx context.Context, _ *config.Config, s parcelStore) error {
				parcels, err := s.Get(ctx, args[0], filter.Sink)
				if err != nil {
					return asFlags(err)
				}
				asJSON := outputFormat("json")
				return asJSON.write(p.stdout, parcels, nil)
			})
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&selected.sink, "sink", "", "only the one for this sink")
	return cmd
}
