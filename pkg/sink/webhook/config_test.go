package webhook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	empty, bad, lines := write("empty", " \n"), write("bad", "whsec_%%"), write("lines", "a\nb")
	for want, change := range map[string]func(*Config){
		"": func(*Config) {},
		`url: "": name the endpoint, such as https://example.com/vod`:                     func(c *Config) { c.URL = "" },
		`url: "example.com": needs a scheme, write https://example.com`:                   func(c *Config) { c.URL = "example.com" },
		`url: "example.com:8080/***": needs a scheme, write https://example.com:8080/***`: func(c *Config) { c.URL = "example.com:8080/x" },
		`url: "ftp://example.com": must start with https:// or http://`:                   func(c *Config) { c.URL = "ftp://example.com" },
		`url: "http:///***": has no host, write https://example.com/vod`:                  func(c *Config) { c.URL = "http:///x" },
		`url: "https://***": cannot be parsed: leave out quotes and blanks, and percent-encode special characters`: func(c *Config) {
			c.URL = "https://u:s3cret@h:x/?s3cret"
		},
		`method: "GET": use POST, PUT or PATCH`:                                          func(c *Config) { c.Method = "GET" },
		`format: "xml" is not a format: use callback, cloudevents or cloudevents-binary`: func(c *Config) { c.Format = "xml" },
		`headers: "a b": is not the name of a header`:                                    func(c *Config) { c.Headers = map[string]string{"a b": "s3cret"} },
		`headers: "content-length": is set by vodrelay, remove it`:                       func(c *Config) { c.Headers = map[string]string{"content-length": "5"} },
		`headers: "webhook-id": is set by vodrelay, remove it`:                           func(c *Config) { c.Headers = map[string]string{"webhook-id": "5"} },
		`headers: "A": its value (hidden) must be one line without control characters`:   func(c *Config) { c.Headers = map[string]string{"A": "s3cret\r\nB: c"} },
		`headers: "a": is set twice, remove one`:                                         func(c *Config) { c.Headers = map[string]string{"A": "1", "a": "2"} },
		`headers: "authorization": url has a user already, remove one of the two`: func(c *Config) {
			c.URL = "https://u:s3cret@example.com"
			c.Headers = map[string]string{"authorization": "s3cret"}
		},
		`headers_file: "` + dir + `/no": no such file or directory; let the user that runs vodrelay read it`: func(c *Config) {
			c.HeadersFile = map[string]string{"A": dir + "/no"}
		},
		`headers_file: "` + lines + `": the value must be one line without control characters; let the user that runs vodrelay read it`: func(c *Config) {
			c.HeadersFile = map[string]string{"A": lines}
		},
		`secret: (hidden): is not base64 behind whsec_; make one with: echo whsec_$(openssl rand -base64 32)`: func(c *Config) { c.Secret = "whsec_s3cret!" },
		`secret: (hidden): has 9 secrets, 8 at most`:                                                          func(c *Config) { c.Secret = strings.Repeat("s3cret ", 9) },
		`secret_file: is set beside secret: remove one of the two`:                                            func(c *Config) { c.Secret, c.SecretFile = "s3cret", write("s", "s3cret") },
		`secret_file: "` + empty + `": is empty; let the user that runs vodrelay read it`:                     func(c *Config) { c.SecretFile = empty },
		`secret_file: "` + bad + `": is not base64 behind whsec_; make one with: echo whsec_$(openssl rand -base64 32); let the user that runs vodrelay read it`: func(c *Config) {
			c.SecretFile = bad
		},
		`tls.ca_file: "` + bad + `": has no certificate in PEM form; let the user that runs vodrelay read it`: func(c *Config) { c.TLS.CAFile = bad },
		`tls.key_file: "": name the key of tls.cert_file`:                                                     func(c *Config) { c.TLS.CertFile = bad },
		`tls.cert_file: "": name the certificate of tls.key_file`:                                             func(c *Config) { c.TLS.KeyFile = bad },
		`proxy: "***@host": write http://host:port, https://host:port, socks5://host:port or none`:            func(c *Config) { c.Proxy = "u:s3cret@host" },
	} {
		cfg := DefaultConfig()
		cfg.URL = "https://example.com/vod"
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

func TestValidateReportsAll(t *testing.T) {
	err := Config{URL: "x", Method: "GET", Format: "y", Proxy: "z", Secret: "whsec_", Headers: map[string]string{"": "", "te": ""}}.Validate()
	require.Len(t, strings.Split(err.Error(), "\n"), 7)
}

func FuzzURL(f *testing.F) {
	for _, seed := range []string{"https://u:s3cret@h/", "u:s3cret@h", "http://u:s3cret@[", "http://h/?s3cret", "http://u:s3cret@h/a@b", "http://h/#s3cret"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := parseURL(text)
		require.True(t, (target == nil) != (err == nil))
		if err != nil {
			require.NotContains(t, err.Error(), "s3cret@")
		}
	})
}
