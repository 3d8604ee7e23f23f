package kafka

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
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
	Brokers          []string          `mapstructure:"brokers" doc:"Brokers to start from, host:port, such as [kafka-1:9092, kafka-2:9092]; the others are learned from them. Without a port: 9092."`
	Topic            string            `mapstructure:"topic" doc:"Topic that all events go to. It must exist."`
	TopicExpression  string            `mapstructure:"topic_expression" doc:"Expression of each event's topic, instead of topic, such as type == \"NewFileUpload\" ? \"uploads\" : \"others\". Its topics must exist. One that begins with _, as internal topics do, is the event's fault: a dead letter."`
	Key              string            `mapstructure:"key" default:"subject != \"\" ? subject : id" doc:"Expression of each record's key. Records of one key go to one partition and keep their order; by default it is the FileId (of FileDeleted the one in FileIdSet, if it is the only one), else the TaskId, else the event's ID. Empty, or empty for an event: no key, the partitions take turns."`
	Format           event.Format      `mapstructure:"format" enum:"callback,cloudevents,cloudevents-binary" default:"callback" doc:"Form of the record's value: callback (what VOD's normal callback would POST), cloudevents (a CloudEvents 1.0 object in JSON) or cloudevents-binary (the callback body, attributes in ce_ headers)."`
	Headers          map[string]string `mapstructure:"headers" secret:"true" doc:"Further headers of each record, name to value."`
	Compression      string            `mapstructure:"compression" enum:"none,gzip,snappy,lz4,zstd" default:"snappy" doc:"Compression of the batches. zstd needs Kafka 2.1 or newer."`
	ClientID         string            `mapstructure:"client_id" default:"vodrelay" doc:"Name of this client in the brokers' logs, metrics and quotas."`
	SecurityProtocol string            `mapstructure:"security_protocol" enum:"PLAINTEXT,SSL,SASL_PLAINTEXT,SASL_SSL" default:"PLAINTEXT" doc:"Whether connections use TLS (SSL, SASL_SSL) and log in (SASL_PLAINTEXT, SASL_SSL)."`
	SASL             SASLConfig        `mapstructure:"sasl" doc:"How to log in, with SASL_PLAINTEXT and SASL_SSL."`
	TLS              tlsconf.Config    `mapstructure:"tls" doc:"TLS of the connections, with SSL and SASL_SSL; 1.2 or newer."`
	Idempotent       bool              `mapstructure:"idempotent" default:"true" doc:"Number the records, so that a record which a broker gets twice in one exchange is written once and order is kept. Before Kafka 3.0 it needs the permission IdempotentWrite."`
	MaxMessageBytes  int               `mapstructure:"max_message_bytes" default:"1000000" doc:"Largest batch, and so the largest record, in bytes before compression, from 1000 to 100000000. Not more than max.message.bytes of the topic."`
	Linger           time.Duration     `mapstructure:"linger" default:"5ms" doc:"How long a record waits for others to share its batch, such as 5ms; 0 to 1s."`
	ConnectTimeout   time.Duration     `mapstructure:"connect_timeout" default:"5s" doc:"Longest time to connect to one broker, such as 5s, TLS included. More than 0."`
	RequestTimeout   time.Duration     `mapstructure:"request_timeout" default:"10s" doc:"Longest time that a broker waits for its replicas to hold a record, such as 10s. At least 1s."`
	DeliveryTimeout  time.Duration     `mapstructure:"delivery_timeout" default:"30s" doc:"Longest time that a record which was never sent stays in the client's buffer, such as 30s. At least 1s."`
}

// SASLConfig is how vodrelay logs in.
type SASLConfig struct {
	Mechanism    string `mapstructure:"mechanism" enum:"PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER" default:"PLAIN" doc:"SASL mechanism."`
	Username     string `mapstructure:"username" doc:"Name of the user. For CKafka it is the instance's ID, # and the user's name, such as ckafka-1a2b3c4d#vodrelay."`
	Password     string `mapstructure:"password" secret:"true" doc:"Password of the user."`
	PasswordFile string `mapstructure:"password_file" doc:"Path of a file with the password, instead of password. Read again when it changes."`
	TokenFile    string `mapstructure:"token_file" doc:"Path of a file with the bearer token of OAUTHBEARER. Read again when it changes."`
}

