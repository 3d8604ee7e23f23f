package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vodrelay/vodrelay/pkg/config"
)

// arguments is the rule for what stands behind a command: the names of all that it takes, of which it needs the first.
func arguments(needed int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		path := cmd.CommandPath()
		switch {
		case len(args) < needed:
			return fmt.Errorf("%s is missing: write %s %s", names[len(args)], path, strings.Join(names[:needed], " "))
		case len(args) <= len(names):
			return nil
		case cmd.HasSubCommands():
			return unknownCommand(cmd, args[0])
		case len(names) == 0:
			return fmt.Errorf("%q: %s takes no arguments", args[0], path)
		}
		return fmt.Errorf("%q: is too much: %s takes %s", args[len(names)], path, strings.Join(names, " "))
	}
}

func unknownCommand(parent *cobra.Command, name string) error {
	var known []string
	for _, cmd := range parent.Commands() {
		if !cmd.Hidden {
			known = append(known, cmd.Name())
		}
	}
	text := fmt.Sprintf("unknown command %q", name)
	if near := config.Nearest(name, known); near != "" {
		return fmt.Errorf("%s: did you mean %s %s?", text, parent.CommandPath(), near)
	}
	return errors.New(text)
}

// explainFlag helps with a typo in the name of a flag.
func explainFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return err
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	slices.Sort(known)
	if near := config.Nearest(unknown.GetSpecifiedName(), known); near != "" {
		return fmt.Errorf("%w: did you mean --%s?", err, near)
	}
	return err
}
