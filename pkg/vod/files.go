package vod

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	defaultProfile = "default"
	maxSmallFile   = 64 << 10
)

// systemdCredentials is the name under which a whole credential file can be given to LoadCredential=.
const systemdCredentials = "tencentcloud-credentials" //nolint:gosec // the name of a file

// readSmall reads a file of a kind that is small: a key or a token. Its errors name the path and nothing
// of the content.
func readSmall(path string) ([]byte, error) {
	data, err := secretfile.Regular(path, maxSmallFile)
	switch {
	case errors.Is(err, secretfile.ErrTooLarge):
		return nil, fmt.Errorf("%s: is larger than %d bytes, so it is no credential", path, maxSmallFile)
	case errors.Is(err, secretfile.ErrIrregular):
		return nil, fmt.Errorf("%s: %w", path, err)
	case err != nil:
		return nil, err
	}
	if _, err := secretfile.Text(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// readInto reads one part of a credential. White space around it is usual in a file.
func readInto(path string, target *string) error {
	data, err := readSmall(path)
	if err != nil {
		return retry.Permanent(err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return retry.Permanent(fmt.Errorf("%s: is empty", path))
	}
	*target = text
	return nil
}

// readCredential reads a JSON or INI file, or a directory with a file for each part.
func readCredential(path, profile string) (Credential, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Credential{}, retry.Permanent(err)
	}
	if info.IsDir() {
		return readDirectory(path, profile)
	}
	data, err := readSmall(path)
	if err != nil {
		return Credential{}, retry.Permanent(err)
	}
	cred, err := parseCredential(data, profile)
	if err != nil {
		return Credential{}, retry.Permanent(fmt.Errorf("%s: %w", path, err))
	}
	cred.Source, cred.Recheck = path, recheck
	return cred, nil
}

// readDirectory reads a directory such as a Kubernetes mount of a secret, or systemd's credentials: files
// named like the fields of a credential file, or one credential file.
func readDirectory(dir, profile string) (Credential, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Credential{}, retry.Permanent(err)
	}
	cred := Credential{Source: dir, Recheck: recheck}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.Name() == systemdCredentials {
			return readCredential(path, profile)
		}
		if target := cred.part(entry.Name()); target != nil {
			if err := readInto(path, target); err != nil {
				return Credential{}, err
			}
		}
	}
	if cred.SecretID == "" && cred.SecretKey == "" {
		return Credential{}, missing("%s has no files secret_id and secret_key", dir)
	}
	if err := cred.tidy(); err != nil {
		return Credential{}, retry.Permanent(fmt.Errorf("%s: %w", dir, err))
	}
	return cred, nil
}

// part is the part of c with that name, nil if it is none. The vendor's tools spell the names in many
// ways: secret_id, secretId, SecretId, TmpSecretId, TENCENTCLOUD_SECRET_ID.
func (c *Credential) part(name string) *string {
	plain := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' {
			return -1
		}
		return r
	}, strings.ToLower(name))
	plain = strings.TrimPrefix(plain, "tencentcloud")
	plain = strings.TrimPrefix(plain, "tmp")
	switch plain {
	case "secretid":
		return &c.SecretID
	case "secretkey":
		return &c.SecretKey
	case "token", "sessiontoken":
		return &c.Token
	}
	return nil
}

// parseCredential reads the content of a credential file. Its errors hold nothing of the content.
func parseCredential(data []byte, profile string) (Credential, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var (
		cred Credential
		err  error
	)
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		cred, err = parseJSON(data)
	} else {
		cred, err = parseINI(string(data), profile)
	}
	if err != nil {
		return Credential{}, err
	}
	if err := cred.tidy(); err != nil {
		return Credential{}, fmt.Errorf("%w; the file needs secret_id and secret_key", err)
	}
	return cred, nil
}

func parseJSON(data []byte) (Credential, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil { // its error may quote the content
		return Credential{}, errors.New("is not valid JSON")
	}
	var cred Credential
	for name, raw := range fields {
		target := cred.part(name)
		if target == nil {
			continue
		}
		var text *string // null is nothing
		if json.Unmarshal(raw, &text) != nil {
			return Credential{}, errors.New("a part of the key is not a string")
		}
		if text != nil && *text != "" {
			*target = *text
		}
	}
	return cred, nil
}

// parseINI reads lines of name = value in the section of the profile, or before any section: the form of
// the SDKs' profile and of environment files. "" is the profile "default".
func parseINI(text, profile string) (Credential, error) {
	wanted := profile
	if wanted == "" {
		wanted = defaultProfile
	}
	var outside, inside Credential
	found, current := false, &outside
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "", line[0] == '#', line[0] == ';':
			continue
		case line[0] == '[':
			name, _, closed := strings.Cut(line[1:], "]")
			if !closed {
				return Credential{}, fmt.Errorf("line %d: the section's name has no closing bracket", i+1)
			}
			current = &Credential{} // some other section's
			if strings.TrimSpace(name) == wanted {
				found, current = true, &inside
			}
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok {
			return Credential{}, fmt.Errorf("line %d: is not of the form name = value", i+1)
		}
		if target := current.part(strings.TrimSpace(name)); target != nil {
			*target = unquoteINI(strings.TrimSpace(value))
		}
	}
	switch {
	case found:
		return inside, nil
	case profile != "":
		return Credential{}, fmt.Errorf("has no section [%s]", profile)
	}
	return outside, nil
}

func unquoteINI(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
