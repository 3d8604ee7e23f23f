package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/app"
	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

func newCheck(p *program) *cobra.Command {
	var out outputFormat
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Test configuration, credentials, callback mode, queue, store and every sink",
		Long: `Test everything that a relay needs, and say what to do about each failure:
the configuration, the credentials, each application's callback mode and queue,
the right to confirm, the store, and every sink. No event is pulled or sent.

Exit codes: 0 all is well, or works with a warning; 1 a check failed;
78 the configuration is wrong, or the store cannot be used, and run would not
start either.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load(cmd)
			if err != nil {
				return err
			}
			checked, err := app.Check(cmd.Context(), cfg)
			if err != nil {
				return &exitError{exitConfig, err}
			}
			findings := append([]app.Finding{{Name: "configuration", Status: app.Passed, Detail: cfg.Origin()}}, checked...)
			if err := out.write(p.stdout, findings, func(w io.Writer) { printFindings(w, findings) }); err != nil {
				return err
			}
			code := exitDone
			for _, f := range findings {
				switch {
				case f.Permanent:
					code = exitConfig
				case f.Status == app.Failed && code == exitDone:
					code = exitFailed
				}
			}
			if code != exitDone {
				return &silentError{&exitError{code, errors.New("a check failed")}}
			}
			return nil
		},
	}
	config.AddFlags(cmd.Flags())
	out.addFlag(cmd)
	return cmd
}

func printFindings(w io.Writer, findings []app.Finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "%-8s %s: %s\n", f.Status, safetext.Line(f.Name, 0), safetext.Line(f.Detail, 0))
		if f.Hint != "" {
			fmt.Fprintf(w, "%-8s what to do: %s\n", "", safetext.Line(f.Hint, 0))
		}
	}
}
