package webhook

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// Config is what the sink's own keys say.
type Config struct {
	URL         string            `mapstructure:"url" doc:"Where events are sent, https://host/path. A user and password in it become basic authentication. An answer of 2xx accepts the event; 400, 410, 413, 414, 415 and 422 make it a dead letter; after every other one it is sent again."`
	Method      string            `mapstructure:"method" enum:"POST,PUT,PATCH" default:"POST" doc:"HTTP method."`
	Format      event.Format      `mapstructure:"format" enum:"callback,cloudevents,cloudevents-binary" default:"callback" doc:"Form of the body: callback (what VOD's normal callback would POST), cloudevents (a CloudEvents 1.0 object in JSON) or cloudevents-binary (the callback body, attributes in ce- headers)."`
	Headers     map[string]string `mapstructure:"headers" secret:"true" doc:"Further headers, name to value."`
	HeadersFile map[string]string `mapstructure:"headers_file" doc:"Further headers whose values are secret, name to the path of a file with the value, such as {Authorization: /run/secrets/bearer}. Read again when it changes."`
	Secret      string            `mapstructure:"secret" secret:"true" doc:"Key of the Standard Webhooks signature: whsec_ and base64, or any other text, taken as its bytes. Several with spaces between make several signatures, to change keys without a gap."`
	SecretFile  string            `mapstructure:"secret_file" doc:"Path of a file with the secret, instead of secret. Read again when it changes."`
	TLS         TLSConfig         `mapstructure:"tls" doc:"TLS of the connection; 1.2 or newer."`
	Proxy       string            `mapstructure:"proxy" doc:"Proxy for the connection, such as http://proxy:3128. Empty: HTTPS_PROXY, HTTP_PROXY and NO_PROXY say; none: no proxy."`
}

// TLSConfig is how the endpoint is verified, and how vodrelay proves itself to it.
type TLSConfig = tlsconf.Config

// DefaultConfig lacks only the URL.
func DefaultConfig() Config {
	return Config{Method: http.MethodPost, Format: event.FormatCallback}
}

// Validate reports every value that makes no sense, and every file that cannot be read.
func (c Config) Validate() error {
	var errs []error
	fail := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	target, err := parseURL(c.URL)
	fail(err)
	switch c.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		fail(fmt.Errorf("method: %q: use POST, PUT or PATCH", c.Method))
	}
	if err := c.Format.Validate(); err != nil {
		fail(fmt.Errorf("format: %w", err))
	}
	fail(c.validateHeaders(target))
	if c.Secret != "" && c.SecretFile != "" {
		fail(errors.New("secret_file: is set beside secret: remove one of the two"))
	}
	if c.Secret != "" {
		if _, err := parseSecrets(c.Secret); err != nil {
			fail(fmt.Errorf("secret: (hidden): %w", err))
		}
	}
	if c.SecretFile != "" {
		fail(secretfile.Validate("secret_file", c.SecretFile, func(text string) error {
			_, err := parseSecrets(text)
			return err
		}))
	}
	if _, err := c.TLS.Load(); err != nil {
		fail(err)
	}
	if _, err := parseProxy(c.Proxy); err != nil {
		fail(err)
	}
	return errors.Join(errs...)
}

// reserved are headers that the sink or HTTP itself sets.
var reserved = []string{"Connection", "Content-Length", "Idempotency-Key", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func (c Config) validateHeaders(target *url.URL) error {
	var errs []error
	seen := make(map[string]bool)
	check := func(key, name string) bool {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !isToken(name):
			errs = append(errs, fmt.Errorf("%s: %q: is not the name of a header", key, name))
		case slices.Contains(reserved, canonical) || strings.HasPrefix(canonical, "Webhook-") || strings.HasPrefix(canonical, "Ce-"):
			errs = append(errs, fmt.Errorf("%s: %q: is set by vodrelay, remove it", key, name))
		case seen[canonical]:
			errs = append(errs, fmt.Errorf("%s: %q: is set twice, remove one", key, name))
		case canonical == "Authorization" && target != nil && target.User != nil:
			errs = append(errs, fmt.Errorf("%s: %q: url has a user already, remove one of the two", key, name))
		default:
			seen[canonical] = true
			return true
		}
		return false
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if check("headers", name) && !isHeaderValue(c.Headers[name]) {
			errs = append(errs, fmt.Errorf("headers: %q: its value (hidden) must be one line without control characters", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.HeadersFile)) {
		if check("headers_file", name) {
			errs = append(errs, secretfile.Validate("headers_file", c.HeadersFile[name], checkHeaderValue))
		}
	}
	return errors.Join(errs...)
}

// parseURL reads the key url. Its error shows the host alone.
func parseURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New(`url: "": name the endpoint, such as https://example.com/vod`)
	}
	shown := redact.Address(text)
	target, err := url.Parse(text)
	switch {
	case !strings.Contains(text, "://"):
		return nil, fmt.Errorf("url: %q: needs a scheme, write %s", shown, neterr.AddScheme(shown, "https", "https://example.com/vod"))
	case err != nil:
		return nil, fmt.Errorf("url: %q: cannot be parsed: leave out quotes and blanks, and percent-encode special characters", shown)
	case target.Scheme != "http" && target.Scheme != "https":
		return nil, fmt.Errorf("url: %q: must start with https:// or http://", shown)
	case target.Hostname() == "":
		return nil, fmt.Errorf("url: %q: has no host, write https://example.com/vod", shown)
	case target.Port() != "" && !isPort(target.Port()):
		return nil, fmt.Errorf("url: %q: %s is no port, write a number from 1 to 65535, or leave it out", shown, target.Port())
	}
	return target, nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// parseProxy returns nil for the environment's choice.
func parseProxy(text string) (func(*http.Request) (*url.URL, error), error) {
	switch text {
	case "":
		return http.ProxyFromEnvironment, nil
	case "none":
		return nil, nil
	}
	proxy, err := url.Parse(text)
	if err != nil || proxy.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, proxy.Scheme) {
		return nil, fmt.Errorf("proxy: %q: write http://host:port, https://host:port, socks5://host:port or none", redact.Address(text))
	}
	return http.ProxyURL(proxy), nil
}

// isToken reports whether name is a token of RFC 9110, section 5.6.2.
func isToken(name string) bool {
	const characters = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return name != "" && strings.Trim(name, characters) == ""
}

func isHeaderValue(value string) bool {
	return strings.IndexFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0
}

func checkHeaderValue(value string) error {
	if !isHeaderValue(value) {
		return errors.New("the value must be one line without control characters")
	}
	return nil
}
