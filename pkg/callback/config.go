package callback

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/redact"
)

// Config is where notifications are received, and from whom.
type Config struct {
	Listen    string    `mapstructure:"listen" default:"127.0.0.1:8085" doc:"Address that receives VOD's normal callback. VOD must reach it, through a reverse proxy or directly. On another address than the loopback one it needs sign_key or sign_key_file, or insecure: true."`
	Path      string    `mapstructure:"path" default:"/" doc:"Path of the URL that VOD posts to; every other path but probe_path is refused."`
	ProbePath string    `mapstructure:"probe_path" default:"/healthz" empty:"off" doc:"Path for the probe of a load balancer: GET or HEAD is answered with 200 while notifications are taken, and with 503 when not, as during a stop. It asks for no signature and does not look at X-Forwarded-For; with allow set, the load balancer's own address must be in allow or trusted_proxies to connect at all. Empty: none, also in the environment (VODRELAY_CALLBACK_PROBE_PATH=)."`
	SubAppID  uint64    `mapstructure:"sub_app_id" default:"0" doc:"Application that the notifications belong to, since they do not name it. 0: the one in vod.sub_app_ids, or none where that is empty or has several. Targets deduplicate by application and event ID: pushed and pulled copies of an event are one only if both name the same application."`
	TLS       TLSConfig `mapstructure:"tls" doc:"Certificate of an HTTPS receiver, TLS 1.2 or newer. Empty: HTTP, as behind a reverse proxy."`

	SignKey             string `mapstructure:"sign_key" secret:"true" doc:"SignKey of the application, 16 to 32 letters and digits (shorter ones are a warning, since one signature that somebody sees lets them be found by trying): a notification without a valid signature is refused. Empty: whoever reaches the address can post events."`
	SignKeyFile         string `mapstructure:"sign_key_file" doc:"Path of a file with the key, instead of sign_key. Read again when it changes."`
	PreviousSignKey     string `mapstructure:"previous_sign_key" secret:"true" doc:"Key that is accepted beside sign_key while keys are changed: a change takes up to 10 minutes to reach VOD's servers."`
	PreviousSignKeyFile string `mapstructure:"previous_sign_key_file" doc:"Path of a file with the previous key, instead of previous_sign_key. Read again when it changes; when it is gone, so is the key."`

	Insecure bool `mapstructure:"insecure" default:"false" doc:"Listen without a sign key on an address that others can reach, so that all of them can post events."`

	Allow          []string `mapstructure:"allow" doc:"Addresses or networks, such as 203.0.113.0/24, that may post. Anybody else's connection is closed at once, but for trusted_proxies. Empty: all may post. VOD does not document the addresses that it posts from."`
	TrustedProxies []string `mapstructure:"trusted_proxies" doc:"Addresses or networks of reverse proxies whose X-Forwarded-For is believed, and which may have all of max_connections; any other address but the loopback ones, of IPv6 a /64, may have half of them. Empty: the connection's own address counts."`

	AnswerWithin   time.Duration `mapstructure:"answer_within" default:"4s" doc:"Longest time to the answer, from 100ms to 4500ms: VOD gives up after 5s. What is not settled by then is answered as unsettled says; the work goes on, and VOD's next attempt gets its result."`
	Unsettled      string        `mapstructure:"unsettled" enum:"503,silence" default:"503" doc:"Answer to a notification that is neither accepted nor stored. 503: at once, with Retry-After. silence: none, so that VOD's timeout has it try again; its documentation says that it ignores the status of an answer."`
	MaxBody        int64         `mapstructure:"max_body" default:"1048576" doc:"Largest notification in bytes, 1024 to 16777216."`
	MaxConcurrent  int           `mapstructure:"max_concurrent" default:"256" doc:"Most notifications that are being worked on, 1 to 65536. Further ones wait for answer_within."`
	MaxConnections int           `mapstructure:"max_connections" default:"512" doc:"Most open connections, 1 to 65536. A further one takes the place of the one that has been without a request for longest; what is being worked on keeps its place."`
	Legacy         bool          `mapstructure:"legacy" default:"false" doc:"Accept notifications in the v2.0 format of accounts from before 2019 too, and translate them to the v3.0 format, with the original in LegacyNotification."`
}

// TLSConfig is the server's side of TLS.
type TLSConfig struct {
	CertFile string `mapstructure:"cert_file" doc:"Path of a PEM file with the certificate and its chain. Read again when it changes."`
	KeyFile  string `mapstructure:"key_file" doc:"Path of a PEM file with the key of cert_file."`
}

// The values of Config.Unsettled.
const (
	UnsettledStatus  = "503"
	UnsettledSilence = "silence"
)

