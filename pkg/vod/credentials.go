package vod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap/zapcore"
)

// Credential is an API key as it is used for signing. It prints without its secrets.
type Credential struct {
	SecretID  string
	SecretKey string
	// Token is set for temporary credentials.
	Token string
	// Expires is when a temporary credential ends; zero: it does not end.
	Expires time.Time
	// Recheck is set when the source may be replaced in place, such as a file: a credential in use is
	// fetched again when it is older than this. 0: never.
	Recheck time.Duration
	// Source names for a person where the credential came from.
	Source string

	untidy string // what stood around its parts and was left out
}

// String shows where the credential came from, and nothing of it.
func (c Credential) String() string { return "credential from " + c.Source + " (hidden)" }

// Format is String for every verb: fmt would otherwise show the fields for those that no string has.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON is String.
func (c Credential) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// MarshalLogObject logs the source and the time it ends.
func (c Credential) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("source", c.Source)
	if !c.Expires.IsZero() {
		enc.AddTime("expires", c.Expires)
	}
	return nil
}

// signsAs reports whether c and other make the same signatures.
func (c *Credential) signsAs(other *Credential) bool {
	return c != nil && c.SecretID == other.SecretID && c.SecretKey == other.SecretKey && c.Token == other.Token
}

// usable reports whether c may sign a request now.
func (c *Credential) usable(now time.Time) bool {
	return c != nil && (c.Expires.IsZero() || now.Before(c.Expires))
}

// tidy takes off what copying leaves around a part of a key and refuses what could never sign. Either is a
// mistake that the server would only report as a bad signature.
func (c *Credential) tidy() error {
	var found []string
	for _, part := range []struct {
		name  string
		value *string
	}{{"secret ID", &c.SecretID}, {"secret key", &c.SecretKey}, {"token", &c.Token}} {
		var around []string
		if *part.value, around = bare(*part.value); len(around) > 0 {
			found = append(found, "the "+part.name+" has "+strings.Join(around, ", ")+" around it")
		}
	}
	if len(found) > 0 {
		c.untidy = strings.Join(found, "; ")
	}
	return c.check()
}

const quotes = "\"'`"

// bare is part without what is around it, and what that is, each kind once.
func bare(part string) (_ string, around []string) {
	note := func(kind string) {
		if !slices.Contains(around, kind) {
			around = append(around, kind)
		}
	}
	strip := func(r rune) bool {
		switch {
		case r == '\ufeff':
			note("a byte order mark")
		case r == '\n' || r == '\r':
			note("a line end")
		case unicode.IsSpace(r):
			note("blanks")
		case unicode.Is(unicode.Cf, r):
			note("invisible characters")
		default:
			return false
		}
		return true
	}
	for {
		part = strings.TrimFunc(part, strip)
		if len(part) < 2 || !strings.ContainsRune(quotes, rune(part[0])) || part[len(part)-1] != part[0] {
			return part, around
		}
		note("quotes")
		part = part[1 : len(part)-1]
	}
}

// check refuses what could never sign.
func (c *Credential) check() error {
	for _, part := range []struct {
		name, value string
		required    bool
	}{{"secret ID", c.SecretID, true}, {"secret key", c.SecretKey, true}, {"token", c.Token, false}} {
		if part.value == "" && part.required {
			return fmt.Errorf("the %s is empty", part.name)
		}
		if strings.ContainsFunc(part.value, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(quotes, r) }) {
			return fmt.Errorf("the %s has blanks, line ends, quotes or other characters in it that no key has", part.name)
		}
	}
	return nil
}

// Provider fetches a credential from one kind of source. It must end when ctx does. An error is marked
// with retry.Permanent when only a person can cure it.
type Provider interface {
	Retrieve(ctx context.Context) (Credential, error)
}

