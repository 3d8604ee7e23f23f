package exec

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Config is what the sink's own keys say.
type Config struct {
	Command   []string      `mapstructure:"command" secret:"arguments" doc:"The program and its arguments, one list item each, such as [/usr/local/bin/on-upload, --quiet]. No shell is involved; for one write [sh, -c, \"...\"]. Status 0 accepts the event, 65 makes it a dead letter, after every other one it is sent again."`
	Dir       string        `mapstructure:"dir" doc:"Directory in which the command runs. Empty: vodrelay's own."`
	Env       []string      `mapstructure:"env" secret:"settings" doc:"Variables for the command besides PATH, HOME, USER, LANG, LC_ALL, TZ and TMPDIR, which it inherits: NAME=value, or only NAME to inherit that one too."`
	Format    event.Format  `mapstructure:"format" enum:"callback,cloudevents" default:"callback" doc:"Form of the event on standard input: callback (the body of VOD's normal callback) or cloudevents (a CloudEvents 1.0 object in JSON)."`
	KillGrace time.Duration `mapstructure:"kill_grace" default:"1s" doc:"Time between SIGTERM and SIGKILL when the command has used up its time limit, 10ms to 10s."`
}

// DefaultConfig lacks only the command.
func DefaultConfig() Config {
	return Config{Format: event.FormatCallback, KillGrace: time.Second}
}

// Validate reports every value that makes no sense. It does not look for the command; Check does.
func (c Config) Validate() error {
	var errs []error
	if len(c.Command) == 0 || c.Command[0] == "" {
		errs = append(errs, errors.New("command: []: name a program, such as [/usr/local/bin/on-upload]"))
	} else if len(c.Command) == 1 && strings.ContainsAny(c.Command[0], " \t|;&") {
		errs = append(errs, fmt.Errorf("command: %q and what follows it, all in one item, is one program with this name; write each argument as an item of its own, or use [sh, -c, \"...\"]", firstWord(c.Command[0])))
	}
	for _, argument := range c.Command {
		if strings.ContainsRune(argument, 0) {
			errs = append(errs, errors.New("command: no item may contain a NUL character"))
		}
	}
	for _, setting := range c.Env {
		// The value may be a secret, so that it is not shown.
		name, value, _ := strings.Cut(setting, "=")
		switch {
		case name == "":
			errs = append(errs, errors.New("env: an item has no name: write NAME=value"))
		case strings.ContainsRune(name+value, 0):
			errs = append(errs, fmt.Errorf("env: %q: must not contain a NUL character", name))
		case strings.HasPrefix(name, "VOD_"):
			errs = append(errs, fmt.Errorf("env: %q: VOD_ is kept for the fields of the event, choose another name", name))
		}
	}
	switch c.Format {
	case "", event.FormatCallback, event.FormatCloudEvents:
	case event.FormatCloudEventsBinary:
		errs = append(errs, fmt.Errorf("format: %q: standard input has no headers for the attributes, use %s", c.Format, event.FormatCloudEvents))
	default:
		errs = append(errs, fmt.Errorf("format: %q: use %s or %s", c.Format, event.FormatCallback, event.FormatCloudEvents))
	}
	if c.KillGrace < 10*time.Millisecond || c.KillGrace > 10*time.Second {
		errs = append(errs, fmt.Errorf("kill_grace: %s: must be between 10ms and 10s", c.KillGrace))
	}
	return errors.Join(errs...)
}

// firstWord is what may be shown of a whole command line: arguments can be secret.
func firstWord(line string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	return strings.TrimRight(word, "\t|;&")
}
