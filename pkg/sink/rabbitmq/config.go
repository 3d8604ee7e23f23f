package rabbitmq

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// Config is what the sink's own keys say.
type Config struct {
	Addresses            []string          `mapstructure:"addresses" doc:"Nodes of one cluster, host:port, such as [rabbitmq:5672]; the first that answers is used. Without a port: 5672, with use_tls 5671."`
	VHost                string            `mapstructure:"vhost" default:"/" doc:"Virtual host. TDMQ for RabbitMQ: its name in the console."`
	Mechanism            string            `mapstructure:"mechanism" enum:"PLAIN,EXTERNAL" default:"PLAIN" doc:"How to log in: with username and password, or (EXTERNAL) with the certificate of tls.cert_file."`
	Username             string            `mapstructure:"username" doc:"Name of the user. The brokers' default user guest may only come from their own machine."`
	Password             string            `mapstructure:"password" secret:"true" doc:"Password of the user."`
	PasswordFile         string            `mapstructure:"password_file" doc:"Path of a file with the password, instead of password. Read again at each connection."`
	UseTLS               bool              `mapstructure:"use_tls" default:"false" doc:"Whether connections use TLS."`
	TLS                  tlsconf.Config    `mapstructure:"tls" doc:"TLS of the connections, with use_tls; 1.2 or newer."`
	Exchange             string            `mapstructure:"exchange" doc:"Exchange that all events go to. It must exist. Empty: the default exchange, which brings each event to the queue that is named like its routing key."`
	ExchangeExpression   string            `mapstructure:"exchange_expression" doc:"Expression of each event's exchange, instead of exchange. Its exchanges must exist. One that begins with amq., or none, is the event's fault: a dead letter."`
	RoutingKey           string            `mapstructure:"routing_key" doc:"Routing key of all events; the name of the queue with the default exchange. It can be empty for exchanges that do not look at it (fanout, headers)."`
	RoutingKeyExpression string            `mapstructure:"routing_key_expression" doc:"Expression of each event's routing key, instead of routing_key, such as \"vod.\" + type. One that begins with amq. is the event's fault: a dead letter."`
	Format               event.Format      `mapstructure:"format" enum:"callback,cloudevents,cloudevents-binary" default:"callback" doc:"Form of the message's body: callback (what VOD's normal callback would POST), cloudevents (a CloudEvents 1.0 object in JSON) or cloudevents-binary (the callback body, attributes in headers cloudEvents_...)."`
	Headers              map[string]string `mapstructure:"headers" secret:"true" doc:"Further headers of each message, name to value."`
	Heartbeat            time.Duration     `mapstructure:"heartbeat" default:"10s" doc:"How often both sides show that they are there, such as 10s; a connection that is silent for one and a half times as long is given up. 1s to 10m; the broker can make it shorter."`
	ConnectTimeout       time.Duration     `mapstructure:"connect_timeout" default:"10s" doc:"Longest time to connect to one node, such as 10s, TLS and login included. More than 0; a refused login takes 3s to be told."`
}

// The values of Mechanism.
const (
	plain    = "PLAIN"
	external = "EXTERNAL"
)

// DefaultConfig lacks the addresses, the login and the target.
func DefaultConfig() Config {
	return Config{
		VHost:          "/",
		Mechanism:      plain,
		Format:         event.FormatCallback,
		Heartbeat:      10 * time.Second,
		ConnectTimeout: 10 * time.Second,
	}
}

