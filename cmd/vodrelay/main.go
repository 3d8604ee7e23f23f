// Command vodrelay takes Tencent Cloud VOD's event notifications out of the reliable callback's queue and
// hands each one, at least once, to the systems that a team already runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitParked = 3  // drain emptied the queue, but parcels are waiting or dead
	exitLeft   = 4  // drain stopped with events left in the queue
	exitConfig = 78 // EX_CONFIG: nothing helps but another configuration, so a supervisor should not restart
)

// version is set by the linker; see version.go.
var version string

func main() {
	if err := keepPrivate(); err != nil { // first of all: the environment may hold the API key
		fmt.Fprintf(os.Stderr, "vodrelay: other processes of this user can read the environment and memory of this one: prctl: %v\n", err)
	}
	ignoreBrokenPipe()
	if os.Getenv("GOGC") == "" {
		growHeap(heapFloor)
	}
	os.Exit(execute(&program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}, os.Args[1:]))
}

// program is the world that the commands see.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	running        bool // a command has begun: what fails from here on is not wrong usage
	configPath     string
}

// exitError is an error with the code that the process ends with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// execute runs one command line and returns its exit code.
func execute(p *program, args []string) int {
	root := newRoot(p)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitDone
	}
	var silent *silentError
	if !errors.As(err, &silent) {
		p.report(cmd.CommandPath(), err)
	}
	return p.exitCode(err)
}

func (p *program) exitCode(err error) int {
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case !p.running:
		return exitUsage
	}
	return exitFailed
}

// report writes an error of a command for a person: each line of it, and what to do.
func (p *program) report(command string, err error) {
	var text strings.Builder
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(&text, "vodrelay: "+safetext.Line(redact.Quoted(line), 0))
	}
	if hint := retry.Hint(err); hint != "" {
		fmt.Fprintln(&text, "vodrelay: what to do: "+safetext.Line(redact.Quoted(hint), 0))
	}
	if !p.running {
		fmt.Fprintln(&text, "vodrelay: see "+command+" --help")
	}
	written := make(chan struct{})
	go func() { // it must not keep the process from ending
		defer close(written)
		_, _ = io.WriteString(p.stderr, text.String())
	}()
	select {
	case <-written:
	case <-time.After(reportTime):
	}
}

// reportTime is how long whoever reads the standard error has for the last lines of a process.
const reportTime = 250 * time.Millisecond

// silentError has been told in another way already.
type silentError struct{ err error }

func (s *silentError) Error() string { return s.err.Error() }
func (s *silentError) Unwrap() error { return s.err }

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "vodrelay",
		Short: "Relay Tencent Cloud VOD's event notifications, each at least once",
		Long: `vodrelay pulls the events of Tencent Cloud VOD's reliable callback, hands each
one to your systems, and confirms it only when they have accepted it. It also
receives what VOD's normal callback posts.

Start with:  vodrelay demo    see it work, without an account
             vodrelay check   test your configuration and credentials
             vodrelay run     relay until it is stopped`,
		Args:          arguments(0),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			p.running = true
		},
	}
	root.SetFlagErrorFunc(explainFlag)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.PersistentFlags().StringVarP(&p.configPath, "config", "c", "", "configuration file (default $VODRELAY_CONFIG, ./vodrelay.yaml or /etc/vodrelay/vodrelay.yaml)")
	root.AddCommand(
		newRun(p), newDrain(p), newCheck(p), newPeek(p), newMode(p), newParcels(p),
		newEmulator(p), newDemo(p), newSend(p), newConfig(p), newVersion(p),
	)
	root.AddCommand(builderCommands()...)
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil { // cobra would answer an unknown shell with its help, and 0
		completion.Args = arguments(0)
		completion.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	return root
}

// load reads the configuration; what is wrong with it ends the process with exitConfig.
func (p *program) load(cmd *cobra.Command) (*config.Config, error) {
	if cmd.Flags().Changed("config") && strings.TrimSpace(p.configPath) == "" {
		return nil, &exitError{exitUsage, errors.New("--config: is empty: is a variable without a value? Leave it out or give it one")}
	}
	cfg, err := config.Load(config.LoadOptions{Path: p.configPath, Flags: cmd.Flags(), Environ: p.environ})
	if err != nil {
		return nil, &exitError{exitConfig, err}
	}
	return cfg, nil
}
