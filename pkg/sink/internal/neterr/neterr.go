// Package neterr says in a few words what is wrong with a connection, and what to do about it. Its texts
// are the same for the same trouble, where net's own name the local port, an address out of several, or the
// time.
package neterr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// failure has a text of ours, the same for the same trouble, on an error of a client library.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// Fail gives err, which can still be found in it, another text, and a hint.
func Fail(text string, err error, hint string) error {
	return retry.WithHint(&failure{text, err}, hint)
}

// HostPort is address with a port. The error says what to write, in the manner of example.
func HostPort(address, defaultPort, example string) (string, error) {
	if strings.Contains(address, "://") {
		return "", errors.New("takes no scheme: write host:port, and say with use_tls whether to use TLS")
	}
	if strings.Contains(address, "@") {
		return "", errors.New("takes no user and password: write host:port, and keep them in their own keys")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil { // without a port
		host, port = strings.Trim(address, "[]"), defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" ||
		strings.ContainsAny(host, " ,/") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", fmt.Errorf("write host:port, such as %s, one in each entry", example)
	}
	return net.JoinHostPort(host, port), nil
}

// oddScheme is what people write for a scheme by mistake, such as https:/ or http// or none.
var oddScheme = regexp.MustCompile(`^[A-Za-z]{0,5}:?/+|^(https?|nats|tls|wss?):`)

// AddScheme is what to write for an address without a proper scheme: scheme:// and the address if that makes a URL with
// a host, otherwise example.
func AddScheme(address, scheme, example string) string {
	text := scheme + "://" + oddScheme.ReplaceAllString(address, "")
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Host, " ,*") || strings.ContainsFunc(text, func(r rune) bool { return !safetext.Visible(r) }) {
		return example
	}
	return text
}

// Target is what the hints call the other side.
type Target struct {
	Name  string // such as endpoint
	Key   string // of its address in the configuration, such as url
	NoTLS string // what to write where it does not speak TLS, such as "write http:// in url"
}

// Explain says what is wrong, and what to do about it.
func (t Target) Explain(err error) (text, hint string) {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     *net.OpError // crypto/tls has no type of its own for them
		file      *tlsconf.FileError
		errno     syscall.Errno
		timeout   net.Error
	)
	t = t.For(err)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("host %q is not known", dns.Name), "check the host in " + t.Key + ", and DNS (getent hosts NAME)"
	case errors.As(err, &dns):
		return fmt.Sprintf("host %q cannot be looked up", dns.Name), "check DNS on this machine (/etc/resolv.conf)"
	case errors.As(err, &authority):
		return "its certificate is signed by an unknown authority", "set tls.ca_file to the authority's certificate, or install it on this machine"
	case errors.As(err, &hostname):
		return "its certificate is for another host", "correct the host in " + t.Key + ", or set tls.server_name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not yet valid", "renew it; if it is good, set this machine's clock"
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + Steady(invalid.Error()), "see its chain with openssl s_client -showcerts"
	case errors.As(err, &record):
		return "it does not speak TLS", t.NoTLS + ", or correct the port"
	case errors.As(err, &file):
		return file.Error(), "let the user that runs vodrelay read the file"
	case errors.As(err, &alert) && alert.Op == "remote error":
		return Steady(alert.Err.Error()), "it refuses the TLS handshake: check tls.cert_file, and which TLS versions it takes"
	case IsClosed(err):
		return "it closed the connection without an answer",
			t.seeLog() + "; if it wants a client certificate, set tls.cert_file"
	case errors.As(err, &errno):
		return errno.Error(), t.hintFor(errno)
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no connection in time", "check the host and port in " + t.Key + ", and the firewalls on the way"
	}
	return Steady(err.Error()), t.seeLog()
}

func (t Target) seeLog() string {
	return "see the " + t.Name + "'s log, and that of a proxy before it"
}

// IsClosed reports a connection that the other side ended. In which of these ways it shows is a matter of
// microseconds.
func IsClosed(err error) bool {
	for _, way := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, way) {
			return true
		}
	}
	return false
}

func (t Target) hintFor(errno syscall.Errno) string {
	switch {
	case errors.Is(errno, syscall.ECONNREFUSED):
		return "nothing listens there: start the " + t.Name + ", or correct the host and port in " + t.Key
	case errors.Is(errno, syscall.ENETUNREACH), errors.Is(errno, syscall.EHOSTUNREACH), errors.Is(errno, syscall.ETIMEDOUT):
		return "check the host and port in " + t.Key + ", and the network and firewalls on the way"
	case errors.Is(errno, syscall.EMFILE), errors.Is(errno, syscall.ENFILE):
		return "raise the limit of open files (ulimit -n, or LimitNOFILE in systemd)"
	}
	return t.seeLog()
}

var (
	quoted = regexp.MustCompile(`"[^"]*"`)
	number = regexp.MustCompile(`\[?\b[0-9][0-9a-fA-F.:]*\]?(:[0-9]+)?\b`)
)

// Steady takes out of a text what changes from one time to the next, and what the other side said.
func Steady(text string) string {
	text = quoted.ReplaceAllString(redact.Text(text), `"..."`)
	text = number.ReplaceAllString(text, "N")
	return safetext.Line(text, 200)
}
