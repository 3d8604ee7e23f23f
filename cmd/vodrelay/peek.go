package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// peeked is one event as peek shows it.
type peeked struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	SubAppID uint64          `json:"sub_app_id,omitempty"`
	Subject  string          `json:"subject,omitempty"`
	Content  json.RawMessage `json:"content"`
}

func newPeek(p *program) *cobra.Command {
	var out outputFormat
	var count int
	cmd := &cobra.Command{
		Use:   "peek",
		Short: "Show events of the queue without confirming them",
		Long: `Show the next events of the queue without confirming them. Nothing is lost: they
come back to the queue after 30 s, and until then no other consumer sees them.
An empty queue is waited on for 5 s.`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count < 1 {
				return &exitError{exitUsage, fmt.Errorf("--count: %d: must be at least 1, such as 1 to see whether events can be pulled", count)}
			}
			cfg, err := p.load(cmd)
			if err != nil {
				return err
			}
			client, err := vod.New(cfg.Vod, vod.WithLogger(zap.NewNop()))
			if err != nil {
				return &exitError{exitConfig, err}
			}
			defer client.Close()
			ids := cfg.Vod.SubAppIDs
			if len(ids) == 0 {
				ids = []uint64{0}
			}
			events := []peeked{}
			for _, id := range ids {
				more, err := peek(cmd.Context(), client.Queue(id), count-len(events))
				if err != nil {
					return fatal(err)
				}
				events = append(events, more...)
			}
			if err := out.write(p.stdout, events, func(w io.Writer) { printEvents(w, events) }); err != nil {
				return err
			}
			if len(events) == 0 {
				p.say("the queue is empty")
				return nil
			}
			p.say("%s shown, and not confirmed: back in the queue within %s", safetext.Count(len(events), "event is", "events are"), event.LeaseTime)
			return nil
		},
	}
	config.AddFlags(cmd.Flags())
	out.addFlag(cmd)
	cmd.Flags().IntVarP(&count, "count", "n", event.MaxBatch, "most events to show; a reply can hold a few more, up to 16 are pulled at a time")
	return cmd
}

// peek pulls until it has count events or the queue is empty.
func peek(ctx context.Context, q *vod.Queue, count int) ([]peeked, error) {
	var events []peeked
	for len(events) < count {
		deliveries, err := q.Pull(ctx)
		if err != nil || len(deliveries) == 0 {
			return events, err
		}
		for _, d := range deliveries {
			events = append(events, peeked{ID: d.ID, Type: d.Type, SubAppID: d.SubAppID, Subject: d.Subject(), Content: d.Raw})
		}
	}
	return events, nil
}

func printEvents(w io.Writer, events []peeked) {
	if len(events) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTYPE\tFILE OR TASK\tCONTENT")
	for _, e := range events {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", e.ID, cell(e.Type), cell(e.Subject), preview(e.Content))
	}
	_ = table.Flush() // as every write to a terminal
}

// preview is the start of an event's content on one line.
func preview(content json.RawMessage) string {
	var line bytes.Buffer
	if json.Compact(&line, content) != nil {
		return cell(string(content))
	}
	return cell(line.String())
}