// DefaultConfig lacks the brokers and the topic.
func DefaultConfig() Config {
	return Config{
		Key:              `subject != "" ? subject : id`,
		Format:           event.FormatCallback,
		Compression:      "snappy",
		ClientID:         "vodrelay",
		SecurityProtocol: plaintext,
		SASL:             SASLConfig{Mechanism: "PLAIN"},
		Idempotent:       true,
		MaxMessageBytes:  1_000_000,
		Linger:           5 * time.Millisecond,
		ConnectTimeout:   5 * time.Second,
		RequestTimeout:   10 * time.Second,
		DeliveryTimeout:  30 * time.Second,
	}
}

// The values of SecurityProtocol, under the names that Kafka's own clients have for them.
const (
	plaintext     = "PLAINTEXT"
	ssl           = "SSL"
	saslPlaintext = "SASL_PLAINTEXT"
	saslSSL       = "SASL_SSL"
)

func (c Config) usesTLS() bool { return c.SecurityProtocol == ssl || c.SecurityProtocol == saslSSL }
func (c Config) usesSASL() bool {
	return c.SecurityProtocol == saslPlaintext || c.SecurityProtocol == saslSSL
}

// Validate reports every value that makes no sense, and every file that cannot be read.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		fail("brokers: []: name at least one, such as [kafka-1:9092]")
	}
	for _, broker := range c.Brokers {
		if err := validateBroker(broker); err != nil {
			fail("brokers: %q: %w", redact.Address(broker), err)
		}
	}
	_, err := c.expressions()
	errs = append(errs, err)
	if err := c.Format.Validate(); err != nil {
		fail("format: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if name == "" {
			fail("headers: %q: is not the name of a header", name)
		}
		if name == contentType || strings.HasPrefix(name, cePrefix) || strings.HasPrefix(name, "vodrelay-") {
			fail("headers: %q: is set by vodrelay, remove it", name)
		}
	}
	if _, ok := codecs[c.Compression]; !ok {
		fail("compression: %q: use none, gzip, snappy, lz4 or zstd", c.Compression)
	}
	if c.MaxMessageBytes < 1000 || c.MaxMessageBytes > 100_000_000 {
		fail("max_message_bytes: %d: must be from 1000 to 100000000", c.MaxMessageBytes)
	}
	if c.Linger < 0 || c.Linger > time.Second {
		fail("linger: %s: must be from 0 to 1s", c.Linger)
	}
	if c.ConnectTimeout <= 0 {
		fail("connect_timeout: %s: must be more than 0, such as 5s", c.ConnectTimeout)
	}
	if c.RequestTimeout < time.Second {
		fail("request_timeout: %s: must be at least 1s", c.RequestTimeout)
	}
	if c.DeliveryTimeout < time.Second {
		fail("delivery_timeout: %s: must be at least 1s", c.DeliveryTimeout)
	}
	return errors.Join(append(errs, c.validateSecurity())...)
}

func (c Config) validateSecurity() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.SecurityProtocol {
	case plaintext, ssl, saslPlaintext, saslSSL:
	default:
		fail("security_protocol: %q: use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", c.SecurityProtocol)
		return errors.Join(errs...)
	}
	if c.usesTLS() {
		_, err := c.TLS.Load()
		errs = append(errs, err)
	} else if c.TLS != (tlsconf.Config{}) {
		fail("security_protocol: %q: does not use the section tls that is given: write SSL or SASL_SSL, or remove it", c.SecurityProtocol)
	}
	if c.usesSASL() {
		errs = append(errs, c.SASL.validate())
	} else if c.SASL.Username != "" || c.SASL.Password != "" || c.SASL.PasswordFile != "" || c.SASL.TokenFile != "" {
		fail("security_protocol: %q: does not use the section sasl that is given: write SASL_PLAINTEXT or SASL_SSL, or remove it", c.SecurityProtocol)
	}
	return errors.Join(errs...)
}

