//go:build !man

package main

import "github.com/spf13/cobra"

func builderCommands() []*cobra.Command { return nil }
