package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

// exchangeError is a failure below HTTP. Its text is the same for the same trouble, where net's own names
// the local port, an address out of several, or the time.
type exchangeError struct {
	text string
	err  error
}

func (e *exchangeError) Error() string { return e.text }
func (e *exchangeError) Unwrap() error { return e.err }

// describe names a failed exchange with origin, and says what to do about it. All of them are transient. proxy is what
// stands before it, "" for nothing.
func describe(ctx context.Context, origin, proxy string, err error) error {
	// The context comes first, since a cancelled exchange fails in many ways.
	if cause := ctx.Err(); cause != nil {
		return retry.WithHint(fmt.Errorf("%s: no answer in time: %w", origin, cause),
			"let the endpoint answer before it works on the event, or make the sink's timeout longer")
	}
	var refusal proxyError
	if errors.As(err, &refusal) {
		hint := "see the proxy's log; or set proxy to none, or the endpoint in NO_PROXY"
		if refusal.status == http.StatusProxyAuthRequired {
			hint = proxyAuthHint
		}
		return retry.WithHint(&exchangeError{origin + ": " + refusal.Error(), err}, hint)
	}
	text, hint := explain(err)
	if op := (*net.OpError)(nil); errors.As(err, &op) && (op.Op == "proxyconnect" || op.Op == "socks connect") {
		text, hint = "the proxy "+proxy+": "+text, "check proxy, or HTTPS_PROXY and HTTP_PROXY in the environment"
	}
	return retry.WithHint(&exchangeError{origin + ": " + text, err}, hint)
}

var words = neterr.Target{Name: "endpoint", Key: "url", NoTLS: "write http:// in url"}

// explain says in a few words what is wrong, and what to do about it. What only net/http says it has no
// types for.
func explain(err error) (text, hint string) {
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		err = tls.RecordHeaderError{}
	case mentions(err, "server closed idle connection", "http2: client conn", "http2: server sent GOAWAY"):
		err = io.EOF
	case mentions(err, "malformed HTTP"):
		return "it does not speak HTTP", "write https:// in url, or correct the port"
	}
	return words.Explain(err)
}

func mentions(err error, texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(err.Error(), text) })
}
