package redis

import (
	"errors"
	"fmt"
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
	Mode                 string         `mapstructure:"mode" enum:"single,cluster,sentinel" default:"single" doc:"What addresses name: one server (single; also the proxy of a cluster, as TencentDB for Redis has it), servers of a Redis Cluster, or the sentinels of a master."`
	Addresses            []string       `mapstructure:"addresses" doc:"Where to connect, host:port, such as [redis:6379]; without a port: 6379, for sentinels 26379. mode single takes one, which can be the path of a unix socket; cluster and sentinel take several, of which one must answer."`
	MasterName           string         `mapstructure:"master_name" doc:"Name of the master that the sentinels watch, such as mymaster; only with mode sentinel."`
	Username             string         `mapstructure:"username" doc:"Name of the ACL user. Empty: the default user. TencentDB for Redis: leave it empty, a custom account is part of the password."`
	Password             string         `mapstructure:"password" secret:"true" doc:"Password. TencentDB for Redis: that of the default account, or account@password for a custom account."`
	PasswordFile         string         `mapstructure:"password_file" doc:"Path of a file with the password, instead of password. Read again at each connection."`
	SentinelUsername     string         `mapstructure:"sentinel_username" doc:"Name of the user at the sentinels, where they want one."`
	SentinelPassword     string         `mapstructure:"sentinel_password" secret:"true" doc:"Password at the sentinels, where they want one."`
	SentinelPasswordFile string         `mapstructure:"sentinel_password_file" doc:"Path of a file with the password at the sentinels, instead of sentinel_password. Read again when it changes."`
	DB                   int            `mapstructure:"db" default:"0" doc:"Number of the database, from 0. A cluster has only 0."`
	UseTLS               bool           `mapstructure:"use_tls" default:"false" doc:"Whether connections use TLS, those to sentinels too."`
	TLS                  tlsconf.Config `mapstructure:"tls" doc:"TLS of the connections, with use_tls; 1.2 or newer."`
	Command              string         `mapstructure:"command" enum:"xadd,lpush,publish" default:"xadd" doc:"How an event is written: xadd appends to a stream, which consumer groups read and acknowledge. Weaker: lpush prepends to a list, whose reader loses what it took when it dies; publish reaches only those who are subscribed at the moment, and nothing is stored."`
	Key                  string         `mapstructure:"key" doc:"Key of the stream or list, or name of the channel, that all events go to. A stream or list is created by the first event."`
	KeyExpression        string         `mapstructure:"key_expression" doc:"Expression of each event's key, instead of key, such as \"vod:\" + type. One that begins with __ or vodrelay:seen:, or has more than 1024 bytes, is the event's fault: a dead letter."`
	Format               event.Format   `mapstructure:"format" enum:"callback,cloudevents,cloudevents-binary" default:"callback" doc:"Form of the event: callback (what VOD's normal callback would POST), cloudevents (a CloudEvents 1.0 object in JSON) or, only with xadd, cloudevents-binary (the callback body, attributes in fields ce_...). With lpush and publish only cloudevents shows the event's ID."`
	MaxLength            int64          `mapstructure:"max_length" default:"0" doc:"Entries that the stream keeps, about: older ones are deleted, read or not (MAXLEN ~). 0: all. Only with xadd."`
	DedupWindow          time.Duration  `mapstructure:"dedup_window" default:"0s" doc:"How long the ID of an event is remembered, in a key of its own beside the target, so that an event which is sent again is not written twice, such as 24h. Needs scripts (EVAL). 0: no deduplication."`
	Replicas             int            `mapstructure:"replicas" default:"0" doc:"Replicas that must hold an event before it counts as accepted (WAIT). 0: the master alone."`
	ConnectTimeout       time.Duration  `mapstructure:"connect_timeout" default:"5s" doc:"Longest time to connect, such as 5s, TLS included. More than 0."`
	ReplyTimeout         time.Duration  `mapstructure:"reply_timeout" default:"5s" doc:"Longest time until the server answers, and once more until the replicas hold the event, such as 5s. At least 10ms."`
}

// The values of Mode and Command.
const (
	modeSingle   = "single"
	modeCluster  = "cluster"
	modeSentinel = "sentinel"

	commandXAdd    = "xadd"
	commandLPush   = "lpush"
	commandPublish = "publish"
)

// DefaultConfig lacks the addresses and the key.
func DefaultConfig() Config {
	return Config{
		Mode:           modeSingle,
		Command:        commandXAdd,
		Format:         event.FormatCallback,
		ConnectTimeout: 5 * time.Second,
		ReplyTimeout:   5 * time.Second,
	}
}

