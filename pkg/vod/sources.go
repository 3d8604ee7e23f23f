package vod

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// recheck is how often a file in use is read again. A key is small: to read it costs no more than to ask
// whether it has changed, and cannot miss a change within the clock's grain.
const recheck = time.Second

// sources builds the providers that a configuration names.
type sources struct {
	cfg       *CredentialsConfig
	dial      DialContext
	transport http.RoundTripper
	limits    limits
	env       func(string) (string, bool)
}

// absentError says that a source is not there, so that the next one may be tried. Every other error of a source
// that is there ends the search: to go on with another account's key than the one that was meant would be
// worse than to stop.
type absentError struct{ reason string }

func (a absentError) Error() string { return a.reason }

func missing(format string, args ...any) error {
	return retry.Permanent(absentError{fmt.Sprintf(format, args...)})
}

// providerFunc makes a function a Provider.
type providerFunc func(ctx context.Context) (Credential, error)

func (f providerFunc) Retrieve(ctx context.Context) (Credential, error) { return f(ctx) }

// provider is what the configuration asks for.
func (s *sources) provider() (Provider, error) {
	name := s.cfg.Provider
	if name != "assume_role" && (name != "auto" || s.cfg.RoleARN == "") {
		return s.named(name)
	}
	baseName := s.cfg.Base
	if name == "auto" {
		baseName = "auto"
	}
	base, err := s.named(baseName)
	if err != nil {
		return nil, err
	}
	return s.assumeRole(base)
}

func (s *sources) named(name string) (Provider, error) {
	if name == "auto" {
		return s.auto()
	}
	p, err := s.source(name)
	if err != nil {
		return nil, err
	}
	return s.limited(name, p), nil
}

func (s *sources) source(name string) (Provider, error) {
	switch name {
	case "static":
		return providerFunc(s.static), nil
	case "env":
		return providerFunc(s.environment), nil
	case "file":
		return providerFunc(s.file), nil
	case "profile":
		return providerFunc(s.profile), nil
	case "tccli":
		return providerFunc(s.tccli), nil
	case "tke":
		return s.webIdentity()
	case "cvm":
		return s.cvm()
	}
	return nil, fmt.Errorf("credentials.provider: %q: is not known", name)
}

// limited gives each attempt of p the configured time, and its errors p's name.
func (s *sources) limited(name string, p Provider) Provider {
	return providerFunc(func(ctx context.Context) (Credential, error) {
		within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
		cred, err := p.Retrieve(within)
		switch {
		case err == nil:
			return cred, nil
		case ctx.Err() != nil:
			return Credential{}, fmt.Errorf("credentials: %s: %w", name, ctx.Err())
		case within.Err() != nil:
			err = fmt.Errorf("no answer within %s", s.cfg.Timeout)
		}
		hint := retry.Hint(err)
		if hint == "" {
			hint = "check vod.credentials (provider " + name + ")"
		}
		return Credential{}, retry.WithHint(fmt.Errorf("credentials: %s: %w", name, err), hint)
	})
}

// auto takes the first source that is there, and stays with it: a file that is gone for a moment while it
// is replaced must not make the relay another user.
func (s *sources) auto() (Provider, error) {
	names := []string{"static", "env", "file", "profile", "tccli", "tke", "cvm"}
	providers := make([]Provider, len(names))
	for i, name := range names {
		p, err := s.named(name)
		if err != nil {
			return nil, err
		}
		providers[i] = p
	}
	var chosen Provider // only the keeper's goroutine calls
	return providerFunc(func(ctx context.Context) (Credential, error) {
		if chosen != nil {
			return chosen.Retrieve(ctx)
		}
		reasons := make([]string, 0, len(names))
		for i, p := range providers {
			cred, err := p.Retrieve(ctx)
			if err == nil {
				chosen = p
				return cred, nil
			}
			var none absentError
			if !errors.As(err, &none) {
				return Credential{}, err
			}
			reasons = append(reasons, names[i]+": "+none.reason)
		}
		return Credential{}, retry.Permanent(retry.WithHint(
			fmt.Errorf("no credentials found (%s)", strings.Join(reasons, "; ")),
			"set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, or name a source in vod.credentials"))
	}), nil
}

