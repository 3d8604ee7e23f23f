package knative

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/sink/webhook"
)

// The environment of a container that Knative has bound to a sink. Source:
// https://github.com/knative/eventing/blob/main/pkg/apis/sources/v1/sinkbinding_lifecycle.go.
const (
	envSink      = "K_SINK"         // the URL
	envOverrides = "K_CE_OVERRIDES" // {"extensions":{"name":"value"}}, or nothing
	envCACerts   = "K_CA_CERTS"     // PEM
	tokenFile    = "/oidc/token"    // of a sink that wants one
)

// Config is what the sink's own keys say; what they leave out is taken from the environment.
type Config struct {
	URL        string            `mapstructure:"url" doc:"Where events are sent. Empty: K_SINK in the environment, which Knative sets in a ContainerSource and by a SinkBinding."`
	Extensions map[string]string `mapstructure:"extensions" doc:"CloudEvents extension attributes of every event, name to value, beside those of K_CE_OVERRIDES, which win. Names have lower-case letters and digits only."`
	Format     event.Format      `mapstructure:"format" enum:"cloudevents,cloudevents-binary" default:"cloudevents-binary" doc:"Form of the request: cloudevents-binary (the callback body, attributes in ce- headers) or cloudevents (one CloudEvents 1.0 object in JSON)."`
	TokenFile  string            `mapstructure:"token_file" doc:"Path of a file with the bearer token for the sink. Read again when it changes. Empty: /oidc/token if Knative has mounted it."`
	TLS        webhook.TLSConfig `mapstructure:"tls" doc:"TLS of the connection; 1.2 or newer. Without ca_file, K_CA_CERTS in the environment is trusted beside the system's certificates."`
}

// DefaultConfig takes everything from the environment.
func DefaultConfig() Config { return Config{Format: event.FormatCloudEventsBinary} }

// Bound reports whether Knative has named a sink in the environment.
func Bound() bool { return os.Getenv(envSink) != "" }

// Validate reports every value that makes no sense, in the configuration and in the environment.
func (c Config) Validate() error {
	_, err := c.resolve(os.Getenv)
	return err
}

// resolved is a configuration together with the environment.
type resolved struct {
	webhook    webhook.Config
	extensions []event.Attribute
	roots      *x509.CertPool   // nil: the system's
	token      *secretfile.File // nil: none
}

func (c Config) resolve(env func(string) string) (resolved, error) {
	var r resolved
	var errs []error
	r.webhook = webhook.DefaultConfig()
	r.webhook.Format, r.webhook.TLS = c.Format, c.TLS
	r.webhook.URL = c.URL
	if c.URL == "" {
		r.webhook.URL = env(envSink)
	}
	if r.webhook.URL == "" {
		errs = append(errs, errors.New(`url: "": name the sink, or run under a SinkBinding or as a ContainerSource, which set K_SINK`))
	} else if err := r.webhook.Validate(); err != nil {
		if c.URL == "" {
			err = fmt.Errorf("%s in the environment: %w", envSink, err)
		}
		errs = append(errs, err)
	}
	if c.Format != event.FormatCloudEvents && c.Format != event.FormatCloudEventsBinary {
		errs = append(errs, fmt.Errorf("format: %q: use %s or %s", c.Format, event.FormatCloudEventsBinary, event.FormatCloudEvents))
	}
	var err error
	if r.extensions, err = c.extensions(env(envOverrides)); err != nil {
		errs = append(errs, err)
	}
	if certs := env(envCACerts); certs != "" && c.TLS.CAFile == "" {
		if r.roots, err = x509.SystemCertPool(); err != nil {
			r.roots = x509.NewCertPool()
		}
		if !r.roots.AppendCertsFromPEM([]byte(certs)) {
			errs = append(errs, fmt.Errorf("%s in the environment has no certificate in PEM form: correct the sink's status.address.CACerts", envCACerts))
		}
	}
	path := c.TokenFile
	if _, err := os.Stat(tokenFile); path == "" && err == nil {
		path = tokenFile
	}
	if path != "" {
		r.token = secretfile.New("token_file", path)
		errs = append(errs, secretfile.Validate("token_file", path, nil))
	}
	return r, errors.Join(errs...)
}

// own are the attributes that every event has anyway, or that describe its data: those of
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#context-attributes, and the JSON format's members.
var own = []string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"}

var attributeName = regexp.MustCompile(`^[a-z0-9]+$`)

// extensions are those of the configuration and of overrides, by name.
func (c Config) extensions(overrides string) ([]event.Attribute, error) {
	var errs []error
	all := make(map[string]string)
	add := func(key string, extensions map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(extensions)) {
			switch value := extensions[name]; {
			case !attributeName.MatchString(name):
				errs = append(errs, fmt.Errorf("%s: %q: must consist of lower-case letters a-z and digits", key, name))
			case slices.Contains(own, name):
				errs = append(errs, fmt.Errorf("%s: %q: is an attribute that vodrelay sets, remove it", key, name))
			case value == "" || !utf8.ValidString(value) || strings.ContainsFunc(value, isControl):
				errs = append(errs, fmt.Errorf("%s: %q: its value must be text without control characters, and not empty", key, name))
			default:
				all[name] = value
			}
		}
	}
	add("extensions", c.Extensions)
	if overrides != "" {
		var fromEnv struct {
			Extensions map[string]string `json:"extensions"`
		}
		if err := json.Unmarshal([]byte(overrides), &fromEnv); err != nil {
			errs = append(errs, fmt.Errorf(`%s in the environment cannot be read: write {"extensions":{"name":"value"}}`, envOverrides))
		}
		add(envOverrides+" in the environment", fromEnv.Extensions)
	}
	attributes := make([]event.Attribute, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		attributes = append(attributes, event.Attribute{Name: name, Value: all[name]})
	}
	return attributes, errors.Join(errs...)
}

// isControl is what CloudEvents forbids in strings:
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type-system.
func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }
