package nats

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/eventname"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// Config is what the sink's own keys say.
type Config struct {
	Servers           []string          `mapstructure:"servers" doc:"Servers of one cluster, such as [nats://nats-1:4222, nats://nats-2:4222]; tls:// demands TLS, ws:// and wss:// are WebSocket. They are tried until one answers."`
	Subject           string            `mapstructure:"subject" doc:"Subject that all events are published to. A stream must take it."`
	SubjectExpression string            `mapstructure:"subject_expression" doc:"Expression of each event's subject, instead of subject, such as \"vod.\" + type. What begins with $ or _INBOX., which NATS keeps for itself, is the event's fault: a dead letter."`
	Stream            string            `mapstructure:"stream" doc:"Stream that must take the events; another one that does is an error. Empty: any stream."`
	CreateStream      CreateConfig      `mapstructure:"create_stream" doc:"Whether to create the stream, if it does not exist; one that does is never changed."`
	Format            event.Format      `mapstructure:"format" enum:"callback,cloudevents,cloudevents-binary" default:"callback" doc:"Form of the message: callback (what VOD's normal callback would POST), cloudevents (a CloudEvents 1.0 object in JSON) or cloudevents-binary (the callback body, attributes in ce- headers)."`
	Headers           map[string]string `mapstructure:"headers" secret:"true" doc:"Further headers of each message, name to value. Letter case matters."`
	CredentialsFile   string            `mapstructure:"credentials_file" doc:"Path of a .creds file, as nsc and NATS accounts give them. Read again at each connection, as every file of this sink."`
	NKeyFile          string            `mapstructure:"nkey_file" doc:"Path of a file with the seed of an NKey, SU..."`
	Username          string            `mapstructure:"username" doc:"Name of the user."`
	Password          string            `mapstructure:"password" secret:"true" doc:"Password of the user."`
	PasswordFile      string            `mapstructure:"password_file" doc:"Path of a file with the password, instead of password."`
	Token             string            `mapstructure:"token" secret:"true" doc:"Token, where the server wants one instead of a user."`
	TokenFile         string            `mapstructure:"token_file" doc:"Path of a file with the token, instead of token."`
	TLS               tlsconf.Config    `mapstructure:"tls" doc:"TLS of the connection; 1.2 or newer. A key of it that is set demands TLS, as tls:// does."`
	ClientName        string            `mapstructure:"client_name" default:"vodrelay" doc:"Name of the connection in the server's monitoring."`
	Domain            string            `mapstructure:"domain" doc:"JetStream domain, where the stream is in another one than the server's own."`
	InboxPrefix       string            `mapstructure:"inbox_prefix" default:"_INBOX" doc:"Start of the subjects that answers come on; the user must be allowed to subscribe to them."`
	ConnectTimeout    time.Duration     `mapstructure:"connect_timeout" default:"5s" doc:"Longest time to connect and log in to one server, such as 5s. More than 0."`
}

// CreateConfig is the stream that is created where there is none: in files, its messages kept until a limit
// is reached, the oldest going first.
type CreateConfig struct {
	Enabled         bool          `mapstructure:"enabled" default:"false" doc:"Create the stream that stream names before the first event, if it does not exist."`
	Subjects        []string      `mapstructure:"subjects" doc:"Subjects that it takes, such as [vod.>]. Empty: subject."`
	Replicas        int           `mapstructure:"replicas" default:"1" doc:"Servers that hold each message, 1 to 5; 3 survives the loss of one."`
	MaxAge          time.Duration `mapstructure:"max_age" default:"0s" doc:"Age at which messages are removed, such as 168h; 0: never."`
	MaxBytes        int64         `mapstructure:"max_bytes" default:"0" doc:"Bytes beyond which the oldest messages are removed; 0: no limit."`
	DuplicateWindow time.Duration `mapstructure:"duplicate_window" default:"10m" doc:"How long the server remembers the IDs of events, and stores no second message of one. At least 100ms; not more than max_age."`
}

