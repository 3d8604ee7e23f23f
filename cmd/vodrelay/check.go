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
the right to confirm, this machine's clock, the store, the addresses to listen
on, and every sink. It sends and pulls no event, and leaves no file behind. Run
it as the user that runs the relay.

Each line is one of:
  ok          as run needs it
  warning     run works, but perhaps not as you want it; or may not work
  failed      run meets the same, with the same words
  not tested  cannot be tested without an event, or not after another failure

What a test that is ok leaves open stands below it. The right to pull is not
tested: vodrelay peek -n 1 does it. It pulls up to 16 events and confirms none;
they come back when their lease of 30 s ends.

Exit codes: 0 nothing failed; 1 a check failed, which may pass by itself;
78 run would end at once, and no restart helps.`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load(cmd)
			if err != nil {
				return err
			}
			checked, err := app.Check(cmd.Context(), cfg)
			if err != nil {
				return &exitError{exitConfig, err}
			}
			report := app.NewReport(append([]app.Finding{{Name: "configuration", Status: app.Passed, Detail: cfg.Origin()}}, checked...)...)
			if err := out.write(p.stdout, report, func(w io.Writer) { printReport(w, report) }); err != nil {
				return err
			}
			switch {
			case report.Summary.Permanent:
				return &silentError{&exitError{exitConfig, errCheck}}
			case report.Summary.Failed > 0:
				return &silentError{&exitError{exitFailed, errCheck}}
			}
			return nil
		},
	}
	config.AddFlags(cmd.Flags())
	out.addFlag(cmd)
	return cmd
}

var errCheck = errors.New("a check failed")

func printReport(w io.Writer, report app.Report) {
	for _, f := range report.Findings {
		fmt.Fprintf(w, "%-11s %s: %s\n", f.Status, safetext.Line(f.Name, 0), safetext.Line(f.Detail, 0))
		if f.Hint != "" {
			fmt.Fprintf(w, "%-11s what to do: %s\n", "", safetext.Line(f.Hint, 0))
		}
		if f.Untested != "" {
			fmt.Fprintf(w, "%-11s not tested: %s\n", "", f.Untested)
		}
	}
	fmt.Fprintf(w, "\n%s\n", report.Summary)
}
