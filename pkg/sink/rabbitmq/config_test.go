//go:build unix

package rabbitmq

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret"), 0o600))
	_, cert, key := certificate(t, dir)
	for want, changes := range map[string][]func(*Config){
		"": {
			func(*Config) {},
			func(c *Config) { c.Addresses = []string{"[::1]:5672", "::1", "a"} },
			func(c *Config) { c.Exchange, c.RoutingKey = "vod", "" },
			func(c *Config) {
				c.RoutingKey, c.ExchangeExpression, c.RoutingKeyExpression = "", "type", `"vod." + type`
			},
			func(c *Config) { c.Password, c.PasswordFile = "", secret },
			func(c *Config) {
				c.Format, c.Headers = event.FormatCloudEventsBinary, map[string]string{"team": "video"}
			},
			func(c *Config) {
				c.UseTLS, c.TLS.CertFile, c.TLS.KeyFile = true, cert, key
				c.Mechanism, c.Username, c.Password = external, "", ""
			},
		},
		"addresses: []: name at least one, such as [rabbitmq:5672]":                                              {func(c *Config) { c.Addresses = nil }},
		`addresses: "amqp://a": takes no scheme: write host:port, and say with use_tls whether to use TLS`:       {func(c *Config) { c.Addresses = []string{"amqp://a"} }},
		`addresses: "a,b": write host:port, such as rabbitmq:5672, one in each entry`:                            {func(c *Config) { c.Addresses = []string{"a,b"} }},
		`vhost: "": must have 1 to 255 bytes, such as /`:                                                         {func(c *Config) { c.VHost = "" }},
		`username: "": name the user`:                                                                            {func(c *Config) { c.Username = "" }},
		"password_file: is set beside password: remove one of the two":                                           {func(c *Config) { c.PasswordFile = secret }},
		`password_file: "": name the file with the user's password`:                                              {func(c *Config) { c.Password = "" }},
		`password_file: "` + dir + `/no": no such file or directory; let the user that runs vodrelay read it`:    {func(c *Config) { c.Password, c.PasswordFile = "", dir+"/no" }},
		`mechanism: "AMQPLAIN": use PLAIN or EXTERNAL`:                                                           {func(c *Config) { c.Mechanism = "AMQPLAIN" }},
		"mechanism: EXTERNAL: takes no username and password: remove them":                                       {func(c *Config) { c.Mechanism, c.UseTLS, c.TLS.CertFile, c.TLS.KeyFile = external, true, cert, key }},
		"mechanism: EXTERNAL: logs in with a certificate: set use_tls, tls.cert_file and tls.key_file":           {func(c *Config) { c.Mechanism, c.Username, c.Password = external, "", "" }},
		"use_tls: false: does not use the section tls that is given: set it to true, or remove the section":      {func(c *Config) { c.TLS.CAFile = cert }},
		`tls.ca_file: "` + secret + `": has no certificate in PEM form; let the user that runs vodrelay read it`: {func(c *Config) { c.UseTLS, c.TLS.CAFile = true, secret }},
		`exchange: "": name the exchange, or the queue in routing_key, such as vod-events`:                       {func(c *Config) { c.RoutingKey = "" }},
		"exchange_expression: is set beside exchange: remove one of the two":                                     {func(c *Config) { c.Exchange, c.ExchangeExpression = "a", "type" }},
		"routing_key_expression: is set beside routing_key: remove one of the two":                               {func(c *Config) { c.RoutingKeyExpression = "type" }},
		`exchange: "` + strings.Repeat("x", 256) + `": must have 255 bytes at most`:                              {func(c *Config) { c.Exchange = strings.Repeat("x", 256) }},
		`routing_key: "` + strings.Repeat("x", 256) + `": must have 255 bytes at most`:                           {func(c *Config) { c.RoutingKey = strings.Repeat("x", 256) }},
		`format: "xml" is not a format: use callback, cloudevents or cloudevents-binary`:                         {func(c *Config) { c.Format = "xml" }},
		`headers: "cloudEvents_id": is set by vodrelay, remove it`:                                               {func(c *Config) { c.Headers = map[string]string{"cloudEvents_id": "1"} }},
		`headers: "": a name has 1 to 255 bytes`:                                                                 {func(c *Config) { c.Headers = map[string]string{"": "1"} }},
		`headers: "BCC": would send the event to further queues: bind them to an exchange instead`:               {func(c *Config) { c.Headers = map[string]string{"BCC": "1"} }},
		"heartbeat: 0s: must be from 1s to 10m":                                                                  {func(c *Config) { c.Heartbeat = 0 }},
		"connect_timeout: 0s: must be more than 0, such as 10s":                                                  {func(c *Config) { c.ConnectTimeout = 0 }},
	} {
		for _, change := range changes {
			cfg := DefaultConfig()
			cfg.Addresses, cfg.Username, cfg.Password, cfg.RoutingKey = []string{"rabbitmq"}, "vod", "s3cret", "vod-events"
			change(&cfg)
			err := cfg.Validate()
			if want == "" {
				require.NoError(t, err)
				continue
			}
			require.EqualError(t, err, want)
			require.NotContains(t, err.Error(), "s3cret")
		}
	}
	cfg := DefaultConfig()
	cfg.ExchangeExpression, cfg.RoutingKeyExpression = "typ", "payload."
	require.ErrorContains(t, cfg.Validate(), "exchange_expression: expression 'typ'")
	require.ErrorContains(t, cfg.Validate(), "routing_key_expression: expression 'payload.'")
	_, err := New(cfg, nil)
	require.Error(t, err)
}

func TestDefaultPort(t *testing.T) {
	for useTLS, want := range map[bool]string{false: "a:5672", true: "a:5671"} {
		got, err := Config{UseTLS: useTLS}.hostPort("a")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestShorten(t *testing.T) {
	for _, text := range []string{"", "NewFileUpload", strings.Repeat("x", 400), strings.Repeat("视频", 100), "x" + strings.Repeat("视频", 100), "a\xff", strings.Repeat("a\xff", 300)} {
		got := shorten(text)
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), maxShort)
		if len(text) <= maxShort && utf8.ValidString(text) {
			require.Equal(t, text, got)
		}
		if len(text) > maxShort {
			require.Greater(t, len(got), maxShort-4)
		}
	}
}

// TestNotRabbitMQ has an address where nobody answers, in time.
func TestNotRabbitMQ(t *testing.T) {
	silent := listen(t)
	s := open(t, silent, "q", func(c *Config) { c.ConnectTimeout = 100 * time.Millisecond })
	requireRefused(t, s, sinktest.Upload(0), "no connection in time", "use_tls")
	require.EqualError(t, s.Check(t.Context()), silent+": no connection in time")
}
