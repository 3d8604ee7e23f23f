package kafka

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret"), 0o600))
	login := func(c *Config) {
		c.SecurityProtocol = "SASL_SSL"
		c.SASL = SASLConfig{Mechanism: "PLAIN", Username: "ckafka-1a2b3c4d#vod", PasswordFile: secret}
	}
	for want, change := range map[string]func(*Config){
		"": login,
		"brokers: []: name at least one, such as [kafka-1:9092]":                                                                                               func(c *Config) { c.Brokers = nil },
		`brokers: "kafka://a:9092": takes no scheme: write host:port, and say with security_protocol whether to use TLS`:                                       func(c *Config) { c.Brokers = []string{"kafka://a:9092"} },
		`brokers: "a:9092,b:9092": write host:port, such as kafka-1:9092, one in each entry`:                                                                   func(c *Config) { c.Brokers = []string{"a:9092,b:9092"} },
		`brokers: "***": write host:port, such as kafka-1:9092, one in each entry`:                                                                             func(c *Config) { c.Brokers = []string{"a:b"} },
		`brokers: "": write host:port, such as kafka-1:9092, one in each entry`:                                                                                func(c *Config) { c.Brokers = []string{"[::1]:9092", "a", "::1", ""} },
		`topic: "": name the topic, such as vod-events`:                                                                                                        func(c *Config) { c.Topic = "" },
		`topic: "a b": is not a topic: it has 1 to 249 letters, digits, dots, dashes and underscores`:                                                          func(c *Config) { c.Topic = "a b" },
		"topic_expression: is set beside topic: remove one of the two":                                                                                         func(c *Config) { c.TopicExpression = "type" },
		`format: "xml" is not a format: use callback, cloudevents or cloudevents-binary`:                                                                       func(c *Config) { c.Format = "xml" },
		`headers: "ce_id": is set by vodrelay, remove it`:                                                                                                      func(c *Config) { c.Headers = map[string]string{"ce_id": "1"} },
		`compression: "zip": use none, gzip, snappy, lz4 or zstd`:                                                                                              func(c *Config) { c.Compression = "zip" },
		"max_message_bytes: 10: must be from 1000 to 100000000":                                                                                                func(c *Config) { c.MaxMessageBytes = 10 },
		"linger: -1ns: must be from 0 to 1s":                                                                                                                   func(c *Config) { c.Linger = -1 },
		"connect_timeout: 0s: must be more than 0, such as 5s":                                                                                                 func(c *Config) { c.ConnectTimeout = 0 },
		"request_timeout: 0s: must be at least 1s":                                                                                                             func(c *Config) { c.RequestTimeout = 0 },
		"delivery_timeout: 0s: must be at least 1s":                                                                                                            func(c *Config) { c.DeliveryTimeout = 0 },
		`security_protocol: "TLS": use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL`:                                                                             func(c *Config) { c.SecurityProtocol = "TLS" },
		`security_protocol: "PLAINTEXT": does not use the section tls that is given: write SSL or SASL_SSL, or remove it`:                                      func(c *Config) { c.TLS.CAFile = secret },
		`security_protocol: "SSL": does not use the section sasl that is given: write SASL_PLAINTEXT or SASL_SSL, or remove it`:                                func(c *Config) { login(c); c.SecurityProtocol = "SSL" },
		`tls.ca_file: "` + secret + `": has no certificate in PEM form; let the user that runs vodrelay read it`:                                               func(c *Config) { c.SecurityProtocol = "SSL"; c.TLS.CAFile = secret },
		`sasl.mechanism: "GSSAPI": use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER`:                                                                     func(c *Config) { login(c); c.SASL.Mechanism = "GSSAPI" },
		`sasl.username: "": name the user`:                                                                                                                     func(c *Config) { login(c); c.SASL.Username = "" },
		`sasl.password_file: "": name the file with the user's password`:                                                                                       func(c *Config) { login(c); c.SASL.PasswordFile = "" },
		"sasl.password_file: is set beside sasl.password: remove one of the two":                                                                               func(c *Config) { login(c); c.SASL.Password = "s3cret" },
		`sasl.password_file: "` + dir + `/no": no such file or directory; let the user that runs vodrelay read it`:                                             func(c *Config) { login(c); c.SASL.PasswordFile = dir + "/no" },
		`sasl.token_file: "` + secret + `": is for OAUTHBEARER only: remove it`:                                                                                func(c *Config) { login(c); c.SASL.TokenFile = secret },
		`sasl.token_file: "": name the file with the token of OAUTHBEARER` + "\n" + "sasl.mechanism: OAUTHBEARER: takes no username and password: remove them": func(c *Config) { login(c); c.SASL.Mechanism = "OAUTHBEARER" },
	} {
		cfg := DefaultConfig()
		cfg.Brokers, cfg.Topic = []string{"kafka-1:9092", "kafka-2"}, "vod-events"
		change(&cfg)
		err := cfg.Validate()
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, want)
		require.NotContains(t, err.Error(), "s3cret")
	}
	cfg := DefaultConfig()
	cfg.Brokers, cfg.TopicExpression, cfg.Key = []string{"a"}, "typ", "payload."
	require.ErrorContains(t, cfg.Validate(), "topic_expression: expression 'typ'")
	require.ErrorContains(t, cfg.Validate(), "key: expression 'payload.'")
	_, err := New(cfg, nil)
	require.Error(t, err)
}
