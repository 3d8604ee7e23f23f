package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

var brokenAddresses = []broken{
	{"admin address in use", 0, func(t *testing.T, s *setup) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		s.set("VODRELAY_ADMIN_LISTEN=" + l.Addr().String())
		return ""
	}, busy, "address already in use"},
	{"admin address of another machine", 0, func(_ *testing.T, s *setup) string {
		s.set("VODRELAY_ADMIN_LISTEN=192.0.2.1:9464")
		return fmt.Sprintf("admin: {token: %q}\n", strings.Repeat("a", 32))
	}, busy, "cannot assign requested address"},
	{"admin port that only root may take", nobody, func(t *testing.T, s *setup) string {
		privileged(t)
		s.set("VODRELAY_ADMIN_LISTEN=127.0.0.1:81")
		return "store: {driver: none}\n"
	}, hopeless, "permission denied"},
	{"admin token of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "token")
		require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("a", 32)), 0o600))
		return fmt.Sprintf("store: {driver: none}\nadmin: {token_file: %q}\n", path)
	}, hopeless, "permission denied"},
	{"callback address in use", 0, func(t *testing.T, _ *setup) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return receiverOn(l.Addr().String())
	}, busy, "address already in use"},
	{"callback port that only root may take", nobody, func(t *testing.T, _ *setup) string {
		privileged(t)
		return "store: {driver: none}\n" + receiverOn("127.0.0.1:82")
	}, hopeless, "permission denied"},
	{"callback certificate of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "cert.pem")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		return strings.Replace(receiverOn("127.0.0.1:0"), "sign_key", fmt.Sprintf("tls: {cert_file: %q, key_file: %q}, sign_key", path, path), 1)
	}, hopeless, "permission denied"},
	{"callback key in a file of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "key")
		require.NoError(t, os.WriteFile(path, []byte("0123456789abcdef"), 0o600))
		return fmt.Sprintf("sources: [pull, callback]\ncallback: {listen: 127.0.0.1:0, sign_key_file: %q}\n", path)
	}, hopeless, "permission denied"},
}

// receiverOn is the configuration of one beside the pulls.
func receiverOn(address string) string {
	return fmt.Sprintf("sources: [pull, callback]\ncallback: {listen: %q, sign_key: 0123456789abcdef0123456789abcdef}\n", address)
}

// privileged skips where every user may take the low ports.
func privileged(t *testing.T) {
	t.Helper()
	least, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(least)) != "1024" {
		t.Skip("NOT TESTED: every user may take a low port here")
	}
}

// deniedTo has the API refuse an action.
func deniedTo(action, code string) func(*testing.T, *setup) string {
	return func(t *testing.T, s *setup) string {
		t.Helper()
		_, err := s.cloud.AddFault(emulator.Fault{Kind: emulator.FaultError, Action: action, Code: code, Rate: 1})
		require.NoError(t, err)
		return ""
	}
}

// undated puts a proxy before the API that leaves the Date of its replies out.
func undated(t *testing.T, s *setup) string {
	t.Helper()
	const name = "VODRELAY_VOD_ENDPOINT="
	for i, v := range s.environ {
		endpoint, found := strings.CutPrefix(v, name)
		if !found {
			continue
		}
		target, err := url.Parse(endpoint)
		require.NoError(t, err)
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.ModifyResponse = func(res *http.Response) error { res.Header.Del("Date"); return nil }
		s.environ[i] = name + serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil // net/http would add its own
			proxy.ServeHTTP(w, r)
		}))
	}
	return ""
}

// off has this machine's clock be ahead of the API's.
func off(ahead time.Duration) func(*testing.T, *setup) string {
	return func(_ *testing.T, s *setup) string {
		s.cloud.SetClockSkew(-ahead)
		return ""
	}
}

var brokenKeys = []broken{
	{"secret key of another ID", 0, func(_ *testing.T, s *setup) string {
		s.set("TENCENTCLOUD_SECRET_KEY=another")
		return ""
	}, hopeless, "does not belong to the SecretId"},
	{"secret ID that does not exist", 0, func(_ *testing.T, s *setup) string {
		s.set("TENCENTCLOUD_SECRET_ID=another")
		return ""
	}, passing, "SecretIdNotFound"},
	{"key in a file of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "key")
		require.NoError(t, os.WriteFile(path, []byte("key"), 0o600))
		return fmt.Sprintf("vod: {credentials: {provider: static, secret_id: id, secret_key_file: %q}}\n", path)
	}, hopeless, "permission denied"},
	{"credentials in a directory of another owner", nobody, func(t *testing.T, s *setup) string {
		dir := openDir(t)
		for _, name := range []string{"secret_id", "secret_key"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("key"), 0o600))
		}
		s.without("TENCENTCLOUD_")
		s.set("CREDENTIALS_DIRECTORY=" + dir)
		return "store: {driver: none}\n"
	}, hopeless, "permission denied"},
	{"no credentials", 0, func(_ *testing.T, s *setup) string {
		s.without("TENCENTCLOUD_")
		return "vod: {credentials: {provider: env}}\n"
	}, hopeless, "TENCENTCLOUD_SECRET_ID is not set"},
	{"proxy in a file of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "proxy")
		require.NoError(t, os.WriteFile(path, []byte("http://127.0.0.1:1"), 0o600))
		return fmt.Sprintf("store: {driver: none}\nvod: {proxy_file: %q}\n", path)
	}, hopeless, "permission denied"},
	{"application of another account", 0, func(_ *testing.T, s *setup) string {
		s.set("VODRELAY_VOD_SUB_APP_IDS=1500000009")
		return ""
	}, hopeless, "vod.sub_app_ids"},
	{"no right to confirm", 0, deniedTo(emulator.ActionConfirmEvents, "UnauthorizedOperation"), hopeless, "vod:ConfirmEvents"},
	{"no right to read the mode", 0, deniedTo(emulator.ActionDescribeEventConfig, "UnauthorizedOperation"), warned, "vod:DescribeEventConfig"},
	{"no right to read the state", 0, deniedTo(emulator.ActionDescribeEventsState, "UnauthorizedOperation"), warned, "vod:DescribeEventsState"},
	{"endpoint where nobody is", 0, func(t *testing.T, s *setup) string {
		s.set("VODRELAY_VOD_ENDPOINT=http://" + programtest.FreeAddress(t))
		return ""
	}, passing, "connection refused"},
	{"clock that is right", 0, func(*testing.T, *setup) string { return "" }, fine, "of the server's"},
	{"clock that is a minute ahead", 0, off(time.Minute), warned, "ahead of the server's"},
	{"clock that is a minute behind", 0, off(-time.Minute), warned, "behind the server's"},
	{"clock that is 10 minutes ahead", 0, off(10 * time.Minute), passing, "ahead of the server's"},
	{"clock that is 10 minutes behind", 0, off(-10 * time.Minute), passing, "behind the server's"},
	{"clock that nobody can measure", 0, undated, fine, "could not be measured"},
}

// serveHTTP runs a server until the test ends and returns its address.
func serveHTTP(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	return "http://" + l.Addr().String()
}
