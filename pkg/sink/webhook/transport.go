package webhook

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second // as net/http's own transport
	idlePerHost      = 256              // more than any sensible concurrency: a burst keeps its connections
	maxHeaderBytes   = 256 << 10        // of a response
	pingAfter        = 15 * time.Second // of silence on an HTTP/2 connection, which hangs for minutes otherwise when its peer vanished
	pingTimeout      = 10 * time.Second
)

// newTransport makes a transport of the sink's own, so that its connections end with it.
func newTransport(c Config) (*http.Transport, error) {
	tlsConfig, tlsErr := c.TLS.Load()
	proxy, proxyErr := parseProxy(c.Proxy)
	if err := errors.Join(tlsErr, proxyErr); err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true, // which a config of one's own turns off otherwise
		MaxIdleConns:           idlePerHost,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
		OnProxyConnectResponse: proxyAnswer,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}, nil
}

// proxyError is a proxy that does not connect to the endpoint.
type proxyError struct{ status int }

func (p proxyError) Error() string {
	return "the proxy answered " + statusText(p.status)
}

// proxyAnswer has the transport fail with a text of ours, not the proxy's.
func proxyAnswer(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return proxyError{res.StatusCode}
	}
	return nil
}

// statusText is such as "503 Service Unavailable".
func statusText(code int) string {
	return strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
}

// proxyOf is the address of the proxy that req goes through, without user and password; "" for none.
func (s *Sink) proxyOf(req *http.Request) string {
	if s.proxy == nil {
		return ""
	}
	proxy, err := s.proxy(req)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Scheme + "://" + proxy.Host
}