func (c SASLConfig) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Mechanism {
	case "OAUTHBEARER":
		if c.TokenFile == "" {
			fail(`sasl.token_file: "": name the file with the token of OAUTHBEARER`)
		} else if err := secretfile.Validate("sasl.token_file", c.TokenFile, nil); err != nil {
			errs = append(errs, err)
		}
		if c.Username != "" || c.Password != "" || c.PasswordFile != "" {
			fail("sasl.mechanism: OAUTHBEARER: takes no username and password: remove them")
		}
		return errors.Join(errs...)
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
	default:
		fail("sasl.mechanism: %q: use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", c.Mechanism)
		return errors.Join(errs...)
	}
	if c.Username == "" {
		fail(`sasl.username: "": name the user`)
	}
	switch {
	case c.Password != "" && c.PasswordFile != "":
		fail("sasl.password_file: is set beside sasl.password: remove one of the two")
	case c.PasswordFile != "":
		errs = append(errs, secretfile.Validate("sasl.password_file", c.PasswordFile, nil))
	case c.Password == "":
		fail(`sasl.password_file: "": name the file with the user's password`)
	}
	if c.TokenFile != "" {
		fail("sasl.token_file: %q: is for OAUTHBEARER only: remove it", c.TokenFile)
	}
	return errors.Join(errs...)
}

// addresses tells the brokers of the configuration from those that they name.
func (c Config) addresses() neterr.Source {
	s := neterr.Source{From: "advertised by " + redact.Addresses(c.Brokers), Key: "advertised.listeners of the broker", Configured: make(map[string]string)}
	for _, broker := range c.Brokers {
		if _, _, err := net.SplitHostPort(broker); err != nil {
			broker = net.JoinHostPort(strings.Trim(broker, "[]"), "9092")
		}
		s.Configured[broker] = broker
	}
	return s
}

func validateBroker(broker string) error {
	if strings.Contains(broker, "://") {
		return errors.New("takes no scheme: write host:port, and say with security_protocol whether to use TLS")
	}
	if strings.Contains(broker, "@") {
		return errors.New("takes no user and password: write host:port, and keep them in the section sasl")
	}
	host, port, err := net.SplitHostPort(broker)
	if err != nil { // without a port
		host, port = strings.Trim(broker, "[]"), "9092"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" ||
		strings.ContainsAny(host, " ,/") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return errors.New("write host:port, such as kafka-1:9092, one in each entry")
	}
	return nil
}

// expressions are what is evaluated on each event; nil where there is none.
type expressions struct{ topic, key *expression.Expression }

func (c Config) expressions() (expressions, error) {
	var x expressions
	var errs []error
	compile := func(key, src string) *expression.Expression {
		compiled, err := expression.Compile(src)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		return compiled
	}
	switch {
	case c.Topic == "" && c.TopicExpression == "":
		errs = append(errs, errors.New(`topic: "": name the topic, such as vod-events`))
	case c.Topic != "" && c.TopicExpression != "":
		errs = append(errs, errors.New("topic_expression: is set beside topic: remove one of the two"))
	case c.TopicExpression != "":
		x.topic = compile("topic_expression", c.TopicExpression)
	default:
		if err := validateTopic(c.Topic); err != nil {
			errs = append(errs, fmt.Errorf("topic: %w", err))
		}
	}
	if c.Key != "" {
		x.key = compile("key", c.Key)
	}
	return x, errors.Join(errs...)
}

// The length is checked beside it: a counted repetition of 249 takes milliseconds to compile, at every start.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

const maxTopicName = 249

// topics is the rule for topics that events decide. Kafka's own internal topics begin with two underscores
// (__consumer_offsets, __transaction_state), those of what stands beside it with one (_schemas, _confluent-...).
var topics = eventname.Rule{
	Key: "topic_expression", What: "topic", Reserved: []string{"_"}, By: "Kafka", Check: validateTopic,
}

// validateTopic applies Kafka's own rule (org.apache.kafka.common.internals.Topic).
func validateTopic(topic string) error {
	if len(topic) > maxTopicName || !topicName.MatchString(topic) || topic == "." || topic == ".." {
		return fmt.Errorf("%.300q: is not a topic: it has 1 to 249 letters, digits, dots, dashes and underscores", topic)
	}
	return nil
}
