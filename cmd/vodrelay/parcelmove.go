package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

func newParcelsMove(p *program) *cobra.Command {
	var move selection.Move
	var agreed consent
	cmd := &cobra.Command{
		Use:   "move --from OLD --to NEW",
		Short: "Hand the parcels of a sink that is gone to another sink",
		Long: `Hand all parcels of a sink that is not in the configuration any more, such as one
that was renamed, to one that is. Those that wait are sent at once, oldest first; dead
ones stay dead, and can be replayed then.

These stay where they are, and are counted: parcels of an event of which the new sink
has one already, parcels that the condition (when) of the new sink does not want, and
parcels that are being sent at the moment.

What would move is said before, and asked for.`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, flag := range []struct{ name, value string }{{"from", move.From}, {"to", move.To}} {
				if strings.TrimSpace(flag.value) == "" {
					return &exitError{exitUsage, fmt.Errorf("--%s: is empty: name a sink", flag.name)}
				}
			}
			return p.withParcels(cmd, func(ctx context.Context, _ *config.Config, s parcelStore) error {
				plan, err := s.PlanMove(ctx, move)
				if err != nil {
					return asFlags(err)
				}
				if ok, err := p.agree(ctx, agreed, "move to "+move.To, plan); err != nil || !ok {
					return err
				}
				move.Before = plan.Selection.Before
				moved, err := s.Move(ctx, move)
				if err != nil {
					return midway(moved.Parcels, err)
				}
				p.printMoved(move, moved)
				p.reportGone(plan.Parcels - moved.Parcels - moved.Collisions - moved.Sending - moved.Unwanted)
				return nil
			})
		},
	}
	config.AddFlags(cmd.Flags())
	agreed.addFlags(cmd)
	cmd.Flags().StringVar(&move.From, "from", "", "the sink that is gone")
	cmd.Flags().StringVar(&move.To, "to", "", "the sink that takes its parcels")
	return cmd
}

func (p *program) printMoved(move selection.Move, moved selection.Moved) {
	from, to := safetext.Name(move.From), safetext.Name(move.To)
	p.say("%s moved to sink %s", parcelsAre(moved.Parcels), to)
	for _, kept := range []struct {
		parcels int64
		why     string
	}{
		{moved.Collisions, fmt.Sprintf("sink %s has a parcel of the same event already: drop these with `vodrelay parcels drop --sink %s`", to, from)},
		{moved.Unwanted, fmt.Sprintf("the condition (when) of sink %s does not want the event", to)},
		{moved.Sending, "being sent at the moment: run the command again in a minute"},
	} {
		if kept.parcels > 0 {
			p.say("%s left with sink %s: %s", parcelsAre(kept.parcels), from, kept.why)
		}
	}
}
