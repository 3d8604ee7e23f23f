package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
)

const (
	// minToken is the shortest token, in characters: below it one could be guessed.
	minToken = 16
	maxToken = 4 << 10
)

// Config is where the admin server listens, and what it shows.
type Config struct {
	Listen    string   `mapstructure:"listen" default:"127.0.0.1:9464" empty:"off" doc:"Address of the admin server: metrics, health, status, parcels and a page for people. Empty: none, also in the environment (VODRELAY_ADMIN_LISTEN=). On another address than the loopback one it needs token or token_file."`
	Token     string   `mapstructure:"token" secret:"true" doc:"What a request must carry that shows or changes events, as Authorization: Bearer TOKEN, or as the password of a browser; at least 16 characters. Metrics, health and status ask for none; status leaves out the texts of errors without it."`
	TokenFile string   `mapstructure:"token_file" doc:"Path of a file with the token, instead of token. Read at each use, so that it can be replaced."`
	Hosts     []string `mapstructure:"hosts" doc:"Names beside its own that the server answers to, such as relay.example.com. A request with another name in Host gets 421, since a web page could have given that name to this address. On a loopback address its own names are IP addresses and localhost; on another one also the machine's host name, names without a dot, and those under local, internal, home.arpa and svc, such as a Kubernetes service's."`
	Pprof     bool     `mapstructure:"pprof" default:"false" doc:"Serve Go's profiles at /debug/pprof/."`
}

// DefaultConfig serves this machine only, without a token.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:9464"} }

// Validate reports every value that makes no sense. It reads token_file.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Listen != "" {
		err := httpserver.CheckListen(c.Listen, 9464)
		if err == nil {
			err = c.closed(c.Listen)
		}
		if err != nil {
			fail("listen: %q: %w", c.Listen, err)
		}
	}
	if c.Token != "" && c.TokenFile != "" {
		fail("token_file: is set beside token: remove one of the two")
	}
	if c.Token != "" {
		if err := checkToken(c.Token); err != nil {
			fail("token: (hidden): %w", err)
		}
	}
	if c.TokenFile != "" {
		if _, err := readToken(c.TokenFile); err != nil {
			fail("token_file: %q: %w", c.TokenFile, err)
		}
	}
	for i, host := range c.Hosts {
		if err := httpserver.CheckHost(host); err != nil {
			fail("hosts[%d]: %q: %w", i, host, err)
		}
	}
	return errors.Join(errs...)
}

// closed refuses an address that others can reach when nobody is asked for a token.
func (c Config) closed(address string) error {
	if c.asksForToken() {
		return nil
	}
	return httpserver.Closed(address, "set token_file (make a token with: openssl rand -hex 32)")
}

// String shows no secret.
func (c Config) String() string {
	return fmt.Sprintf("{Listen:%s Token:%s TokenFile:%s Hosts:%q Pprof:%t}", c.Listen, redact.Secret(c.Token), c.TokenFile, c.Hosts, c.Pprof)
}

// Format is String for every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON shows no secret.
func (c Config) MarshalJSON() ([]byte, error) {
	c.Token = redact.Secret(c.Token)
	type plain Config // without this method
	return json.Marshal(plain(c))
}

func (c Config) asksForToken() bool { return c.Token != "" || c.TokenFile != "" }

// currentToken is the token as it is now.
func (c Config) currentToken() (string, error) {
	if c.TokenFile == "" {
		return c.Token, nil
	}
	return readToken(c.TokenFile)
}

func checkToken(token string) error {
	if len(token) < minToken {
		return fmt.Errorf("is shorter than %d characters, make one with: openssl rand -hex 32", minToken)
	}
	if strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return errors.New("must be printable ASCII without spaces, make one with: openssl rand -hex 32")
	}
	return nil
}

// readToken reads the file without white space around its content. Its errors name neither the path nor
// anything of the content.
func readToken(path string) (string, error) {
	text, err := secretfile.Regular(path, maxToken)
	switch {
	case errors.Is(err, secretfile.ErrTooLarge):
		return "", fmt.Errorf("is larger than %d bytes, so it is no token", maxToken)
	case errors.Is(err, secretfile.ErrIrregular):
		return "", err
	case err != nil:
		return "", unreadable(err)
	}
	token, err := secretfile.Text(text)
	if err != nil {
		return "", err
	}
	return token, checkToken(token)
}

func unreadable(err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("%w; let the user that runs vodrelay read it", err)
}
