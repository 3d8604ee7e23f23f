package vod

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/redact"
)

// Config is where the queue is and how it is asked.
type Config struct {
	Endpoint      string            `mapstructure:"endpoint" default:"https://vod.tencentcloudapi.com" doc:"Address of the VOD API: https://vod.tencentcloudapi.com, https://vod.intl.tencentcloudapi.com, or an emulator such as http://127.0.0.1:9090. Scheme, host and port only; no scheme means https."`
	SubAppIDs     []uint64          `mapstructure:"sub_app_ids" doc:"Applications whose queues are relayed, by their SubAppId. Empty: no SubAppId is sent, which VOD refuses to customers who joined on 2023-12-25 or later."`
	Credentials   CredentialsConfig `mapstructure:"credentials" doc:"Where the API key comes from."`
	RateLimit     float64           `mapstructure:"rate_limit" default:"100" doc:"Most requests per second to each API, all applications together. VOD's default quota is 100."`
	Proxy         string            `mapstructure:"proxy" secret:"true" doc:"Proxy for the API, such as http://proxy:3128 or socks5://proxy:1080. Empty: HTTPS_PROXY and NO_PROXY decide."`
	ProxyFile     string            `mapstructure:"proxy_file" doc:"File that holds proxy, for an address with a password. Read at start."`
	PullTimeout   time.Duration     `mapstructure:"pull_timeout" default:"10s" doc:"Longest wait for the answer of PullEvents to begin, from 6s to 60s; VOD holds it for up to 5s."`
	CallTimeout   time.Duration     `mapstructure:"call_timeout" default:"5s" doc:"Longest wait for the answer of any other API to begin, from 1s to 60s."`
	ReadTimeout   time.Duration     `mapstructure:"read_timeout" default:"5s" doc:"Longest time to read an answer that has begun, from 1s to 20s; it is taken from the 30s in which the events can be confirmed."`
	MaxReplyBytes int64             `mapstructure:"max_reply_bytes" default:"67108864" doc:"Largest answer of PullEvents that is read, in bytes, from 1048576 to 1073741824; two of them are in memory at a time. VOD itself stops at 50 MB; with a smaller limit a large batch could stay in the queue. Any other answer has 1 MiB at most."`
}

// DefaultEndpoint is VOD's API for accounts of the mainland site.
const DefaultEndpoint = "https://vod.tencentcloudapi.com"

// DefaultConfig asks the mainland API with credentials found by the provider "auto".
//
// Sources of the numbers: https://cloud.tencent.com/document/api/266/33433 (100 requests per second, 5 s
// hold, 10 s suggested limit) and https://cloud.tencent.com/document/api/628/45176 (answers up to 50 MB).
func DefaultConfig() Config {
	return Config{
		Endpoint:      DefaultEndpoint,
		Credentials:   DefaultCredentialsConfig(),
		RateLimit:     100,
		PullTimeout:   10 * time.Second,
		CallTimeout:   5 * time.Second,
		ReadTimeout:   5 * time.Second,
		MaxReplyBytes: 64 << 20,
	}
}

// Validate reports every value that makes no sense.
func (c Config) Validate() error {
	var errs []error
	if _, err := parseEndpoint(c.Endpoint, DefaultEndpoint); err != nil {
		errs = append(errs, fmt.Errorf("endpoint: %w", err))
	}
	for i, id := range c.SubAppIDs {
		if id == 0 {
			errs = append(errs, fmt.Errorf("sub_app_ids: 0: is no application; leave the list empty to send no SubAppId"))
		} else if slices.Contains(c.SubAppIDs[:i], id) {
			errs = append(errs, fmt.Errorf("sub_app_ids: %d: is there twice, name each application once", id))
		}
	}
	if !(c.RateLimit > 0 && c.RateLimit <= 10000) { // also refuses NaN
		errs = append(errs, fmt.Errorf("rate_limit: %v: must be more than 0 and at most 10000 requests per second, such as 100", c.RateLimit))
	}
	switch {
	case c.Proxy != "" && c.ProxyFile != "":
		errs = append(errs, errors.New("proxy_file: is set together with proxy, keep one of them"))
	case c.Proxy != "":
		if _, err := parseProxy(c.Proxy); err != nil {
			errs = append(errs, fmt.Errorf("proxy: %w", err))
		}
	}
	within := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			errs = append(errs, fmt.Errorf("%s: %s: must be from %s to %s", key, d, low, high))
		}
	}
	within("pull_timeout", c.PullTimeout, 6*time.Second, time.Minute)
	within("call_timeout", c.CallTimeout, time.Second, time.Minute)
	within("read_timeout", c.ReadTimeout, time.Second, 20*time.Second)
	if c.MaxReplyBytes < 1<<20 || c.MaxReplyBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("max_reply_bytes: %d: must be from %d to %d", c.MaxReplyBytes, 1<<20, 1<<30))
	}
	for _, err := range lines(c.Credentials.Validate()) {
		errs = append(errs, fmt.Errorf("credentials.%w", err))
	}
	return errors.Join(errs...)
}

// String shows no secret.
func (c Config) String() string {
	c.Proxy = mask(c.Proxy)
	type plain Config // without this method
	return fmt.Sprintf("%+v", plain(c))
}

// Format is String for every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON shows no secret.
func (c Config) MarshalJSON() ([]byte, error) {
	c.Proxy = mask(c.Proxy)
	type plain Config // without this method
	return json.Marshal(plain(c))
}

// lines takes an error of errors.Join apart.
func lines(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// endpoint is an address in the parts that the SDK wants: it cuts a string with a scheme in the wrong place.
type endpoint struct {
	scheme string // "http" or "https"
	host   string // host or host:port
}

func (e endpoint) loopback() bool {
	name := e.host
	if host, _, err := net.SplitHostPort(e.host); err == nil {
		name = host
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// parseEndpoint reads scheme://host:port, or a bare host, which gets https.
func parseEndpoint(s, example string) (endpoint, error) {
	fail := func(remedy string) (endpoint, error) {
		return endpoint{}, fmt.Errorf("%q: %s, write for example %s", redact.Address(s), remedy, example)
	}
	text := s
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fail("is not an address")
	case u.User != nil:
		return endpoint{}, fmt.Errorf("has a user name in it, write the bare address, for example %s", example)
	case u.Scheme != "http" && u.Scheme != "https":
		return fail("must begin with https:// or http://")
	case u.Hostname() == "" || strings.ContainsAny(u.Host, " \t"):
		return fail("names no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return fail("has more than scheme, host and port")
	}
	return endpoint{scheme: u.Scheme, host: u.Host}, nil
}

// parseProxy never repeats s in an error: a proxy's address may hold a password.
func parseProxy(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return nil, errors.New("is not an address, write for example http://proxy:3128")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	}
	return nil, fmt.Errorf("cannot use scheme %q, write http, https, socks5 or socks5h", u.Scheme)
}
