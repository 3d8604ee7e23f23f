//go:build unix

package redis

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret"), 0o600))
	sentinel := func(c *Config) {
		c.Mode, c.MasterName, c.Addresses = modeSentinel, "mymaster", []string{"a", "b:26379"}
	}
	for want, changes := range map[string][]func(*Config){
		"": {
			func(*Config) {},
			func(c *Config) { c.Addresses = []string{"[::1]:6379"} },
			func(c *Config) { c.Addresses = []string{"::1"} },
			func(c *Config) { c.Addresses = []string{"/run/redis.sock"} },
			func(c *Config) { c.Mode, c.Addresses = modeCluster, []string{"a", "b:1"} },
			func(c *Config) { sentinel(c); c.SentinelPasswordFile = secret },
			func(c *Config) { c.Username, c.PasswordFile = "vod", secret },
			func(c *Config) { c.Key, c.KeyExpression = "", `"vod:" + type` },
			func(c *Config) { c.Command, c.Format = commandLPush, event.FormatCloudEvents },
			func(c *Config) { c.Format, c.MaxLength = event.FormatCloudEventsBinary, 1000 },
			func(c *Config) { c.DedupWindow, c.Replicas = 24*time.Hour, 1 },
			func(c *Config) { c.Key = "a}b"; c.DedupWindow = time.Hour },
		},
		`mode: "ring": use single, cluster or sentinel`:                                                      {func(c *Config) { c.Mode = "ring" }},
		"addresses: []: name at least one, such as [redis:6379]":                                             {func(c *Config) { c.Addresses = nil }},
		"addresses: 2 of them: mode single takes one; set mode to cluster or sentinel, or remove the others": {func(c *Config) { c.Addresses = []string{"a", "b"} }},
		`addresses: "redis://a": takes no scheme: write host:port, and say with use_tls whether to use TLS`:  {func(c *Config) { c.Addresses = []string{"redis://a"} }},
		`addresses: "a,b": write host:port, such as redis:6379, one in each entry`:                           {func(c *Config) { c.Addresses = []string{"a,b"} }},
		`addresses: "/run/redis.sock": write host:port, such as redis:6379, one in each entry`:               {func(c *Config) { c.Mode, c.Addresses = modeCluster, []string{"/run/redis.sock"} }},
		`master_name: "": name the master that the sentinels watch, such as mymaster`:                        {func(c *Config) { sentinel(c); c.MasterName = "" }},
		`master_name: "m": is for mode sentinel only: set mode, or remove it`:                                {func(c *Config) { c.MasterName = "m" }},
		"db: -1: must be 0 or more":                                                                                  {func(c *Config) { c.DB = -1 }},
		"db: 1: a cluster has only database 0":                                                                       {func(c *Config) { c.Mode, c.DB = modeCluster, 1 }},
		"password_file: is set beside password: remove one of the two":                                               {func(c *Config) { c.Password, c.PasswordFile = "s3cret", secret }},
		`password_file: "": name the file with the password of the user`:                                             {func(c *Config) { c.Username = "vod" }},
		`password_file: "` + dir + `/no": no such file or directory; let the user that runs vodrelay read it`:        {func(c *Config) { c.PasswordFile = dir + "/no" }},
		"sentinel_password_file: is set beside sentinel_password: remove one of the two":                             {func(c *Config) { sentinel(c); c.SentinelPassword, c.SentinelPasswordFile = "s3cret", secret }},
		"sentinel_password_file: is for mode sentinel only, as sentinel_username and sentinel_password: remove them": {func(c *Config) { c.SentinelPassword = "s3cret" }},
		"use_tls: false: does not use the section tls that is given: set it to true, or remove the section":          {func(c *Config) { c.TLS.CAFile = secret }},
		`tls.ca_file: "` + secret + `": has no certificate in PEM form; let the user that runs vodrelay read it`:     {func(c *Config) { c.UseTLS, c.TLS.CAFile = true, secret }},
		`command: "set": use xadd, lpush or publish`:                                                                 {func(c *Config) { c.Command = "set" }},
		`key: "": name the stream, list or channel, such as vod-events`:                                              {func(c *Config) { c.Key = "" }},
		"key_expression: is set beside key: remove one of the two":                                                   {func(c *Config) { c.KeyExpression = "type" }},
		`key: "a}b": a } without a hash tag before it cannot go with dedup_window in a cluster: choose another key`:  {func(c *Config) { c.Mode, c.Key, c.DedupWindow = modeCluster, "a}b", time.Hour }},
		`format: "xml" is not a format: use callback, cloudevents or cloudevents-binary`:                             {func(c *Config) { c.Format = "xml" }},
		`format: "cloudevents-binary": lpush has no fields for the attributes, use cloudevents`:                      {func(c *Config) { c.Command, c.Format = commandLPush, event.FormatCloudEventsBinary }},
		"max_length: -1: must be 0 (all) or more":                                                                    {func(c *Config) { c.MaxLength = -1 }},
		"max_length: 5: is for xadd only: remove it":                                                                 {func(c *Config) { c.Command, c.MaxLength = commandPublish, 5 }},
		"dedup_window: 1ms: must be 0 (no deduplication) or at least 1s, such as 24h":                                {func(c *Config) { c.DedupWindow = time.Millisecond }},
		"replicas: -1: must be 0 or more":                                                                            {func(c *Config) { c.Replicas = -1 }},
		"connect_timeout: 0s: must be more than 0, such as 5s":                                                       {func(c *Config) { c.ConnectTimeout = 0 }},
		"reply_timeout: 0s: must be at least 10ms, such as 5s":                                                       {func(c *Config) { c.ReplyTimeout = 0 }},
	} {
		for _, change := range changes {
			cfg := DefaultConfig()
			cfg.Addresses, cfg.Key = []string{"redis:6379"}, "vod-events"
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
	cfg.Addresses, cfg.KeyExpression = []string{"a"}, "typ"
	require.ErrorContains(t, cfg.Validate(), "key_expression: expression 'typ'")
	_, err := New(cfg, nil)
	require.Error(t, err)
}
