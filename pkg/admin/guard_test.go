package admin

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

var (
	openPaths    = []string{"/metrics", "/livez", "/readyz", "/status", "/style.css"}
	guardedPaths = []string{"/", "/parcels", "/parcels/" + fmt.Sprintf("%032x", 1), "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol"}
)

func TestTokenGuardsWhatShowsOrChangesEvents(t *testing.T) {
	store := &fakeStore{parcels: []event.Parcel{parcel(1, "site", event.ParcelDead)}, changed: 1}
	s := start(t, Config{Token: goodToken, Pprof: true}, someOptions(store), defaultLimits)
	for _, path := range openPaths {
		require.NotEqual(t, http.StatusUnauthorized, s.get(path).status, path)
	}
	wrong := []string{
		"", "Bearer", "Bearer ", "Bearer " + goodToken + "x", "Bearer " + goodToken[1:], goodToken, "Token " + goodToken,
		"Basic " + base64.StdEncoding.EncodeToString([]byte(goodToken+":")), "Basic !!!",
	}
	right := []string{
		"Bearer " + goodToken, "bearer " + goodToken,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:"+goodToken)),
	}
	for _, path := range guardedPaths {
		for _, credentials := range wrong {
			got := s.get(path, "Authorization", credentials)
			require.Equal(t, http.StatusUnauthorized, got.status, "%s %q", path, credentials)
			require.Len(t, got.header.Values("WWW-Authenticate"), 2)
			require.NotContains(t, got.body, goodToken)
		}
		for _, credentials := range right {
			require.Equal(t, http.StatusOK, s.get(path, "Authorization", credentials).status, "%s %q", path, credentials)
		}
	}
	for path, body := range map[string]string{"/parcels/replay": `{"all":true}`, "/parcels/drop": `{"all":true}`, "/parcels/move": `{"from":"old","to":"site"}`} {
		require.Equal(t, http.StatusUnauthorized, s.post(path, body).status)
		require.Equal(t, http.StatusOK, s.post(path, body, "Authorization", right[0]).status)
	}
	require.Len(t, store.moves, 1)
	require.Len(t, store.filters, 2+len(right), "only what had the token reached the store")
}

func TestTokenFileIsReadAtEachUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte(goodToken+"\n"), 0o600))
	s := start(t, Config{TokenFile: path}, someOptions(&fakeStore{}), defaultLimits)
	const next = "fedcba9876543210"
	require.Equal(t, http.StatusOK, s.get("/parcels", "Authorization", "Bearer "+goodToken).status)
	require.NoError(t, os.WriteFile(path, []byte(next), 0o600))
	require.Equal(t, http.StatusUnauthorized, s.get("/parcels", "Authorization", "Bearer "+goodToken).status)
	require.Equal(t, http.StatusOK, s.get("/parcels", "Authorization", "Bearer "+next).status)
	require.NoError(t, os.Remove(path))
	require.Equal(t, http.StatusServiceUnavailable, s.get("/parcels", "Authorization", "Bearer "+next).status)
	require.Equal(t, http.StatusServiceUnavailable, s.get("/parcels", "Authorization", "Bearer ").status, "a file that is gone is no empty token")
}

func TestLoopbackAnswersOnlyToItsOwnNames(t *testing.T) {
	s := start(t, Config{}, someOptions(&fakeStore{}), defaultLimits)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:9464": 200, "LocalHost:1": 200, "app.localhost": 200, "localhost.": 200,
		"127.0.0.1:9464": 200, "[::1]": 200, "[::1]:9464": 200, "10.1.2.3": 200,
		"evil.example": 421, "evil.example:9464": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421,
		"evil-localhost": 421, "0x7f.1": 421,
	} {
		for _, path := range append(openPaths, guardedPaths[:3]...) {
			if got := s.get(path, "Host", host); want == 200 {
				require.NotEqual(t, 421, got.status, "%s %s", host, path)
			} else {
				require.Equal(t, want, got.status, "%s %s", host, path)
			}
		}
	}
}