// Validate reports every value that makes no sense, and every file that cannot be read.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	errs = append(errs, c.validateServers(), c.validateLogin())
	switch c.Command {
	case commandXAdd:
	case commandLPush, commandPublish:
		if c.MaxLength != 0 {
			fail("max_length: %d: is for xadd only: remove it", c.MaxLength)
		}
		if c.Format == event.FormatCloudEventsBinary {
			fail("format: %q: %s has no fields for the attributes, use %s", c.Format, c.Command, event.FormatCloudEvents)
		}
	default:
		fail("command: %q: use xadd, lpush or publish", c.Command)
	}
	if _, err := c.keyExpression(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Format.Validate(); err != nil {
		fail("format: %w", err)
	}
	if c.MaxLength < 0 {
		fail("max_length: %d: must be 0 (all) or more", c.MaxLength)
	}
	if c.DedupWindow != 0 && c.DedupWindow < time.Second {
		fail("dedup_window: %s: must be 0 (no deduplication) or at least 1s, such as 24h", c.DedupWindow)
	}
	if c.Replicas < 0 {
		fail("replicas: %d: must be 0 or more", c.Replicas)
	}
	if c.ConnectTimeout <= 0 {
		fail("connect_timeout: %s: must be more than 0, such as 5s", c.ConnectTimeout)
	}
	if c.ReplyTimeout < 10*time.Millisecond {
		fail("reply_timeout: %s: must be at least 10ms, such as 5s", c.ReplyTimeout)
	}
	return errors.Join(errs...)
}

func (c Config) validateServers() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Mode {
	case modeSingle, modeCluster, modeSentinel:
	default:
		fail("mode: %q: use single, cluster or sentinel", c.Mode)
		return errors.Join(errs...)
	}
	switch {
	case len(c.Addresses) == 0:
		fail("addresses: []: name at least one, such as [redis:6379]")
	case len(c.Addresses) > 1 && c.Mode == modeSingle:
		fail("addresses: %d of them: mode single takes one; set mode to cluster or sentinel, or remove the others", len(c.Addresses))
	}
	for _, address := range c.Addresses {
		if c.Mode == modeSingle && strings.HasPrefix(address, "/") {
			continue
		}
		if _, err := c.hostPort(address); err != nil {
			fail("addresses: %q: %w", redact.Address(address), err)
		}
	}
	switch {
	case c.Mode == modeSentinel && c.MasterName == "":
		fail(`master_name: "": name the master that the sentinels watch, such as mymaster`)
	case c.Mode != modeSentinel && c.MasterName != "":
		fail("master_name: %q: is for mode sentinel only: set mode, or remove it", c.MasterName)
	}
	switch {
	case c.DB < 0:
		fail("db: %d: must be 0 or more", c.DB)
	case c.DB > 0 && c.Mode == modeCluster:
		fail("db: %d: a cluster has only database 0", c.DB)
	}
	return errors.Join(errs...)
}

func (c Config) validateLogin() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	oneOf := func(key, secret, path string) {
		switch {
		case secret != "" && path != "":
			fail("%s_file: is set beside %s: remove one of the two", key, key)
		case path != "":
			errs = append(errs, secretfile.Validate(key+"_file", path, nil))
		}
	}
	oneOf("password", c.Password, c.PasswordFile)
	if c.Username != "" && c.Password == "" && c.PasswordFile == "" {
		fail(`password_file: "": name the file with the password of the user`)
	}
	oneOf("sentinel_password", c.SentinelPassword, c.SentinelPasswordFile)
	if c.Mode != modeSentinel && c.SentinelUsername+c.SentinelPassword+c.SentinelPasswordFile != "" {
		fail("sentinel_password_file: is for mode sentinel only, as sentinel_username and sentinel_password: remove them")
	}
	if c.UseTLS {
		_, err := c.TLS.Load()
		errs = append(errs, err)
	} else if c.TLS != (tlsconf.Config{}) {
		fail("use_tls: false: does not use the section tls that is given: set it to true, or remove the section")
	}
	return errors.Join(errs...)
}

// hostPort is address with a port.
func (c Config) hostPort(address string) (string, error) {
	return neterr.HostPort(address, c.defaultPort(), "redis:6379")
}

func (c Config) defaultPort() string {
	if c.Mode == modeSentinel {
		return "26379"
	}
	return "6379"
}

// keyExpression is nil where the key is the same for all events.
func (c Config) keyExpression() (*expression.Expression, error) {
	switch {
	case c.Key == "" && c.KeyExpression == "":
		return nil, errors.New(`key: "": name the stream, list or channel, such as vod-events`)
	case c.Key != "" && c.KeyExpression != "":
		return nil, errors.New("key_expression: is set beside key: remove one of the two")
	case c.KeyExpression == "":
		if _, err := c.markPrefix(c.Key); err != nil {
			return nil, fmt.Errorf("key: %q: %w", c.Key, err)
		}
		return nil, nil
	}
	compiled, err := expression.Compile(c.KeyExpression)
	if err != nil {
		return nil, fmt.Errorf("key_expression: %w", err)
	}
	return compiled, nil
}
