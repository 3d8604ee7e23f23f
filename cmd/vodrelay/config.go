package main

import (
	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/config"
)

func newConfig(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the effective configuration, or its JSON Schema",
		Args:  arguments(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var out outputFormat
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the configuration as it is after file, environment and flags, without secrets",
		Args:  arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load(cmd)
			if err != nil {
				return err
			}
			text, err := cfg.Redacted(string(out))
			if err != nil {
				return err
			}
			_, err = p.stdout.Write(text)
			return err
		},
	}
	config.AddFlags(show.Flags())
	out.addFlag(show)
	schema := &cobra.Command{
		Use:   "schema",
		Short: "Show the JSON Schema of the configuration, for editors",
		Args:  arguments(0),
		RunE: func(*cobra.Command, []string) error {
			text, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = p.stdout.Write(text)
			return err
		},
	}
	cmd.AddCommand(show, schema)
	return cmd
}
