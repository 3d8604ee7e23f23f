package vod

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// maxMessage is the most bytes of a server's message that are kept.
const maxMessage = 512

const proxyHint = "put the proxy's address, with user and password before its host, into vod.proxy_file"

// numbers stand for what varies from one connection to the next: ports, stream IDs, times.
var numbers = regexp.MustCompile(`\b\d+\b`)

const (
	noTLS     = "the server does not speak TLS"
	strange   = "if it lasts, something else than the VOD API listens there: check vod.endpoint and vod.proxy"
	noTLSHint = "check vod.endpoint: correct the port, or write http://, which a local emulator needs"
)

// describe says what went wrong with an exchange, the same way each time it goes wrong: without ports,
// times, or quotations of what the server sent. The hint is what to do about it, "" if there is no more to
// say than to try again.
func describe(err error, ex *exchange) (text, hint string) {
	var (
		dns       *net.DNSError
		op        *net.OpError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
		alert     tls.AlertError
		record    tls.RecordHeaderError
		errno     syscall.Errno
	)
	switch {
	case errors.Is(err, errNoReply):
		return "no reply within " + ex.replyWithin.String(), "check that this machine reaches vod.endpoint, and vod.proxy if the way leads through a proxy"
	case errors.Is(err, errSlowBody):
		return "the reply began, but did not end within " + ex.readWithin.String(), "a slow line needs a longer vod.read_timeout"
	case errors.Is(err, errTooLarge):
		hint = "something on the way answers in the API's place: check vod.endpoint and vod.proxy"
		if ex.events {
			hint = "raise vod.max_reply_bytes"
		}
		return "the reply is larger than " + strconv.FormatInt(ex.maxBytes, 10) + " bytes", hint
	case errors.As(err, &dns):
		reason := "cannot be resolved"
		if dns.IsNotFound {
			reason = "does not exist"
		}
		return "host " + safetext.Line(dns.Name, 255) + " " + reason, "check vod.endpoint and this machine's name servers"
	case errors.As(err, &authority):
		return "the server's certificate is signed by an unknown authority", "install the system's CA certificates (package ca-certificates); a proxy that opens TLS needs its CA installed as well"
	case errors.As(err, &hostname):
		return "the server's certificate is for another host", "check vod.endpoint and vod.proxy"
	case errors.As(err, &invalid):
		if invalid.Reason == x509.Expired { // its own text holds the time
			return "the server's certificate has expired or is not valid yet", "check this machine's clock"
		}
		return "the server's certificate is not valid", "check vod.endpoint and vod.proxy"
	case errors.As(err, &record):
		return noTLS, noTLSHint
	case errors.As(err, &alert):
		return "TLS: " + alert.Error(), ""
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed in the middle of the reply", ""
	case errors.Is(err, io.EOF):
		return "the connection was closed without a reply", strange
	case errors.As(err, &op):
		reason := "failed"
		switch {
		case errors.As(err, &errno):
			reason = errno.Error()
		case op.Timeout():
			reason = "timed out"
		}
		switch {
		case viaProxy(op):
			name := "the proxy"
			if dialled := (*net.OpError)(nil); errors.As(op.Err, &dialled) && dialled.Addr != nil {
				name += " " + dialled.Addr.String()
			}
			return name + ": " + reason, "check vod.proxy, or HTTPS_PROXY and NO_PROXY in the environment, and the firewall"
		case op.Op == "dial":
			hint = "check vod.endpoint and the firewall; does the way lead through a proxy (vod.proxy)?"
		}
		if errors.Is(errno, syscall.ECONNRESET) {
			hint = strange
		}
		return op.Op + ": " + reason, hint
	}
	text = err.Error()
	switch {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return noTLS, noTLSHint
	case strings.Contains(text, "malformed HTTP"):
		return "the server does not speak HTTP", "check vod.endpoint and vod.proxy: something else listens there"
	case text == http.StatusText(http.StatusProxyAuthRequired):
		return "the proxy asks for a password", proxyHint
	}
	if _, after, found := strings.Cut(text, "transport connection broken: "); found {
		text = after
	}
	text, _, _ = strings.Cut(text, `"`) // what follows quotes the server
	return strings.TrimRight(safetext.Line(numbers.ReplaceAllString(redact.Text(text), "N"), 120), ": "), ""
}

// viaProxy reports an attempt to connect to a proxy, in the words of net/http.
func viaProxy(op *net.OpError) bool { return op.Op == "proxyconnect" || op.Op == "socks connect" }

// neverSent reports an exchange that failed before there was a connection to send the request over.
func neverSent(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	return errors.As(err, &dns) || errors.As(err, &op) && (op.Op == "dial" || viaProxy(op))
}

// noAPI says what a reply is that the API did not make: its status if that says so, otherwise what is
// wrong with its body.
func noAPI(ex *exchange, shape error) (text, hint string) {
	if ex.status != http.StatusOK {
		text = "HTTP " + strconv.Itoa(ex.status)
		if name := http.StatusText(ex.status); name != "" {
			text += " " + name
		}
		text += " instead of a reply of the API"
	} else {
		text = shape.Error()
	}
	if media, _, err := mime.ParseMediaType(ex.header.Get("Content-Type")); err == nil && media != "application/json" {
		text += " (" + safetext.Line(media, 64) + ")"
	}
	switch {
	case ex.status >= 300 && ex.status < 400, ex.status == http.StatusNotFound, ex.status == http.StatusMethodNotAllowed:
		hint = "check vod.endpoint: this server is not the VOD API"
	case ex.status == http.StatusProxyAuthRequired:
		hint = proxyHint
	case ex.status == http.StatusUnauthorized, ex.status == http.StatusForbidden:
		hint = "the API answers with 200 even when it refuses a key: a proxy or firewall on the way refused this"
	case ex.status == http.StatusOK:
		hint = "something on the way answers in the API's place: check vod.endpoint and vod.proxy"
	}
	return text, hint
}

// retryAfter reads the header of that name, seconds or a date, up to maxDelay.
func retryAfter(ex *exchange) time.Duration {
	value := ex.header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxDelay)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(ex.receivedAt), 0), maxDelay)
	}
	return 0
}

// foreign hides from errors.Is that an error of the network is about some context: only the end of the
// caller's own may look like one.
func foreign(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
