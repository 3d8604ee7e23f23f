package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/sink/file"
	"github.com/vodrelay/vodrelay/pkg/store"
)

func newParcelsExport(p *program) *cobra.Command {
	var selected parcelFilter
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write parcels as JSON lines, to move them to another store",
		Args:  arguments(0, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := selected.filter(cmd)
			if err != nil {
				return err
			}
			return p.withStore(cmd, func(ctx context.Context, _ *config.Config, s *store.Store) (err error) {
				if len(args) == 1 && args[0] != "-" {
					n, err := exportTo(ctx, s, filter, args[0])
					if err != nil {
						return err
					}
					p.say("%s in %s, and still in the store", safetext.Count(n, "parcel is", "parcels are"), args[0])
					return nil
				}
				n, err := s.Export(ctx, filter, p.stdout)
				if err != nil {
					return err
				}
				p.say("%s written, and still in the store", safetext.Count(n, "parcel is", "parcels are"))
				return nil
			})
		},
	}
	config.AddFlags(cmd.Flags())
	selected.addFlags(cmd)
	return cmd
}

// exportTo writes to a new file, which is on the disk when it returns without an error. What could not be written whole
// is removed: nobody shall take it for the parcels.
func exportTo(ctx context.Context, s *store.Store, filter store.Filter, path string) (n int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, retry.WithHint(fmt.Errorf("export: %s is there already", path), "name a new file, or remove that one")
	}
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	n, err = s.Export(ctx, filter, f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = file.SyncDirectory(path)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("export: nothing is kept in %s: %w", path, err), os.Remove(path))
	}
	return n, nil
}

func newParcelsImport(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Store the parcels that export wrote; those that are there already stay as they are",
		Args:  arguments(0, "FILE"),
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
				p.say("%s stored", safetext.Count(n, "parcel is", "parcels are"))
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
