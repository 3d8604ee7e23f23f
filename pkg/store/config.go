package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
)

// The drivers.
const (
	DriverSQLite   = "sqlite"   // a file; one daemon
	DriverPostgres = "postgres" // a server; any number of replicas
	DriverNone     = "none"     // no store; Open refuses it
)

// Config is where parcels are kept, and how many.
type Config struct {
	Driver     string        `mapstructure:"driver" enum:"sqlite,postgres,none" default:"sqlite" doc:"Where parcels are kept: sqlite (a local file, for one vodrelay), postgres (for several replicas) or none (nothing is kept; an event whose sink fails stays in VOD's queue)."`
	Path       string        `mapstructure:"path" doc:"sqlite: the file, on a local disk. Empty: vodrelay.db in $STATE_DIRECTORY, else vodrelay/vodrelay.db in $XDG_STATE_HOME or ~/.local/state."`
	URL        string        `mapstructure:"url" secret:"true" doc:"postgres: the database, such as postgres://user@host:5432/vodrelay?sslmode=verify-full. It may lead to PgBouncer with pool_mode transaction or session. A password is better kept in url_file, PGPASSWORD or PGPASSFILE."`
	URLFile    string        `mapstructure:"url_file" doc:"postgres: path of a file with the url, instead of url. Read again at each connection."`
	MaxConns   int           `mapstructure:"max_conns" default:"8" doc:"postgres: most connections of this vodrelay, 2 to 100."`
	MaxParcels int64         `mapstructure:"max_parcels" default:"10000000" doc:"Most parcels, waiting and dead; 0: no limit. When it is reached, events stay in VOD's queue. With postgres it is exact to the transactions under way."`
	MaxBytes   int64         `mapstructure:"max_bytes" default:"17179869184" doc:"Most bytes of the events in all parcels; 0: no limit. SQLite's write-ahead log counts, too, with what it has beyond 32 MiB. The disk holds up to twice as much. When it is reached, events stay in VOD's queue."`
	MaxShare   int           `mapstructure:"max_share" default:"50" doc:"Largest part of max_parcels and of max_bytes, in percent, that the parcels of one sink may take, so that a target that is down leaves room for the others. When it is reached, events for that sink stay in VOD's queue and the other sinks go on. 0, and where a single sink is configured: no limit."`
	Retention  time.Duration `mapstructure:"retention" default:"0s" doc:"How long a dead letter is kept after it died, such as 720h; 0: until it is dropped."`
}

// DefaultConfig is SQLite in the state directory.
func DefaultConfig() Config {
	return Config{Driver: DriverSQLite, MaxConns: 8, MaxParcels: 10_000_000, MaxBytes: 16 << 30, MaxShare: 50}
}

// Validate reports every value that makes no sense. It opens nothing.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Driver {
	case DriverSQLite:
		switch {
		case strings.HasPrefix(c.Path, "~"):
			fail("path: %q: ~ has no meaning here, write the full path", c.Path)
		case strings.ContainsRune(c.Path, 0):
			fail("path: %q: must not contain a NUL character", c.Path)
		case strings.HasSuffix(c.Path, "/"), c.Path == ".", c.Path == "..":
			fail("path: %q: is a directory, add the name of a file, such as vodrelay.db", c.Path)
		}
	case DriverPostgres:
		switch {
		case c.URL == "" && c.URLFile == "":
			fail(`url: "": driver postgres needs url or url_file, such as postgres://user@host:5432/vodrelay`)
		case c.URL != "" && c.URLFile != "":
			fail("url_file: is set beside url: remove one of the two")
		case c.URL != "":
			if _, err := parseURL(c.URL); err != nil {
				fail("url: (hidden): %w", err)
			}
		}
		if c.MaxConns < 2 || c.MaxConns > 100 {
			fail("max_conns: %d: must be from 2 to 100", c.MaxConns)
		}
	case DriverNone:
	default:
		fail("driver: %q: use sqlite, postgres or none", c.Driver)
	}
	if c.Driver != DriverPostgres && (c.URL != "" || c.URLFile != "") {
		fail("url: is used by driver postgres only: remove it, or set driver: postgres")
	}
	if c.Driver != DriverSQLite && c.Path != "" {
		fail("path: %q: is used by driver sqlite only: remove it, or set driver: sqlite", c.Path)
	}
	if c.MaxParcels < 0 {
		fail("max_parcels: %d: must be 0 (no limit) or more", c.MaxParcels)
	}
	if c.MaxBytes < 0 {
		fail("max_bytes: %d: must be 0 (no limit) or more", c.MaxBytes)
	}
	if c.MaxShare < 0 || c.MaxShare > 100 {
		fail("max_share: %d: must be from 1 to 100, or 0 (no limit)", c.MaxShare)
	}
	if c.Retention < 0 {
		fail("retention: %s: must be 0 (until dropped) or more", c.Retention)
	}
	return errors.Join(errs...)
}

// File is the absolute path of the SQLite file: Path, or where the environment says that state is kept.
func (c Config) File() (string, error) {
	if c.Path != "" {
		return filepath.Abs(c.Path)
	}
	// systemd lists several directories with colons.
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "vodrelay.db"), nil
	}
	// What is not absolute is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/.
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "vodrelay", "vodrelay.db"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", errors.New("path: is empty and the user has no home directory: set path, such as /var/lib/vodrelay/vodrelay.db")
	}
	return filepath.Join(home, ".local", "state", "vodrelay", "vodrelay.db"), nil
}

// ID is the same for all configurations of one store, and says neither where that is nor any secret. It is
// empty for DriverNone.
func (c Config) ID() (string, error) {
	var place []string
	switch c.Driver {
	case DriverNone:
		return "", nil
	case DriverPostgres:
		text, err := c.postgresURL()
		if err != nil {
			return "", err
		}
		config, err := parseURL(text)
		if err != nil {
			return "", err
		}
		place = []string{config.Host, strconv.Itoa(int(config.Port)), config.Database, config.RuntimeParams["search_path"], config.RuntimeParams["options"]}
	default:
		path, err := c.File()
		if err != nil {
			return "", err
		}
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target
		}
		place = []string{path}
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q", append(place, c.Driver))))
	return hex.EncodeToString(sum[:8]), nil
}

// postgresURL is the address from url or url_file.
func (c Config) postgresURL() (string, error) {
	if c.URLFile == "" {
		return c.URL, nil
	}
	text, err := secretfile.Read(c.URLFile)
	if err != nil {
		return "", fmt.Errorf("url_file: %w: name a file that holds the address and that this user may read", err)
	}
	return text, nil
}

// parseURL reads an address. pgx's own error is left out, since it may show a part of a password.
func parseURL(text string) (*pgx.ConnConfig, error) {
	if text == "" {
		return nil, errors.New("is empty, write postgres://user@host:5432/database")
	}
	if scheme, _, found := strings.Cut(text, "://"); found && scheme != "postgres" && scheme != "postgresql" && !strings.Contains(scheme, "=") {
		return nil, errors.New("must begin with postgres://, as in postgres://user@host:5432/database") // pgx would take it for no address at all
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, errors.New("cannot be read: write postgres://user:password@host:5432/database?sslmode=verify-full, special characters of the password percent-encoded, and check the files that it names")
	}
	return config, nil
}