func (s *sources) static(context.Context) (Credential, error) {
	c := s.cfg
	if c.SecretID == "" {
		return Credential{}, missing("secret_id is not configured")
	}
	cred := Credential{SecretID: c.SecretID, SecretKey: c.SecretKey, Token: c.Token, Source: "the configuration"}
	for path, target := range map[string]*string{c.SecretKeyFile: &cred.SecretKey, c.TokenFile: &cred.Token} {
		if path == "" {
			continue
		}
		if err := readInto(path, target); err != nil {
			return Credential{}, err
		}
		cred.Recheck = recheck
	}
	return cred, nil
}

func (s *sources) getenv(name string) string {
	text, _ := s.env(name)
	return text
}

// environment reads the vendor's variables, and the token, which the SDK's provider leaves out.
func (s *sources) environment(context.Context) (Credential, error) {
	id, key := s.getenv("TENCENTCLOUD_SECRET_ID"), s.getenv("TENCENTCLOUD_SECRET_KEY")
	switch {
	case id == "" && key == "":
		return Credential{}, missing("TENCENTCLOUD_SECRET_ID is not set")
	case id == "":
		return Credential{}, retry.Permanent(errors.New("TENCENTCLOUD_SECRET_KEY is set, but TENCENTCLOUD_SECRET_ID is not"))
	case key == "" && s.getenv("TENCENTCLOUD_SECRET_KEY_FILE") != "":
		return Credential{}, missing("the key is in TENCENTCLOUD_SECRET_KEY_FILE") // which file reads
	case key == "":
		return Credential{}, retry.Permanent(errors.New("TENCENTCLOUD_SECRET_ID is set, but TENCENTCLOUD_SECRET_KEY is not"))
	}
	return Credential{SecretID: id, SecretKey: key, Token: s.getenv("TENCENTCLOUD_TOKEN"), Source: "the environment"}, nil
}

// file reads the configured file or directory, or what the environment names: one file for each part, or
// the directory of systemd's credentials.
func (s *sources) file(context.Context) (Credential, error) {
	if path := s.cfg.File; path != "" {
		return readCredential(path, s.cfg.Profile)
	}
	if keyFile := s.getenv("TENCENTCLOUD_SECRET_KEY_FILE"); keyFile != "" {
		cred := Credential{
			SecretID: s.getenv("TENCENTCLOUD_SECRET_ID"), Token: s.getenv("TENCENTCLOUD_TOKEN"),
			Source: "TENCENTCLOUD_SECRET_KEY_FILE", Recheck: recheck,
		}
		err := readInto(keyFile, &cred.SecretKey)
		for name, target := range map[string]*string{"TENCENTCLOUD_SECRET_ID_FILE": &cred.SecretID, "TENCENTCLOUD_TOKEN_FILE": &cred.Token} {
			if path := s.getenv(name); path != "" && err == nil {
				err = readInto(path, target)
			}
		}
		return cred, err
	}
	if dir := s.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		return readDirectory(dir, s.cfg.Profile)
	}
	return Credential{}, missing("neither vod.credentials.file nor TENCENTCLOUD_SECRET_KEY_FILE is set")
}

// profile reads the SDKs' shared file.
// Source: https://github.com/TencentCloud/tencentcloud-sdk-go#credentials.
func (s *sources) profile(context.Context) (Credential, error) {
	path, set := s.env("TENCENTCLOUD_CREDENTIALS_FILE")
	if set && path != "" {
		return readCredential(path, s.cfg.Profile)
	}
	home := s.home()
	if home == "" {
		return Credential{}, missing("there is no home directory")
	}
	return readOptional(filepath.Join(home, ".tencentcloud", "credentials"), s.cfg.Profile)
}

// tccli reads the key of the vendor's command line tool.
func (s *sources) tccli(context.Context) (Credential, error) {
	name := s.cfg.Profile
	if name == "" {
		name = filepath.Base(s.getenv("TCCLI_PROFILE"))
	}
	if name == "." { // the base of nothing
		name = defaultProfile
	}
	home := s.home()
	if home == "" {
		return Credential{}, missing("there is no home directory")
	}
	return readOptional(filepath.Join(home, ".tccli", name+".credential"), "")
}

func (s *sources) home() string {
	for _, name := range []string{"HOME", "USERPROFILE"} {
		if home := s.getenv(name); home != "" {
			return home
		}
	}
	return ""
}

// readOptional is readCredential for a file that need not be there.
func readOptional(path, profile string) (Credential, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return Credential{}, missing("%s does not exist", path)
	}
	return readCredential(path, profile)
}