// Validate reports every value that makes no sense, and every file that cannot be read.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Addresses) == 0 {
		fail("addresses: []: name at least one, such as [rabbitmq:5672]")
	}
	for _, address := range c.Addresses {
		if _, err := c.hostPort(address); err != nil {
			fail("addresses: %q: %w", redact.Address(address), err)
		}
	}
	if c.VHost == "" || len(c.VHost) > maxShort {
		fail("vhost: %.300q: must have 1 to 255 bytes, such as /", c.VHost)
	}
	errs = append(errs, c.validateLogin(), c.validateTarget())
	if err := c.Format.Validate(); err != nil {
		fail("format: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		switch {
		case name == "" || len(name) > maxShort:
			fail("headers: %.300q: a name has 1 to 255 bytes", name)
		case strings.HasPrefix(name, cePrefix):
			fail("headers: %q: is set by vodrelay, remove it", name)
		case strings.EqualFold(name, "CC") || strings.EqualFold(name, "BCC"):
			fail("headers: %q: would send the event to further queues: bind them to an exchange instead", name)
		}
	}
	if c.Heartbeat < time.Second || c.Heartbeat > 10*time.Minute {
		fail("heartbeat: %s: must be from 1s to 10m", c.Heartbeat)
	}
	if c.ConnectTimeout <= 0 {
		fail("connect_timeout: %s: must be more than 0, such as 10s", c.ConnectTimeout)
	}
	return errors.Join(errs...)
}

func (c Config) validateLogin() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Mechanism {
	case plain:
		if c.Username == "" {
			fail(`username: "": name the user`)
		}
		switch {
		case c.Password != "" && c.PasswordFile != "":
			fail("password_file: is set beside password: remove one of the two")
		case c.PasswordFile != "":
			errs = append(errs, secretfile.Validate("password_file", c.PasswordFile, nil))
		case c.Password == "":
			fail(`password_file: "": name the file with the user's password`)
		}
	case external:
		if !c.UseTLS || c.TLS.CertFile == "" {
			fail("mechanism: EXTERNAL: logs in with a certificate: set use_tls, tls.cert_file and tls.key_file")
		}
		if c.Username+c.Password+c.PasswordFile != "" {
			fail("mechanism: EXTERNAL: takes no username and password: remove them")
		}
	default:
		fail("mechanism: %q: use PLAIN or EXTERNAL", c.Mechanism)
	}
	if c.UseTLS {
		_, err := c.TLS.Load()
		errs = append(errs, err)
	} else if c.TLS != (tlsconf.Config{}) {
		fail("use_tls: false: does not use the section tls that is given: set it to true, or remove the section")
	}
	return errors.Join(errs...)
}

func (c Config) validateTarget() error {
	_, err := c.expressions()
	errs := []error{err}
	if len(c.Exchange) > maxShort {
		errs = append(errs, fmt.Errorf("exchange: %.300q: must have 255 bytes at most", c.Exchange))
	}
	if len(c.RoutingKey) > maxShort {
		errs = append(errs, fmt.Errorf("routing_key: %.300q: must have 255 bytes at most", c.RoutingKey))
	}
	return errors.Join(errs...)
}

// hostPort is address with a port.
func (c Config) hostPort(address string) (string, error) {
	port := "5672"
	if c.UseTLS {
		port = "5671"
	}
	return neterr.HostPort(address, port, "rabbitmq:5672")
}

// expressions are what is evaluated on each event; nil where there is none.
type expressions struct{ exchange, routingKey *expression.Expression }

func (c Config) expressions() (expressions, error) {
	var x expressions
	var errs []error
	compile := func(key, fixed, src string) *expression.Expression {
		if src == "" {
			return nil
		}
		if fixed != "" {
			errs = append(errs, fmt.Errorf("%s_expression: is set beside %s: remove one of the two", key, key))
			return nil
		}
		compiled, err := expression.Compile(src)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s_expression: %w", key, err))
		}
		return compiled
	}
	x.exchange = compile("exchange", c.Exchange, c.ExchangeExpression)
	x.routingKey = compile("routing_key", c.RoutingKey, c.RoutingKeyExpression)
	if c.Exchange+c.ExchangeExpression+c.RoutingKey+c.RoutingKeyExpression == "" {
		errs = append(errs, errors.New(`exchange: "": name the exchange, or the queue in routing_key, such as vod-events`))
	}
	return x, errors.Join(errs...)
}
