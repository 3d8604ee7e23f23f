package callback

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for _, c := range []struct {
		change func(*Config)
		want   string // "": valid
	}{
		{func(c *Config) { c.Listen = "0.0.0.0:80" }, `listen: "0.0.0.0:80": others can reach this address: set sign_key_file`},
		{func(c *Config) { c.Listen, c.Allow = ":80", []string{"10.0.0.1"} }, `listen: ":80": others can reach this address: set sign_key_file`},
		{func(c *Config) { c.Listen, c.SignKey = "0.0.0.0:80", testKey }, ""},
		{func(c *Config) { c.Listen, c.Insecure = "0.0.0.0:80", true }, ""},
		{func(c *Config) { c.ProbePath = "" }, ""},
		{func(c *Config) { c.ProbePath = "/" }, `probe_path: "/": is callback.path too`},
		{func(c *Config) { c.ProbePath = "healthz" }, `probe_path: "healthz": write the path alone, such as /healthz`},
		{func(c *Config) { c.Listen = "8085" }, `listen: "8085": write host:port`},
		{func(c *Config) { c.Listen = "x:http" }, `listen: "x:http": "http" is not a port`},
		{func(c *Config) { c.Path = "vod" }, `path: "vod": write the path alone, such as /vod`},
		{func(c *Config) { c.Path = "/vod?x=1" }, `path: "/vod?x=1":`},
		{func(c *Config) { c.TLS.CertFile = "a" }, `tls.key_file: "": name the key of tls.cert_file`},
		{func(c *Config) { c.TLS.KeyFile = "a" }, `tls.cert_file: "":`},
		{func(c *Config) { c.TLS = TLSConfig{dir + "/none", dir + "/none"} }, "tls.cert_file: \"" + dir + "/none\": no such file"},
		{func(c *Config) { c.TLS = TLSConfig{file("c", "x"), file("k", "x")} }, "is no PEM certificate that belongs to tls.key_file"},
		{func(c *Config) { c.SignKey = testKey }, ""},
		{func(c *Config) { c.SignKey = testKey + "3" }, "sign_key: (hidden): must be 1 to 32 letters and digits"},
		{func(c *Config) { c.SignKey = "s3cret!" }, "sign_key: (hidden): must be"},
		{func(c *Config) { c.SignKey, c.SignKeyFile = "a", "b" }, "sign_key_file: is set beside sign_key: remove one of the two"},
		{func(c *Config) { c.SignKeyFile = file("key", testKey+"\n") }, ""},
		{func(c *Config) { c.SignKeyFile = file("empty", "\n") }, `empty": must be 1 to 32`},
		{func(c *Config) { c.SignKeyFile = dir }, "is not a regular file"},
		{func(c *Config) { c.SignKeyFile = dir + "/none" }, "no such file or directory; let the user that runs vodrelay read it"},
		{func(c *Config) { c.SignKey, c.PreviousSignKeyFile = "a", dir+"/none" }, ""},
		{func(c *Config) { c.PreviousSignKey = "a" }, "previous_sign_key: is set without sign_key"},
		{func(c *Config) { c.Allow = []string{"203.0.113.7", "2001:db8::/32"} }, ""},
		{func(c *Config) { c.Allow = []string{"tencent"} }, `allow: "tencent": is neither an address nor a network`},
		{func(c *Config) { c.TrustedProxies = []string{"10.1.0.0/8"} }, `trusted_proxies: "10.1.0.0/8": has bits behind its mask, write 10.0.0.0/8`},
		{func(c *Config) { c.AnswerWithin = 5 * time.Second }, "answer_within: 5s: must be from 100ms to 4.5s, since VOD gives up after 5s"},
		{func(c *Config) { c.Unsettled = "500" }, `unsettled: "500": must be 503 or silence`},
		{func(c *Config) { c.MaxBody = 100 }, "max_body: 100: must be from 1024 to 16777216"},
		{func(c *Config) { c.MaxConcurrent = 0 }, "max_concurrent: 0: must be from 1 to 65536"},
		{func(c *Config) { c.MaxConnections = 1 << 20 }, "max_connections: 1048576: must be"},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		err := cfg.Validate()
		if c.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), "s3cret")
		for line := range strings.SplitSeq(err.Error(), "\n") {
			require.Contains(t, line, ": ")
		}
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SignKey, cfg.PreviousSignKey = "topsecret", "elder"
	text, err := json.Marshal(cfg)
	require.NoError(t, err)
	for _, shown := range []string{string(text), cfg.String(), fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg, cfg)} {
		require.NotContains(t, shown, "topsecret")
		require.NotContains(t, shown, "elder")
		require.Contains(t, shown, "***")
	}
}

func TestWarnings(t *testing.T) {
	cfg := DefaultConfig()
	require.Len(t, cfg.Warnings(true), 1)
	require.Contains(t, cfg.Warnings(true)[0], "can post events")
	cfg.SignKey = testKey
	require.Empty(t, cfg.Warnings(true))
	require.Contains(t, cfg.Warnings(false)[0], "Configure a store")
	cfg.SignKey = "short15letters1"
	cfg.PreviousSignKeyFile = filepath.Join(t.TempDir(), "previous")
	require.Len(t, cfg.Warnings(true), 1, "the previous key is not there any more")
	require.Contains(t, cfg.Warnings(true)[0], "sign_key has 15 characters: who sees one notification has its Sign and T")
	require.NotContains(t, cfg.Warnings(true)[0], cfg.SignKey)
	require.NoError(t, os.WriteFile(cfg.PreviousSignKeyFile, []byte("abc123\n"), 0o600))
	require.Len(t, cfg.Warnings(true), 2)
	require.Contains(t, cfg.Warnings(true)[1], "previous_sign_key has 6 characters")
}
