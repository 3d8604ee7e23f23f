// Package tlsconf is the section tls of the sinks that connect to a server.
package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
)

// Config is how the server is verified, and how vodrelay proves itself to it.
type Config struct {
	CAFile             string `mapstructure:"ca_file" doc:"Path of a PEM file with the certificates to trust instead of the system's."`
	CertFile           string `mapstructure:"cert_file" doc:"Path of a PEM file with the client certificate. Read again at each connection."`
	KeyFile            string `mapstructure:"key_file" doc:"Path of a PEM file with the key of cert_file."`
	ServerName         string `mapstructure:"server_name" doc:"Name that the server's certificate must have. Empty: the host of the address."`
	InsecureSkipVerify bool   `mapstructure:"insecure_skip_verify" default:"false" doc:"Accept any certificate. Anyone in between can then read and take the events."`
}

// InsecureWarning is what a sink logs when InsecureSkipVerify is set.
const InsecureWarning = "tls.insecure_skip_verify is on: anyone on the way can read and take the events; set tls.ca_file instead"

// Load reads the files and makes the client's side of TLS 1.2 or newer. The errors are joined, each on one
// key, such as tls.ca_file.
func (c Config) Load() (*tls.Config, error) {
	var errs []error
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // asked for by name, and warned about
	}
	if c.CAFile != "" {
		pem, err := secretfile.ReadAll(c.CAFile)
		if err == nil {
			cfg.RootCAs = x509.NewCertPool()
			if !cfg.RootCAs.AppendCertsFromPEM(pem) {
				err = errors.New("has no certificate in PEM form")
			}
		}
		if err != nil {
			errs = append(errs, secretfile.Error("tls.ca_file", c.CAFile, err))
		}
	}
	switch {
	case c.CertFile != "" && c.KeyFile != "":
		if _, err := c.certificate(); err != nil {
			errs = append(errs, err)
		}
		// Short-lived certificates are replaced under a program that runs for months.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate() }
	case c.CertFile != "":
		errs = append(errs, errors.New(`tls.key_file: "": name the key of tls.cert_file`))
	case c.KeyFile != "":
		errs = append(errs, errors.New(`tls.cert_file: "": name the certificate of tls.key_file`))
	}
	return cfg, errors.Join(errs...)
}

// FileError is a file of ours that spoils a handshake, told apart from what the other side does.
type FileError struct{ error }

// Unwrap is the error of the file.
func (f *FileError) Unwrap() error { return f.error }

func (c Config) certificate() (*tls.Certificate, error) {
	cert, err := secretfile.ReadAll(c.CertFile)
	if err != nil {
		return nil, &FileError{secretfile.Error("tls.cert_file", c.CertFile, err)}
	}
	key, err := secretfile.ReadAll(c.KeyFile)
	if err != nil {
		return nil, &FileError{secretfile.Error("tls.key_file", c.KeyFile, err)}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, &FileError{fmt.Errorf("tls.cert_file: %q: is no PEM certificate that belongs to tls.key_file: %w", c.CertFile, err)}
	}
	return &pair, nil
}
