package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/store"
)

func newParcelsExport(p *program) *cobra.Command {
	var selected parcelFilter
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write parcels as JSON lines, to move them to another store",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := selected.filter(cmd)
			if err != nil {
				return err
			}
			return p.withStore(cmd, func(ctx context.Context, _ *config.Config, s *store.Store) (err error) {
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
					p.say("%d parcels written; they are still in the store", n)
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
			return p.withStore(cmd, func(ctx context.Context, cfg *config.Config, s *store.Store) error {
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
				p.say("%d parcels stored", n)
				gone, goneErr := app.CheckGone(ctx, s, cfg.Sinks)
				for _, f := range gone {
					p.say("%s: %s: %s", f.Name, f.Detail, f.Hint)
				}
				return errors.Join(err, goneErr)
			})
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}
