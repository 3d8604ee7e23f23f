//go:build man

package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// builderCommands are for those who build packages. The library below compiles its expressions whenever the
// program starts, so they are built in only with the tag man.
func builderCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:    "man DIR",
		Short:  "Write the man pages into a directory; SOURCE_DATE_EPOCH sets their date",
		Hidden: true,
		Args:   arguments(1, "DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.Root().DisableAutoGenTag = true
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "1", Source: "vodrelay " + versionText(), Manual: "vodrelay"}, args[0])
		},
	}}
}
