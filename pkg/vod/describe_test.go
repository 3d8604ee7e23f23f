package vod

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Two failures of one kind read the same, whatever port, time or stream they happened on.
func TestDescribe(t *testing.T) {
	t.Parallel()
	ex := &exchange{replyWithin: 10 * time.Second, readWithin: 5 * time.Second, maxBytes: 7}
	for _, row := range []struct {
		err  error
		want string
	}{
		{&net.DNSError{Err: "read udp 127.0.0.1:4711->127.0.0.1:53: i/o timeout", Name: "vod.test", IsTimeout: true}, "host vod.test cannot be resolved"},
		{&net.DNSError{Err: "no such host", Name: "vod.test", Server: "10.0.0.1:53", IsNotFound: true}, "host vod.test does not exist"},
		{&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: 4711}, Err: syscall.ECONNREFUSED}, "dial: connection refused"},
		{&net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: 4711}, Err: syscall.ECONNRESET}, "read: connection reset by peer"},
		{&net.OpError{Op: "dial", Err: &timeoutError{}}, "dial: timed out"},
		{x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time 2026-01-02"}, "the server's certificate has expired or is not valid yet"},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}, "the server's certificate is for another host"},
		{fmt.Errorf("x: %w", io.EOF), "the connection was closed without a reply"},
		{errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=4711, ErrCode=NO_ERROR, debug=\"x\""), "http2: server sent GOAWAY and closed the connection; LastStreamID=N, ErrCode=NO_ERROR, debug="},
		{errors.New("http: server gave HTTP response to HTTPS client"), "the server does not speak TLS"},
		{&net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 3128}, Err: syscall.ECONNREFUSED}}, "the proxy 10.0.0.1:3128: connection refused"},
		{&net.OpError{Op: "socks connect", Err: &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1080}, Err: syscall.ECONNREFUSED}}, "the proxy 10.0.0.1:1080: connection refused"},
		{errors.New("Proxy Authentication Required"), "the proxy asks for a password"},
	} {
		text, _ := describe(row.err, ex)
		require.Equal(t, row.want, text)
		require.NotContains(t, text, "4711")
	}
}

type timeoutError struct{}

func (*timeoutError) Error() string   { return "i/o timeout" }
func (*timeoutError) Timeout() bool   { return true }
func (*timeoutError) Temporary() bool { return true }

// Only the end of the caller's context looks like one.
func TestForeignContextErrors(t *testing.T) {
	t.Parallel()
	for _, foreign := range []error{context.Canceled, context.DeadlineExceeded} {
		c, err := New(testConfig(), WithTransport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, foreign })))
		require.NoError(t, err)
		_, err = c.Queue(0).Pull(context.Background())
		require.Error(t, err)
		require.NotErrorIs(t, err, foreign)
		c.Close()
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	for _, inFile := range []bool{false, true} {
		h, all := recorder(okReply)
		m := serve(t, h)
		cfg := testConfig()
		cfg.Endpoint = "http://vod.example"
		cfg.Proxy = "http://user:VERYSECRET@proxy.example:3128"
		if inFile {
			cfg.ProxyFile, cfg.Proxy = file(t, filepath.Join(t.TempDir(), "proxy"), cfg.Proxy+"\n"), ""
		}
		c := newClient(t, m, cfg)
		require.NoError(t, c.Queue(0).Confirm(context.Background(), []string{"a"}))
		require.Equal(t, []string{"proxy.example:3128"}, m.dialled)
		require.Contains(t, all()[0].body, "POST http://vod.example/ ")
		require.NotEmpty(t, all()[0].header.Get("Proxy-Authorization"))
	}
	cfg := testConfig()
	cfg.ProxyFile = filepath.Join(t.TempDir(), "none")
	_, err := New(cfg)
	require.ErrorContains(t, err, "proxy_file: stat ")
	cfg.ProxyFile = file(t, filepath.Join(t.TempDir(), "proxy"), "ftp://u:VERYSECRET@h")
	_, err = New(cfg)
	require.ErrorContains(t, err, `proxy: cannot use scheme "ftp"`)
	require.NotContains(t, err.Error(), "VERYSECRET")
}

func TestRefusingProxy(t *testing.T) {
	t.Parallel()
	m := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) }))
	cfg := testConfig()
	cfg.Endpoint, cfg.Proxy = "https://vod.example", "http://proxy.example:3128" // CONNECT
	_, err := newClient(t, m, cfg).Queue(0).Pull(context.Background())
	require.EqualError(t, err, "PullEvents: the proxy asks for a password")
	require.Contains(t, retry.Hint(err), "vod.proxy_file")
	require.False(t, retry.IsPermanent(err))
}
