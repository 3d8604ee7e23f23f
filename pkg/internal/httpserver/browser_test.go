package httpserver

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func guarded(loopback bool, hosts ...string) http.Handler {
	return Guard{
		Loopback: func(*http.Request) bool { return loopback }, Hosts: hosts, Key: "x.hosts",
		Fail: func(w http.ResponseWriter, status int, text string) { http.Error(w, text, status) },
	}.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
}

func TestHost(t *testing.T) {
	machine, err := os.Hostname()
	require.NoError(t, err)
	for host, where := range map[string]string{
		// Wherever the server listens.
		"": "both", "localhost": "both", "LocalHost:9464": "both", "app.localhost.": "both", "127.0.0.1:9464": "both", "[::1]": "both",
		"[::1]:9464": "both", "10.1.2.3": "both", "10.1.2.3:9464": "both", "[2001:db8::1]:80": "both", "203.0.113.7": "both",
		"relay.example.com": "both", "RELAY.example.com:443": "both", "relay.example.com.": "both",
		// Where a network reaches it: its names.
		"vodrelay": "public", "vodrelay:9464": "public", "my_relay-1": "public", machine: "public", machine + ":9464": "public",
		"vodrelay.media.svc": "public", "vodrelay.media.svc:9464": "public", "vodrelay.media.svc.cluster.local:9464": "public",
		"10-1-2-3.media.pod.cluster.local": "public", "relay-1.internal": "public", "relay.local": "public", "relay.home.arpa": "public",
		// Names that a stranger may have.
		"evil.example": "", "evil.example:9464": "", "127.0.0.1.evil.example": "", "localhost.evil.example": "", "evil-localhost.example": "",
		"vodrelay.media": "", "svc.evil.example": "", "evil.localhost.example": "", "x.relay.example.com": "", "evil.svc.example": "", "0x7f.1": "",
	} {
		for _, loopback := range []bool{true, false} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = host
			w := httptest.NewRecorder()
			guarded(loopback, "Relay.example.com").ServeHTTP(w, r)
			want := http.StatusMisdirectedRequest
			if where == "both" || where == "public" && !loopback {
				want = http.StatusOK
			}
			require.Equal(t, want, w.Code, "%q, loopback: %t", host, loopback)
			if want != http.StatusOK {
				require.Contains(t, w.Body.String(), "add the name to x.hosts")
			}
		}
	}
}

func TestForeignPages(t *testing.T) {
	ask := func(method string, headers ...string) int {
		r := httptest.NewRequest(method, "/", nil)
		r.Host = "10.1.2.3:9464"
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		guarded(false).ServeHTTP(w, r)
		return w.Code
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		require.Equal(t, http.StatusOK, ask(method), "a program")
		require.Equal(t, http.StatusOK, ask(method, "Origin", "http://10.1.2.3:9464"), "a page of its own")
		require.Equal(t, http.StatusForbidden, ask(method, "Origin", "http://evil.example"))
		require.Equal(t, http.StatusForbidden, ask(method, "Origin", "null"))
		require.Equal(t, http.StatusForbidden, ask(method, "Sec-Fetch-Site", "same-site"))
	}
	require.Equal(t, http.StatusForbidden, ask(http.MethodGet, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"), "embedded")
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"), "a link")
}

func TestCameByLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1": true, "::1": true, "10.1.2.3": false} {
		local := &net.TCPAddr{IP: net.ParseIP(addr), Port: 80}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		require.Equal(t, want, CameByLoopback(r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))), addr)
	}
	require.False(t, CameByLoopback(httptest.NewRequest(http.MethodGet, "/", nil)))
}

func TestCheckHost(t *testing.T) {
	for _, good := range []string{"relay.example.com", "relay", "xn--bcher-kva.example"} {
		require.NoError(t, CheckHost(good))
	}
	for _, bad := range []string{"", "relay.example.com:443", "https://relay.example.com", "*.example.com", "bücher.example", "a b"} {
		require.Error(t, CheckHost(bad), bad)
	}
}

func FuzzHost(f *testing.F) {
	for _, host := range []string{"localhost", "[::1]:80", "127.0.0.1:9464", "a.localhost:x", "[", ":", "evil.example"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		u, err := url.Parse("http://" + host + "/")
		if err != nil || u.Host != host || !IsLocalName(host) {
			return // no browser sends it, or it is refused
		}
		name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
		if _, err := netip.ParseAddr(name); err != nil && name != "" && name != "localhost" && !strings.HasSuffix(name, ".localhost") {
			t.Fatalf("%q, which is %q, is taken for this machine", host, name)
		}
	})
}
