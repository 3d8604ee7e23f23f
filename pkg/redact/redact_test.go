package redact

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "",
		"https://example.com":                 "https://example.com",
		"https://example.com/":                "https://example.com/",
		"https://example.com/a":               "https://example.com/***",
		"https://example.com?key=a":           "https://example.com/***",
		"https://example.com#a":               "https://example.com/***",
		"https://u@example.com":               "https://***@example.com",
		"https://u:p@example.com/x?y=z#f":     "https://***@example.com/***",
		"https://u:p%40@example.com/?q":       "https://***@example.com/***",
		"https://u:p@q@example.com/":          "https://***@example.com/",
		"https://u:p/ss@example.com/":         "https://***",
		"https://u:p%zz@example.com/":         "https://***@example.com/",
		"https://u:p ss@example.com":          "https://***@example.com",
		"https://user:pass":                   "https://***",
		"https://example.com/@user":           "https://***",
		"socks5://u:p@h:1080":                 "socks5://***@h:1080",
		"https://[2001:db8::1%25eth0]:8443/a": "https://***",
		"https://[2001:db8::1]:8443/a":        "https://[2001:db8::1]:8443/***",
		"nats://token@h:4222":                 "nats://***@h:4222",
		"nats://u:p@a:1,nats://u:p@b:1":       "nats://***",
		"amqps://u:p@h:5671/%2Fvhost":         "amqps://***@h:5671/***",
		"rediss://:p@h:6379/0":                "rediss://***@h:6379/***",
		"postgres://u:p@a:5432,b:5432/db?x=y": "postgres://***@a:5432,b:5432/***",
		"postgres:///db?host=h&password=p":    "postgres:///***",
		"host=h port=5 password=p dbname=d":   "host=h port=5 password=*** dbname=d",
		"password='it''s p' host=h user=u":    "password=*** host=h user=***",
		"password=p q host=h":                 "password=*** host=h",
		"u:p@h:9092":                          "***@h:9092",
		"u:p@":                                "***@",
		"h:9092":                              "h:9092",
		"h.example.com/robot/send?token=a":    "h.example.com/***",
		"u:p":                                 "***",
		"a b":                                 "***",
		"/run/redis.sock":                     "/run/redis.sock",
		"//u:p@h":                             "***",
		"https://h/***":                       "https://h/***",
	} {
		require.Equal(t, want, Address(in), in)
		require.Equal(t, want, Address(want), "again: %s", want)
	}
	require.Equal(t, "a:1,***@b:2", Addresses([]string{"a:1", "u:p@b:2"}))
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		`Post "https://h/robot?key=a": dial tcp: lookup h: no such host`: `Post "https://h/***": dial tcp: lookup h: no such host`,
		`parse "https://u:p ss@h/x": net/url: invalid userinfo`:          `parse "https://***@h/***": net/url: invalid userinfo`,
		"dial https://h/x, then nats://u:p@h.":                           "dial https://h/***, then nats://***@h.",
		"dial tcp: address u:p@h:9092: too many colons in address":       "dial tcp: address ***@h:9092: too many colons in address",
		"failed to connect to `host=h user=u password=p`: refused":       "failed to connect to `host=h user=u password=***`: refused",
		`GET /x?access_token=abc&page=2`:                                 `GET /x?access_token=***&page=2`,
		"Authorization: Bearer abc":                                      "Authorization: ***",
		"it wrote to jane@example.com at 12:30":                          "it wrote to jane@example.com at 12:30",
		`payload.token == "x"`:                                           `payload.token == "x"`,
		"dial tcp [::1]:9092: connect: connection refused":               "dial tcp [::1]:9092: connect: connection refused",
		"see http://127.0.0.1:9464/ (the page)":                          "see http://127.0.0.1:9464/ (the page)",
	} {
		require.Equal(t, want, Text(in), in)
		require.Equal(t, want, Text(want), "again: %s", want)
	}
}

func TestQuoted(t *testing.T) {
	for in, want := range map[string]string{
		`"https://h/a": must be b, write https://host/path`: `"https://h/***": must be b, write https://host/path`,
		`"u:p@h": write host:port, such as kafka-1:9092`:    `"***@h": write host:port, such as kafka-1:9092`,
		`type: "a\"b": is none`:                             `type: "a\"b": is none`,
		`"u:\"p\"@h": x`:                                    `"***@h": x`,
	} {
		require.Equal(t, want, Quoted(in), in)
	}
}

// FuzzAddress: what was shown is shown again as it is, and nothing before an @, or behind a host, is in it.
func FuzzAddress(f *testing.F) {
	f.Add("https", ":", "h/x?y#z", "")
	f.Add("", "", "", "/")
	f.Add("a://b", `"`, "c", "?")
	f.Fuzz(func(t *testing.T, scheme, password, host, path string) {
		const secret = "QZsecretZQ"
		for _, s := range []string{scheme + "://" + secret + password + "@" + host, scheme + "://" + host + "/" + path + secret, scheme + secret + password + ":@" + host} {
			shown := Address(s)
			if again := Address(shown); again != shown && !strings.Contains(s, "=") {
				t.Errorf("%q is shown as %q and then as %q", s, shown, again)
			}
			if strings.Contains(shown, secret) && !strings.Contains(s, "=") && !strings.HasPrefix(s, "/") {
				t.Errorf("%q is shown as %q", s, shown)
			}
			Text(s)
			Quoted(s)
		}
	})
}