// DefaultConfig lacks the servers and the subject.
func DefaultConfig() Config {
	return Config{
		Format:         event.FormatCallback,
		ClientName:     "vodrelay",
		InboxPrefix:    "_INBOX",
		ConnectTimeout: 5 * time.Second,
		CreateStream:   CreateConfig{Replicas: 1, DuplicateWindow: 10 * time.Minute},
	}
}

// Validate reports every value that makes no sense, and every file that cannot be read.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Servers) == 0 {
		fail("servers: []: name at least one, such as [nats://nats-1:4222]")
	}
	for _, server := range c.Servers {
		if err := validateServer(server); err != nil {
			fail("servers: %w", err)
		}
	}
	_, err := c.subject()
	errs = append(errs, err)
	if c.Stream != "" && strings.ContainsAny(c.Stream, " \t\r\n.*>/\\") {
		fail("stream: %q: is not the name of a stream: it has no spaces, dots, slashes, * and >", c.Stream)
	}
	errs = append(errs, c.validateCreate())
	if err := c.Format.Validate(); err != nil {
		fail("format: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		switch canonical := textproto.CanonicalMIMEHeaderKey(name); {
		case name == "" || strings.ContainsAny(name, " \t\r\n:"):
			fail("headers: %q: is not the name of a header", name)
		case canonical == contentType || strings.HasPrefix(canonical, "Ce-") || strings.HasPrefix(canonical, "Nats-"):
			fail("headers: %q: is set by vodrelay or NATS, remove it", name)
		case strings.ContainsAny(c.Headers[name], "\r\n"):
			fail("headers: %q: its value must be one line", name)
		}
	}
	if err := validateSubject(c.InboxPrefix); err != nil {
		fail("inbox_prefix: %w", err)
	}
	if c.ConnectTimeout <= 0 {
		fail("connect_timeout: %s: must be more than 0, such as 5s", c.ConnectTimeout)
	}
	_, err = c.TLS.Load()
	return errors.Join(append(errs, c.validateLogin(), err)...)
}

func validateServer(server string) error {
	u, err := url.Parse(server)
	shown := redact.Address(server)
	switch {
	case strings.Contains(server, "@"):
		return fmt.Errorf("%q: must hold no user and password: use username and password_file, or token_file", shown)
	case !strings.Contains(server, "://"):
		return fmt.Errorf("%q: needs a scheme, write %s", shown, neterr.AddScheme(shown, "nats", "nats://nats-1:4222"))
	case err != nil || u.Hostname() == "" || strings.Contains(server, ","):
		return fmt.Errorf("%q: write nats://host:4222, one in each entry", redact.Addresses(strings.Split(server, ",")))
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return fmt.Errorf("%q: must start with nats://, tls://, ws:// or wss://", shown)
	}
	return nil
}

func (c Config) validateCreate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("create_stream."+format, args...)) }
	n := c.CreateStream
	if !n.Enabled {
		return nil
	}
	if c.Stream == "" {
		errs = append(errs, errors.New(`stream: "": name the stream that create_stream is to create, such as VOD`))
	}
	if len(n.Subjects) == 0 && c.Subject == "" {
		fail("subjects: []: name those that subject_expression gives, such as [vod.>]")
	}
	for _, subject := range n.Subjects {
		if !isSubject(subject, true) {
			fail("subjects: %q: is not a subject: it is words with dots between, such as vod.>", subject)
		}
	}
	if n.Replicas < 1 || n.Replicas > 5 {
		fail("replicas: %d: must be from 1 to 5", n.Replicas)
	}
	if n.MaxAge < 0 {
		fail("max_age: %s: must be 0 (forever) or more", n.MaxAge)
	}
	if n.MaxBytes < 0 {
		fail("max_bytes: %d: must be 0 (no limit) or more", n.MaxBytes)
	}
	if n.DuplicateWindow < 100*time.Millisecond {
		fail("duplicate_window: %s: must be at least 100ms", n.DuplicateWindow)
	}
	if n.MaxAge > 0 && n.DuplicateWindow > n.MaxAge {
		fail("duplicate_window: %s: must not be more than max_age (%s)", n.DuplicateWindow, n.MaxAge)
	}
	return errors.Join(errs...)
}

