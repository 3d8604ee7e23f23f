package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vodrelay/vodrelay/pkg/config"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// application is the callback mode of one application as mode shows it.
type applicationMode struct {
	SubAppID uint64 `json:"sub_app_id,omitempty"`
	vod.EventConfig
}

func newMode(p *program) *cobra.Command {
	var out outputFormat
	var url, uploads, deletions, persistence, keyFile string
	var steps bool
	cmd := &cobra.Command{
		Use:   "mode [pull|push]",
		Short: "Show or set how the application delivers its events",
		Long: `Show how the configured applications deliver their events, or change it:

  pull   reliable callback: events wait in the queue, where vodrelay takes them
  push   normal callback: VOD posts each event to a URL

A change takes up to 10 minutes. Everything that is not named stays as it is.
With --steps nothing is changed: it prints in which order to move an application
from one mode to the other, so that no event is lost.`,
		Args:      arguments(0, "pull or push"),
		ValidArgs: []string{"pull", "push"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if steps {
				if len(args) == 0 || !slices.Contains(cmd.ValidArgs, args[0]) {
					return &exitError{exitUsage, errors.New("--steps: name the mode to move to: pull or push")}
				}
				all := moveTo(args[0])
				return out.write(p.stdout, all, func(w io.Writer) { printSteps(w, all, 1) })
			}
			if len(args) > 0 && !slices.Contains(cmd.ValidArgs, args[0]) {
				return &exitError{exitUsage, fmt.Errorf("%q: write pull or push", args[0])}
			}
			for flag, value := range map[string]string{"uploads": uploads, "deletions": deletions, "persistence": persistence} {
				if _, err := switchOf(flag, value, vod.Off); err != nil {
					return err
				}
			}
			cfg, err := p.load(cmd)
			if err != nil {
				return err
			}
			client, err := vod.New(cfg.Vod)
			if err != nil {
				return &exitError{exitConfig, err}
			}
			defer client.Close()
			ids := cfg.Vod.SubAppIDs
			if len(ids) == 0 {
				ids = []uint64{0}
			}
			changes := len(args) > 0 || cmd.Flags().Changed("url") || uploads+deletions+persistence+keyFile != ""
			key := ""
			if keyFile != "" {
				if key, err = p.signKey(keyFile); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			var modes []applicationMode
			for _, id := range ids {
				settings, err := client.EventConfig(cmd.Context(), id)
				if err != nil {
					return fatal(err)
				}
				if changes {
					change, err := changeOf(cmd, settings, args, url, uploads, deletions, persistence)
					if err != nil {
						return err
					}
					change.SignKey = key
					if err := client.SetEventConfig(cmd.Context(), id, change); err != nil {
						return fatal(err)
					}
					if settings, err = client.EventConfig(cmd.Context(), id); err != nil {
						return fatal(err)
					}
				}
				modes = append(modes, applicationMode{id, settings})
			}
			if err := out.write(p.stdout, modes, func(w io.Writer) { printModes(w, modes) }); err != nil {
				return err
			}
			if changes {
				p.say("changed; it takes up to 10 minutes to have effect")
			}
			if len(args) > 0 {
				all := moveTo(args[0])
				p.say("to lose nothing, see all steps with: vodrelay mode %s --steps. What is left to do:", args[0])
				printSteps(p.stderr, all[changeStep:], changeStep+1)
			}
			return nil
		},
	}
	config.AddFlags(cmd.Flags())
	out.addFlag(cmd)
	cmd.Flags().BoolVar(&steps, "steps", false, "print the order of steps that loses nothing, and change nothing")
	cmd.Flags().StringVar(&url, "url", "", "address that push mode posts to; \"\" clears it")
	cmd.Flags().StringVar(&keyFile, "sign-key-file", "", "file with the SignKey that VOD is to sign its posts with")
	cmd.Flags().StringVar(&uploads, "uploads", "", "notify of finished uploads (NewFileUpload): on or off")
	cmd.Flags().StringVar(&deletions, "deletions", "", "notify of deleted files: on or off")
	cmd.Flags().StringVar(&persistence, "persistence", "", "notify of files made permanent: on or off")
	return cmd
}

// changeStep is which of the steps changes the mode.
const changeStep = 3

// moveTo are the steps to a mode. They hold whatever VOD does on its side: that the mode of different
// servers may change at different times, and that events in the queue may be out of reach in PUSH mode, is
// not documented either way.
func moveTo(mode string) []string {
	both := "Set sources: [pull, callback], callback.sub_app_id and callback.sign_key_file in the configuration, with a store, and restart vodrelay. It then takes events either way; copies of one event have one ID."
	if mode == "push" {
		return []string{
			both,
			"Let VOD reach the URL, and try it from outside: vodrelay send FILE --to URL --sign-key-file KEY must have every notification accepted.",
			"Change the mode and set the key: vodrelay mode push --url URL --sign-key-file KEY.",
			"Wait 10 minutes for the change, and until vodrelay check shows an empty queue; that number is up to 3 minutes old.",
			"If events stay in the queue, they cannot be pulled in push mode: vodrelay mode pull, wait until the queue is empty, and change again. VOD keeps them for 4 days.",
			"Set sources: [callback] and restart.",
		}
	}
	return []string{
		both,
		"See that vodrelay check passes.",
		"Change the mode: vodrelay mode pull. The URL may stay: it is ignored in pull mode.",
		"Wait 10 minutes for the change, and a minute more for posts that are repeated. vodrelay keeps receiving.",
		"Set sources: [pull] and restart, then let the URL end.",
	}
}

func printSteps(w io.Writer, steps []string, first int) {
	for i, step := range steps {
		fmt.Fprintf(w, "%d. %s\n", first+i, step)
	}
}

func changeOf(cmd *cobra.Command, now vod.EventConfig, args []string, url, uploads, deletions, persistence string) (vod.EventConfigChange, error) {
	change := now.Change()
	if len(args) > 0 {
		change.Mode = map[string]string{"pull": vod.ModePull, "push": vod.ModePush}[args[0]]
	}
	if cmd.Flags().Changed("url") {
		change.NotificationURL = &url
	}
	if change.Mode == vod.ModePush && now.NotificationURL == "" && url == "" {
		return change, &exitError{exitUsage, errors.New("push mode needs an address to post to: add --url and the address")}
	}
	for _, s := range []struct {
		flag, value string
		target      *vod.Switch
	}{
		{"uploads", uploads, &change.UploadMediaComplete},
		{"deletions", deletions, &change.DeleteMediaComplete},
		{"persistence", persistence, &change.PersistenceComplete},
	} {
		var err error
		if *s.target, err = switchOf(s.flag, s.value, *s.target); err != nil {
			return change, err
		}
	}
	return change, nil
}

// switchOf reads the value of a flag; without one it stays as it is now.
func switchOf(flag, value string, now vod.Switch) (vod.Switch, error) {
	switch value {
	case "":
		return now, nil
	case "on":
		return vod.On, nil
	case "off":
		return vod.Off, nil
	}
	return now, &exitError{exitUsage, fmt.Errorf("--%s: %q: write on or off", flag, value)}
}

func printModes(w io.Writer, modes []applicationMode) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, m := range modes {
		if m.SubAppID != 0 {
			fmt.Fprintf(table, "application:\t%d\n", m.SubAppID)
		}
		mode := "reliable callback (PULL): events wait in the queue"
		if m.Mode == vod.ModePush {
			mode = "normal callback (PUSH): events are posted to the URL"
		}
		fmt.Fprintf(table, "mode:\t%s\nurl:\t%s\nupload events:\t%s\ndeletion events:\t%s\npersistence events:\t%s\n",
			mode, cell(m.NotificationURL), m.UploadMediaComplete, m.DeleteMediaComplete, m.PersistenceComplete)
	}
	_ = table.Flush() // as every write to a terminal
}