// CredentialsConfig says where the API key comes from.
type CredentialsConfig struct {
	Provider      string        `mapstructure:"provider" enum:"auto,static,env,file,profile,tccli,cvm,tke,assume_role" default:"auto" doc:"Where the API key comes from. auto tries static, env, file, profile, tccli, tke and cvm in this order and takes the first that is there."`
	SecretID      string        `mapstructure:"secret_id" doc:"static: the SecretId."`
	SecretKey     string        `mapstructure:"secret_key" secret:"true" doc:"static: the SecretKey. Better kept in secret_key_file or in TENCENTCLOUD_SECRET_KEY."`
	SecretKeyFile string        `mapstructure:"secret_key_file" doc:"static: file that holds the SecretKey; read again when it changes."`
	Token         string        `mapstructure:"token" secret:"true" doc:"static: the token of a temporary key."`
	TokenFile     string        `mapstructure:"token_file" doc:"static: file that holds the token; read again when it changes."`
	File          string        `mapstructure:"file" doc:"file: a JSON or INI file with secret_id, secret_key and token, or a directory with one file for each; read again when it changes. Empty: TENCENTCLOUD_SECRET_ID_FILE and _KEY_FILE, then CREDENTIALS_DIRECTORY of systemd."`
	Profile       string        `mapstructure:"profile" doc:"profile, tccli and INI files: name of the profile. Empty: TCCLI_PROFILE for tccli, otherwise default."`
	CVMRole       string        `mapstructure:"cvm_role" doc:"cvm: name of the role. Empty: the one bound to the instance."`
	MetadataURL   string        `mapstructure:"metadata_url" default:"http://metadata.tencentyun.com" doc:"cvm: address of the metadata service."`
	RoleARN       string        `mapstructure:"role_arn" doc:"assume_role: the role to assume with the base credential, such as qcs::cam::uin/100000000001:roleName/relay. With provider auto it is assumed as well."`
	SessionName   string        `mapstructure:"session_name" default:"vodrelay" doc:"assume_role and tke: name of the session in the audit log."`
	ExternalID    string        `mapstructure:"external_id" doc:"assume_role: external ID that the role asks for."`
	Base          string        `mapstructure:"base" enum:"auto,static,env,file,profile,tccli,cvm,tke" default:"auto" doc:"assume_role: provider of the credential with which the role is assumed."`
	Duration      time.Duration `mapstructure:"duration" default:"2h" doc:"assume_role and tke: lifetime of the temporary key, from 10m to 12h."`
	STSEndpoint   string        `mapstructure:"sts_endpoint" default:"https://sts.tencentcloudapi.com" doc:"assume_role and tke: address of the STS API; https://sts.intl.tencentcloudapi.com for the international site."`
	STSRegion     string        `mapstructure:"sts_region" default:"ap-guangzhou" doc:"assume_role and tke: region that is named to STS. tke prefers TKE_REGION."`
	Timeout       time.Duration `mapstructure:"timeout" default:"3s" doc:"Time limit of each provider, from 100ms to 60s."`
}

const (
	defaultSTSEndpoint = "https://sts.tencentcloudapi.com"
	defaultMetadataURL = "http://metadata.tencentyun.com"
)

// DefaultCredentialsConfig looks everywhere.
func DefaultCredentialsConfig() CredentialsConfig {
	return CredentialsConfig{
		Provider:    "auto",
		MetadataURL: defaultMetadataURL,
		SessionName: "vodrelay",
		Base:        "auto",
		Duration:    2 * time.Hour,
		STSEndpoint: defaultSTSEndpoint,
		STSRegion:   "ap-guangzhou",
		Timeout:     3 * time.Second,
	}
}

var (
	baseProviders = []string{"auto", "static", "env", "file", "profile", "tccli", "cvm", "tke"}
	allProviders  = append(slices.Clone(baseProviders), "assume_role")
)

// Validate reports every value that makes no sense. It does not look at files or the environment.
func (c CredentialsConfig) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains(allProviders, c.Provider) {
		fail("provider: %q: must be one of %s", c.Provider, strings.Join(allProviders, ", "))
	}
	if !slices.Contains(baseProviders, c.Base) {
		fail("base: %q: must be one of %s", c.Base, strings.Join(baseProviders, ", "))
	}
	hasKey := c.SecretKey != "" || c.SecretKeyFile != ""
	switch {
	case c.SecretID == "" && hasKey:
		fail("secret_id: is missing, set it next to the secret key")
	case c.SecretID != "" && !hasKey:
		fail("secret_key: is missing, set secret_key_file next to secret_id")
	case c.SecretID == "" && (c.Provider == "static" || c.Provider == "assume_role" && c.Base == "static"):
		fail("secret_id: is missing, provider static needs secret_id and secret_key_file")
	}
	if c.SecretKey != "" && c.SecretKeyFile != "" {
		fail("secret_key_file: is set together with secret_key, keep one of them")
	}
	if c.Token != "" && c.TokenFile != "" {
		fail("token_file: is set together with token, keep one of them")
	}
	if c.Provider == "assume_role" && c.RoleARN == "" {
		fail("role_arn: is missing, name the role, such as qcs::cam::uin/100000000001:roleName/relay")
	}
	if c.Duration < 10*time.Minute || c.Duration > 12*time.Hour {
		fail("duration: %s: must be from 10m to 12h", c.Duration)
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		fail("timeout: %s: must be from 100ms to 60s", c.Timeout)
	}
	if c.SessionName == "" {
		fail("session_name: is empty, write for example vodrelay")
	}
	if strings.ContainsAny(c.Profile, `/\`) {
		fail("profile: %q: is a name, not a path", c.Profile)
	}
	if _, err := parseEndpoint(c.STSEndpoint, defaultSTSEndpoint); err != nil {
		fail("sts_endpoint: %w", err)
	}
	if _, err := parseEndpoint(c.MetadataURL, defaultMetadataURL); err != nil {
		fail("metadata_url: %w", err)
	}
	return errors.Join(errs...)
}

// String shows no secret.
func (c CredentialsConfig) String() string {
	c.SecretKey, c.Token = mask(c.SecretKey), mask(c.Token)
	type plain CredentialsConfig // without this method
	return fmt.Sprintf("%+v", plain(c))
}

// Format is String for every verb.
func (c CredentialsConfig) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON shows no secret.
func (c CredentialsConfig) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

func mask(secret string) string {
	if secret == "" {
		return ""
	}
	return "(hidden)"
}