func (c Config) validateLogin() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var ways []string
	for key, set := range map[string]bool{
		"credentials_file": c.CredentialsFile != "", "nkey_file": c.NKeyFile != "",
		"username": c.Username != "", "token_file": c.Token != "" || c.TokenFile != "",
	} {
		if set {
			ways = append(ways, key)
		}
	}
	if len(ways) > 1 {
		slices.Sort(ways)
		fail("%s: are set together: keep one of them", strings.Join(ways, ", "))
	}
	switch {
	case c.Password != "" && c.PasswordFile != "":
		fail("password_file: is set beside password: remove one of the two")
	case c.Token != "" && c.TokenFile != "":
		fail("token_file: is set beside token: remove one of the two")
	case c.Username == "" && (c.Password != "" || c.PasswordFile != ""):
		fail(`username: "": name the user of the password`)
	case c.Username != "" && c.Password == "" && c.PasswordFile == "":
		fail(`password_file: "": name the file with the user's password`)
	}
	for _, file := range []struct{ key, path string }{
		{"credentials_file", c.CredentialsFile}, {"nkey_file", c.NKeyFile}, {"password_file", c.PasswordFile}, {"token_file", c.TokenFile},
	} {
		if file.path != "" {
			errs = append(errs, secretfile.Validate(file.key, file.path, nil))
		}
	}
	return errors.Join(errs...)
}

// subject compiles subject_expression; nil if there is none.
func (c Config) subject() (*expression.Expression, error) {
	switch {
	case c.Subject == "" && c.SubjectExpression == "":
		return nil, errors.New(`subject: "": name the subject, such as vod.events`)
	case c.Subject != "" && c.SubjectExpression != "":
		return nil, errors.New("subject_expression: is set beside subject: remove one of the two")
	case c.Subject != "":
		if err := validateSubject(c.Subject); err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
		return nil, nil
	}
	x, err := expression.Compile(c.SubjectExpression)
	if err != nil {
		return nil, fmt.Errorf("subject_expression: %w", err)
	}
	return x, nil
}

// maxEventSubject is the most bytes of a subject that an event decides. The server ends the connection of a client
// whose line is longer than its max_control_line, 4096 by default, and with it what other events have under way.
const maxEventSubject = 1024

// names is the rule for subjects that events decide. $ is the beginning of the server's own APIs ($JS, $SYS, $KV,
// $O, $MQTT), the others that of answers. Source: https://docs.nats.io/nats-concepts/subjects.
func (c Config) names() eventname.Rule {
	return eventname.Rule{
		Key: "subject_expression", What: "subject", MaxBytes: maxEventSubject,
		Reserved: []string{"$", "_INBOX.", "_R_.", "_GR_.", c.InboxPrefix + "."}, By: "NATS", Check: validateSubject,
	}
}

// validateSubject checks a subject that is to be published to.
func validateSubject(subject string) error {
	if !isSubject(subject, false) {
		return fmt.Errorf("%.300q: is not a subject: it is words with dots between, without spaces, * and >", subject)
	}
	return nil
}

// isSubject applies the rules of https://docs.nats.io/nats-concepts/subjects, and that nothing of it is a
// control character.
func isSubject(subject string, wildcards bool) bool {
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' }) {
			return false
		}
		wild := token == "*" || token == ">" && i == len(tokens)-1
		if !wildcards && strings.ContainsAny(token, "*>") || wildcards && strings.ContainsAny(token, "*>") && !wild {
			return false
		}
	}
	return true
}