const (
	// maxSignKey is the longest SignKey. Source: ModifyEventConfig in tencentcloud-sdk-go vod/v20180717.
	maxSignKey = 32
	// longestAnswer leaves VOD's timeout of 5 s some time for the network.
	// Source of the timeout: https://cloud.tencent.com/document/product/266/7829.
	longestAnswer  = 4500 * time.Millisecond
	shortestAnswer = 100 * time.Millisecond
	// goodSignKey is the length from which a key of letters and digits cannot be found by trying: 62^16 are 95 bits.
	goodSignKey = 16
)

// DefaultConfig serves this machine only, unsigned.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8085", Path: "/", ProbePath: "/healthz", AnswerWithin: 4 * time.Second, Unsettled: UnsettledStatus,
		MaxBody: 1 << 20, MaxConcurrent: 256, MaxConnections: 512,
	}
}

// Validate reports every value that makes no sense. It reads the files that are named.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	err := httpserver.CheckListen(c.Listen, 8085)
	if err == nil {
		err = c.closed(c.Listen)
	}
	if err != nil {
		fail("listen: %q: %w", c.Listen, err)
	}
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, "?#") {
		fail("path: %q: write the path alone, such as /vod", c.Path)
	}
	switch {
	case c.ProbePath == "":
	case !strings.HasPrefix(c.ProbePath, "/") || strings.ContainsAny(c.ProbePath, "?#"):
		fail("probe_path: %q: write the path alone, such as /healthz", c.ProbePath)
	case c.ProbePath == c.Path:
		fail("probe_path: %q: is callback.path too: give one of them another path", c.ProbePath)
	}
	errs = append(errs, c.TLS.validate())
	errs = append(errs, validateKey("sign_key", c.SignKey, c.SignKeyFile, false))
	errs = append(errs, validateKey("previous_sign_key", c.PreviousSignKey, c.PreviousSignKeyFile, true))
	if c.PreviousSignKey+c.PreviousSignKeyFile != "" && !c.signed() {
		fail("previous_sign_key: is set without sign_key: set sign_key or sign_key_file")
	}
	for key, networks := range map[string][]string{"allow": c.Allow, "trusted_proxies": c.TrustedProxies} {
		if _, err := httpserver.ParseNetworks(networks); err != nil {
			fail("%s: %w", key, err)
		}
	}
	if c.AnswerWithin < shortestAnswer || c.AnswerWithin > longestAnswer {
		fail("answer_within: %s: must be from %s to %s, since VOD gives up after 5s", c.AnswerWithin, shortestAnswer, longestAnswer)
	}
	if c.Unsettled != "" && c.Unsettled != UnsettledStatus && c.Unsettled != UnsettledSilence {
		fail("unsettled: %q: must be %s or %s", c.Unsettled, UnsettledStatus, UnsettledSilence)
	}
	for _, n := range []struct {
		key             string
		value, min, max int64
	}{
		{"max_body", c.MaxBody, 1 << 10, 16 << 20},
		{"max_concurrent", int64(c.MaxConcurrent), 1, 1 << 16},
		{"max_connections", int64(c.MaxConnections), 1, 1 << 16},
	} {
		if n.value < n.min || n.value > n.max {
			fail("%s: %d: must be from %d to %d", n.key, n.value, n.min, n.max)
		}
	}
	return errors.Join(errs...)
}

// Warnings says what a valid configuration risks. durable tells that events are stored before they are
// answered for, whatever their targets do.
func (c Config) Warnings(durable bool) []string {
	var all []string
	if !c.signed() {
		text := "there is no sign_key: whoever reaches " + c.Listen + " can post events; set sign_key_file and the same key with ModifyEventConfig"
		if len(c.Allow) > 0 {
			text += "; only the networks in allow can"
		}
		all = append(all, text)
	}
	all = append(all, weak("sign_key", c.SignKey, c.SignKeyFile)...)
	all = append(all, weak("previous_sign_key", c.PreviousSignKey, c.PreviousSignKeyFile)...)
	if !durable {
		all = append(all, "there is no store: a notification whose sinks take longer than "+c.AnswerWithin.String()+
			" is not acknowledged, and VOD tries only 3 times, 5s each; after that it is lost. Configure a store")
	}
	return all
}

// closed refuses an address that others can reach when no signature is asked for.
func (c Config) closed(address string) error {
	if c.signed() || c.Insecure {
		return nil
	}
	return httpserver.Closed(address, "set sign_key_file (make a key with: openssl rand -hex 16) and the same key with vodrelay mode push --sign-key-file, set insecure: true if everybody who reaches it may post")
}

func (c Config) signed() bool { return c.SignKey != "" || c.SignKeyFile != "" }

// String shows no secret.
func (c Config) String() string {
	text, err := json.Marshal(c)
	if err != nil { // it holds texts and numbers only
		return "{}"
	}
	return string(text)
}

// Format is String for every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON shows no secret.
func (c Config) MarshalJSON() ([]byte, error) {
	c.SignKey, c.PreviousSignKey = redact.Secret(c.SignKey), redact.Secret(c.PreviousSignKey)
	type plain Config // without this method
	return json.Marshal(plain(c))
}