// On another address a page whose name resolves to it would read what asks for no token.
func TestOtherAddressesAnswerToNoNameOfAStranger(t *testing.T) {
	s, err := New(Config{Listen: "0.0.0.0:0", Token: goodToken, Hosts: []string{"relay.example.com"}}, nil, someOptions(nil))
	require.NoError(t, err)
	ask := func(host, path string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = host
		s.handler().ServeHTTP(w, r)
		return w.Code
	}
	for _, path := range append(openPaths, guardedPaths...) {
		require.Equal(t, http.StatusMisdirectedRequest, ask("evil.example:9464", path), path)
	}
	// As probes, Prometheus and people name it.
	for _, host := range []string{"10.1.2.3:9464", "[fd00::1]:9464", "vodrelay", "vodrelay.media.svc:9464", "vodrelay.media.svc.cluster.local:9464", "localhost:9464", "relay.example.com"} {
		require.Equal(t, http.StatusOK, ask(host, "/livez"), host)
		require.Equal(t, http.StatusOK, ask(host, "/status"), host)
	}
	require.NoError(t, s.Shutdown(t.Context()))
}

// A client of ours reaches the server under the name that it listens by.
func TestTheNameThatItListensByIsItsOwn(t *testing.T) {
	s, err := New(Config{Listen: "relay-1.example.com:9464", Token: goodToken}, nil, someOptions(nil))
	require.NoError(t, err)
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://relay-1.example.com:9464/status", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestCrossSiteRequestsAreRefused(t *testing.T) {
	store := &fakeStore{changed: 1}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for _, headers := range [][]string{
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Origin", "http://127.0.0.1:1"}, // another server on this machine
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"},
	} {
		require.Equal(t, http.StatusForbidden, s.post("/parcels/drop", `{"all":true}`, headers...).status, headers)
	}
	// What a form can send without asking.
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		require.Equal(t, http.StatusUnsupportedMediaType, s.post("/parcels/drop", `{"all":true}`, "Content-Type", media).status, media)
	}
	require.Empty(t, store.filters)

	require.Equal(t, http.StatusOK, s.post("/parcels/drop", `{"all":true}`).status, "a command")
	require.Equal(t, http.StatusOK, s.post("/parcels/drop", `{"all":true}`, "Origin", s.url, "Sec-Fetch-Site", "same-origin").status, "a page of ours")

	require.Equal(t, http.StatusForbidden, s.get("/parcels", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors").status, "embedded")
	require.Equal(t, http.StatusOK, s.get("/", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate").status, "a link")
}

func TestSecurityHeaders(t *testing.T) {
	s := start(t, Config{}, someOptions(&fakeStore{}), defaultLimits)
	for _, path := range append(append([]string{"/nowhere"}, openPaths...), guardedPaths...) {
		got := s.get(path)
		require.Contains(t, got.header.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"), path)
		require.Equal(t, "same-origin", got.header.Get("Cross-Origin-Resource-Policy"), path)
		require.Empty(t, got.header.Get("Access-Control-Allow-Origin"), path)
	}
}

func TestMethods(t *testing.T) {
	store := &fakeStore{changed: 1}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for _, path := range []string{"/parcels/replay", "/parcels/drop", "/parcels/move"} {
		require.Equal(t, http.StatusBadRequest, s.get(path).status, "read as the ID of an event: nothing is changed by a GET")
	}
	require.Equal(t, http.StatusMethodNotAllowed, s.ask(http.MethodDelete, "/parcels", "").status)
	require.Equal(t, http.StatusMethodNotAllowed, s.ask(http.MethodPut, "/status", "").status)
	require.Equal(t, http.StatusNotFound, s.get("/nowhere").status)
	require.Empty(t, store.filters)
}

func TestHTTP10WithoutHost(t *testing.T) {
	s := start(t, Config{}, someOptions(nil), defaultLimits)
	conn, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("GET /livez HTTP/1.0\r\n\r\n"))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
