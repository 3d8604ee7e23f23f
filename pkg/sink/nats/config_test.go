package nats

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret"), 0o600))
	create := func(c *Config) { c.Stream, c.CreateStream.Enabled = "VOD", true }
	for want, change := range map[string]func(*Config){
		"": create,
		"servers: []: name at least one, such as [nats://nats-1:4222]":                                           func(c *Config) { c.Servers = nil },
		`servers: "nats-1:4222": needs a scheme, write nats://nats-1:4222`:                                       func(c *Config) { c.Servers = []string{"nats-1:4222"} },
		`servers: "http://a": must start with nats://, tls://, ws:// or wss://`:                                  func(c *Config) { c.Servers = []string{"http://a"} },
		`servers: "nats://a,nats://b": write nats://host:4222, one in each entry`:                                func(c *Config) { c.Servers = []string{"nats://a,nats://b"} },
		`servers: "nats://***@a": must hold no user and password: use username and password_file, or token_file`: func(c *Config) { c.Servers = []string{"nats://u:s3cret@a"} },
		`subject: "": name the subject, such as vod.events`:                                                      func(c *Config) { c.Subject = "" },
		`subject: "vod.>": is not a subject: it is words with dots between, without spaces, * and >`:             func(c *Config) { c.Subject = "vod.>" },
		`subject: "a..b": is not a subject: it is words with dots between, without spaces, * and >`:              func(c *Config) { c.Subject = "a..b" },
		"subject_expression: is set beside subject: remove one of the two":                                       func(c *Config) { c.SubjectExpression = "type" },
		`stream: "a.b": is not the name of a stream: it has no spaces, dots, slashes, * and >`:                   func(c *Config) { c.Stream = "a.b" },
		`stream: "": name the stream that create_stream is to create, such as VOD`:                               func(c *Config) { create(c); c.Stream = "" },
		"create_stream.subjects: []: name those that subject_expression gives, such as [vod.>]":                  func(c *Config) { create(c); c.Subject, c.SubjectExpression = "", "type" },
		`create_stream.subjects: "vod.>.x": is not a subject: it is words with dots between, such as vod.>`:      func(c *Config) { create(c); c.CreateStream.Subjects = []string{"vod.>", "a.*.b", "vod.>.x"} },
		"create_stream.replicas: 0: must be from 1 to 5":                                                         func(c *Config) { create(c); c.CreateStream.Replicas = 0 },
		"create_stream.max_age: -1s: must be 0 (forever) or more":                                                func(c *Config) { create(c); c.CreateStream.MaxAge = -time.Second },
		"create_stream.max_bytes: -1: must be 0 (no limit) or more":                                              func(c *Config) { create(c); c.CreateStream.MaxBytes = -1 },
		"create_stream.duplicate_window: 0s: must be at least 100ms":                                             func(c *Config) { create(c); c.CreateStream.DuplicateWindow = 0 },
		"create_stream.duplicate_window: 10m0s: must not be more than max_age (1m0s)":                            func(c *Config) { create(c); c.CreateStream.MaxAge = time.Minute },
		`format: "xml" is not a format: use callback, cloudevents or cloudevents-binary`:                         func(c *Config) { c.Format = "xml" },
		`headers: "nats-msg-id": is set by vodrelay or NATS, remove it`:                                          func(c *Config) { c.Headers = map[string]string{"nats-msg-id": "1"} },
		`headers: "a b": is not the name of a header`:                                                            func(c *Config) { c.Headers = map[string]string{"a b": "1"} },
		`headers: "a": its value must be one line`:                                                               func(c *Config) { c.Headers = map[string]string{"a": "1\n"} },
		`inbox_prefix: "": is not a subject: it is words with dots between, without spaces, * and >`:             func(c *Config) { c.InboxPrefix = "" },
		"connect_timeout: 0s: must be more than 0, such as 5s":                                                   func(c *Config) { c.ConnectTimeout = 0 },
		"nkey_file, token_file: are set together: keep one of them":                                              func(c *Config) { c.NKeyFile, c.Token = secret, "s3cret" },
		"password_file: is set beside password: remove one of the two":                                           func(c *Config) { c.Username, c.Password, c.PasswordFile = "u", "s3cret", secret },
		"token_file: is set beside token: remove one of the two":                                                 func(c *Config) { c.Token, c.TokenFile = "s3cret", secret },
		`username: "": name the user of the password`:                                                            func(c *Config) { c.Password = "s3cret" },
		`password_file: "": name the file with the user's password`:                                              func(c *Config) { c.Username = "u" },
		`credentials_file: "` + dir + `/no": no such file or directory; let the user that runs vodrelay read it`: func(c *Config) { c.CredentialsFile = dir + "/no" },
		`tls.ca_file: "` + secret + `": has no certificate in PEM form; let the user that runs vodrelay read it`: func(c *Config) { c.TLS.CAFile = secret },
	} {
		cfg := DefaultConfig()
		cfg.Servers, cfg.Subject = []string{"nats://nats-1:4222", "tls://[::1]:4222", "nats://nats-2"}, "vod.events"
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
	cfg.Servers, cfg.SubjectExpression = []string{"nats://a"}, "typ"
	_, err := New(cfg, nil)
	require.ErrorContains(t, err, "subject_expression: expression 'typ'")
}

func FuzzSubject(f *testing.F) {
	for _, seed := range []string{"vod.events", "a..b", ">", "a.*.b", "x\x00", "类型"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if isSubject(text, false) {
			require.True(t, isSubject(text, true), "what can be published to can be subscribed to")
			require.NotContains(t, text, " ")
			require.NotContains(t, text, "\n")
		}
	})
}
