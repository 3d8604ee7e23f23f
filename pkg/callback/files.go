package callback

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func readKey(path string) (string, error) {
	content, err := secretfile.ReadAll(path)
	if err != nil {
		return "", err
	}
	return parseKey(content)
}

func parseKey(content []byte) (string, error) {
	key, err := secretfile.Text(content)
	if err != nil {
		return "", err
	}
	return key, checkKey(key)
}

func checkKey(key string) error {
	alien := strings.IndexFunc(key, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	if key == "" || len(key) > maxSignKey || alien >= 0 {
		return fmt.Errorf("must be 1 to %d letters and digits, as ModifyEventConfig takes it; make one with: openssl rand -hex 16", maxSignKey)
	}
	return nil
}

// validateKey checks a key and the file that may hold it instead.
func validateKey(name, key, path string, mayBeAbsent bool) error {
	switch {
	case key != "" && path != "":
		return fmt.Errorf("%s_file: is set beside %s: remove one of the two", name, name)
	case key != "":
		if err := checkKey(key); err != nil {
			return fmt.Errorf("%s: (hidden): %w", name, err)
		}
	case path != "":
		_, err := readKey(path)
		if mayBeAbsent && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return secretfile.Error(name+"_file", path, err)
	}
	return nil
}

// weak warns of a key that somebody can find by trying, on a machine of their own.
func weak(name, key, path string) []string {
	if path != "" {
		var err error
		if key, err = readKey(path); err != nil { // Validate has said so, or nobody posts any more
			return nil
		}
	}
	if key == "" || len(key) >= goodSignKey {
		return nil
	}
	return []string{fmt.Sprintf("%s has %d characters: who sees one notification has its Sign and T, by which a key below %d characters can be found by trying; make another one with: openssl rand -hex 16, and set it in VOD too", name, len(key), goodSignKey)}
}

// keyring is the keys that a notification may be signed with.
type keyring struct {
	key, previous         string
	keyFile, previousFile *secretfile.Watched[string] // nil: none
}

func newKeyring(cfg Config) *keyring {
	k := &keyring{key: cfg.SignKey, previous: cfg.PreviousSignKey}
	watch := func(name, path string) *secretfile.Watched[string] {
		if path == "" {
			return nil
		}
		return &secretfile.Watched[string]{Paths: []string{path}, Make: func(contents [][]byte) (string, error) {
			key, err := parseKey(contents[0])
			return key, secretfile.Error(name, path, err)
		}}
	}
	k.keyFile = watch("sign_key_file", cfg.SignKeyFile)
	k.previousFile = watch("previous_sign_key_file", cfg.PreviousSignKeyFile)
	return k
}

// keys are those that count now; none when no signature is asked for. A key that cannot be read is an
// error: with the one from before, a key that was revoked would be accepted.
func (k *keyring) keys() ([]string, error) {
	key, previous := k.key, k.previous
	var err error
	if k.keyFile != nil {
		if key, err = k.keyFile.Get(); err != nil {
			return nil, retry.WithHint(fmt.Errorf("the sign key cannot be read: %w", err), "let the user that runs vodrelay read the file, and put the key in it")
		}
	}
	if k.previousFile != nil {
		if previous, err = k.previousFile.Get(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, retry.WithHint(fmt.Errorf("the previous sign key cannot be read: %w", err), "remove the file when the key has been changed")
		}
	}
	switch {
	case key == "":
		return nil, nil
	case previous == "":
		return []string{key}, nil
	}
	return []string{key, previous}, nil
}

func (c TLSConfig) validate() error {
	switch {
	case c.CertFile != "" && c.KeyFile != "":
		_, err := c.certificate()
		return err
	case c.CertFile != "":
		return errors.New(`tls.key_file: "": name the key of tls.cert_file`)
	case c.KeyFile != "":
		return errors.New(`tls.cert_file: "": name the certificate of tls.key_file`)
	}
	return nil
}

func (c TLSConfig) certificate() (*tls.Certificate, error) {
	cert, err := secretfile.ReadAll(c.CertFile)
	if err != nil {
		return nil, secretfile.Error("tls.cert_file", c.CertFile, err)
	}
	key, err := secretfile.ReadAll(c.KeyFile)
	if err != nil {
		return nil, secretfile.Error("tls.key_file", c.KeyFile, err)
	}
	return c.pair([][]byte{cert, key})
}

// pair makes the certificate from the contents of its two files.
func (c TLSConfig) pair(contents [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file: %q: is no PEM certificate that belongs to tls.key_file: %w", c.CertFile, err)
	}
	return &pair, nil
}

// server makes the TLS side of a listener, nil for HTTP. While a new certificate cannot be read, the last
// one is served.
func (c TLSConfig) server(log *zap.Logger) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	last, err := c.certificate()
	if err != nil {
		return nil, err
	}
	files := &secretfile.Watched[*tls.Certificate]{Paths: []string{c.CertFile, c.KeyFile}, Make: c.pair}
	var mu sync.Mutex
	var failing retry.Streak
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			fresh, err := files.Get()
			if err != nil {
				if failing.Fail(err) {
					log.Error("callback: the certificate cannot be read again; serving the last one", zap.Error(err))
				}
				return last, nil
			}
			failing.End()
			last = fresh
			return last, nil
		},
	}, nil
}
