package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Config is what the sink's own keys say.
type Config struct {
	Path   string       `mapstructure:"path" doc:"The file that events are appended to. Its directory must exist, and may be a symbolic link; the file itself may not."`
	Format event.Format `mapstructure:"format" enum:"callback,cloudevents" default:"callback" doc:"Form of each line: callback (the body of VOD's normal callback) or cloudevents (a CloudEvents 1.0 object in JSON)."`
	Mode   Mode         `mapstructure:"mode" default:"0640" doc:"Permissions of the file in octal, such as 0640; the umask is taken off. A file that is there gets them, too."`
	Sync   bool         `mapstructure:"sync" default:"true" doc:"Whether an event counts as accepted only when it is on the disk (fsync). With false, a power failure can lose events that were confirmed."`
}

// DefaultConfig lacks only the path.
func DefaultConfig() Config {
	return Config{Format: event.FormatCallback, Mode: 0o640, Sync: true}
}

// Validate reports every value that makes no sense.
func (c Config) Validate() error {
	var errs []error
	switch {
	case c.Path == "":
		errs = append(errs, errors.New(`path: "": name the file, such as /var/lib/vodrelay/events.jsonl`))
	case strings.ContainsRune(c.Path, 0):
		errs = append(errs, fmt.Errorf("path: %q: must not contain a NUL character", c.Path))
	case strings.HasPrefix(c.Path, "~"):
		errs = append(errs, fmt.Errorf("path: %q: ~ has no meaning here, write the full path", c.Path))
	case strings.HasSuffix(c.Path, "/") || strings.HasSuffix(c.Path, string(filepath.Separator)):
		errs = append(errs, fmt.Errorf("path: %q: is a directory, add the name of a file", c.Path))
	}
	switch c.Format {
	case "", event.FormatCallback, event.FormatCloudEvents:
	case event.FormatCloudEventsBinary:
		errs = append(errs, fmt.Errorf("format: %q: a line has no headers for the attributes, use %s", c.Format, event.FormatCloudEvents))
	default:
		errs = append(errs, fmt.Errorf("format: %q: use %s or %s", c.Format, event.FormatCallback, event.FormatCloudEvents))
	}
	if c.Mode > 0o777 || c.Mode&0o600 != 0o600 {
		errs = append(errs, fmt.Errorf("mode: %q: must be octal, let the owner read and write, and be 0777 at most, such as 0640", c.Mode))
	}
	return errors.Join(errs...)
}

// Mode is the permission bits of a file. As text it is octal: "0640", "640", "0o640".
type Mode fs.FileMode

// String is the mode in octal, with a leading zero.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText is String.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads octal digits.
func (m *Mode) UnmarshalText(text []byte) error {
	bits, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 32)
	if err != nil {
		return fmt.Errorf("%q is not a file mode: write octal digits, such as 0640", text)
	}
	*m = Mode(bits)
	return nil
}
