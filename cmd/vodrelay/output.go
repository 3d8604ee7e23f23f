package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// outputFormat is how a command answers: for a person, or as JSON.
type outputFormat string

func (o *outputFormat) addFlag(cmd *cobra.Command) {
	*o = "text"
	cmd.Flags().VarP(o, "output", "o", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// String implements pflag.Value.
func (o *outputFormat) String() string { return string(*o) }

// Type implements pflag.Value.
func (o *outputFormat) Type() string { return "format" }

// Set implements pflag.Value.
func (o *outputFormat) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("write text or json")
	}
	*o = outputFormat(s)
	return nil
}

// write answers with v as JSON, or with what text prints. A reader that has read enough is no error.
func (o *outputFormat) write(w io.Writer, v any, text func(io.Writer)) error {
	var answer bytes.Buffer
	if *o == "json" {
		enc := json.NewEncoder(&answer)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			return err
		}
	} else {
		text(&answer)
	}
	if _, err := w.Write(safetext.Text(answer.Bytes())); err != nil && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	return nil
}

// say writes one line for a person to the standard error.
func (p *program) say(format string, args ...any) { sayTo(p.stderr, format, args...) }

func sayTo(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, "vodrelay: "+safetext.Line(fmt.Sprintf(format, args...), 0))
}

// longestCell is how much of a text from outside a table shows, in bytes.
const longestCell = 120

// cell is a text from outside in a table.
func cell(text string) string { return safetext.Line(text, longestCell) }
