package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/callback"
	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// crowd keeps n connections to address open from another address of this machine, and opens each again a second
// after it was closed. hold says what there is to say on one, while ctx lasts. Most have been open when it returns.
func crowd(t *testing.T, n int, from, address string, hold func(ctx context.Context, c net.Conn)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	opened := make(chan struct{}, n)
	t.Cleanup(func() { cancel(); all.Wait() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	for range n {
		all.Go(func() {
			first := sync.OnceFunc(func() { opened <- struct{}{} })
			for ctx.Err() == nil {
				if c, err := dialer.DialContext(ctx, "tcp", address); err == nil {
					first()
					over := context.AfterFunc(ctx, func() { _ = c.Close() })
					held, end := context.WithCancel(ctx)
					all.Go(func() { hold(held, c) })
					_, _ = io.Copy(io.Discard, c) // until it is closed
					end()
					_ = c.Close()
					over()
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		})
	}
	for range n * 3 / 4 { // the kernel makes some wait
		<-opened
	}
}

// What strangers do with connections.
func silent(context.Context, net.Conn) {}

func idle(_ context.Context, c net.Conn) {
	_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

// dribbling sends a byte of a header each second.
func dribbling(ctx context.Context, c net.Conn) {
	text := "POST /vod HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + strings.Repeat("x", 1000)
	for i := range text {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// VOD waits 5 s for an answer, three times; whoever else is connected, it must get one.
func TestStrangersDoNotKeepTheReceiverFromAnybody(t *testing.T) {
	const key = "abcdefghij0123456789"
	for name, c := range map[string]struct {
		from string
		hold func(context.Context, net.Conn)
	}{
		"from elsewhere, silent":    {"127.0.0.2", silent},
		"from elsewhere, dribbling": {"127.0.0.2", dribbling},
		"allowed, silent":           {"127.0.0.1", silent},
		"allowed, dribbling":        {"127.0.0.1", dribbling},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, environ := startEmulator(t, emulator.Options{})
			environ = slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, "TENCENTCLOUD_") })
			dir, listen := t.TempDir(), programtest.FreeAddress(t)
			d := startDaemon(t, environ, fmt.Sprintf("sources: [callback]\ncallback: {listen: %q, path: /vod, sign_key: %s, allow: [127.0.0.1]}\nstore: {path: %q}\nsinks: [{type: file, path: %q}]\n",
				listen, key, filepath.Join(dir, "s.db"), filepath.Join(dir, "events.jsonl")))
			crowd(t, 1200, c.from, listen, c.hold)
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			post := func(signed []byte) (answered int) {
				for range 3 {
					resp, err := client.Post("http://"+listen+"/vod", "application/json", bytes.NewReader(signed))
					if err == nil {
						_ = resp.Body.Close()
						return resp.StatusCode
					}
				}
				return 0
			}
			for _, content := range emulator.GenerateUploads(10, 1) {
				signed, err := callback.Sign(content, key, time.Now().Add(callback.SignLife))
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, post(signed))
			}
			resp, err := client.Get("http://" + listen + "/healthz")
			require.NoError(t, err, "a load balancer's probe")
			_ = resp.Body.Close()
			require.Equal(t, http.StatusOK, resp.StatusCode)
			_, metrics := d.try("/metrics")
			reason := "replaced"
			if c.from != "127.0.0.1" {
				reason = "stranger"
			}
			require.Regexp(t, `vodrelay_connections_closed_total{reason="`+reason+`",server="callback"} [1-9]`, metrics)
			d.signal(syscall.SIGTERM)
			require.Zero(t, d.wait())
		})
	}
}

// A supervisor restarts what does not answer its probes.
func TestConnectionsAtTheAdminPortDoNotKeepOutProbes(t *testing.T) {
	for name, c := range map[string]struct {
		connections int
		hold        func(context.Context, net.Conn)
	}{
		"300 kept":       {300, idle},
		"3,000 kept":     {3000, idle},
		"3,000 silent":   {3000, silent},
		"1,000 dribbled": {1000, dribbling},
	} {
		t.Run(name, func(t *testing.T) {
			_, environ := startEmulator(t, emulator.Options{})
			d := startDaemon(t, environ, "store: {driver: none}\n")
			crowd(t, c.connections, "127.0.0.3", d.address, c.hold)
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			for _, path := range []string{"/livez", "/livez", "/livez", "/readyz", "/status", "/metrics"} {
				resp, err := client.Get("http://" + d.address + path)
				require.NoError(t, err, path)
				_ = resp.Body.Close()
				require.Equal(t, http.StatusOK, resp.StatusCode, path)
			}
		})
	}
}

// A page whose name is made to resolve to this address has its name in Host.
func TestARebindingPageReadsNothing(t *testing.T) {
	t.Parallel()
	_, environ := startEmulator(t, emulator.Options{})
	environ = append(environ, "VODRELAY_ADMIN_TOKEN=0123456789abcdef0123456789abcdef")
	d := configured(t, environ, "store: {driver: none}\n")
	_, port, err := net.SplitHostPort(d.address)
	require.NoError(t, err)
	d.process = start(t, append(d.environ, "VODRELAY_ADMIN_LISTEN=0.0.0.0:"+port, "VODRELAY_ADMIN_HOSTS=relay.example.com"), "run", "-c", d.path)
	ask := func(path, host string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
		require.NoError(t, err)
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, ""
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	eventually(t, "it is ready", func() bool { code, _ := ask("/readyz", "127.0.0.1"); return code == http.StatusOK })
	for _, path := range []string{"/", "/status", "/metrics", "/parcels", "/livez", "/readyz?verbose"} {
		code, body := ask(path, "evil.example:"+port)
		require.Equal(t, http.StatusMisdirectedRequest, code, path)
		require.Contains(t, body, "admin.hosts", path)
	}
	for _, host := range []string{"10.1.2.3:" + port, "vodrelay.media.svc:" + port, "vodrelay", "relay.example.com"} {
		for _, path := range []string{"/livez", "/status", "/metrics"} {
			code, _ := ask(path, host)
			require.Equal(t, http.StatusOK, code, "%s %s", host, path)
		}
	}
}

// What a page of another site can have a browser send does nothing, as it is or under a name of its own.
func TestAForeignPageCannotUseTheEmulator(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		p := start(t, []string{"HOME=" + t.TempDir()}, "emulator", "--listen", listen)
		var address string
		eventually(t, "it listens", func() bool {
			found := regexp.MustCompile(`control API at http://([^/]+)/_emulator/`).FindStringSubmatch(p.stderr.String())
			if found != nil {
				_, port, err := net.SplitHostPort(found[1])
				require.NoError(t, err)
				address = net.JoinHostPort("127.0.0.1", port)
			}
			return found != nil
		})
		ask := func(method, path, body string, headers ...string) (int, string) {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
			require.NoError(t, err)
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
				if headers[i] == "Host" {
					r.Host = headers[i+1]
				}
			}
			resp, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			answer, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return resp.StatusCode, string(answer)
		}
		publish, event := "/_emulator/events?sub_app_id=1500000001", `{"EventType":"NewFileUpload"}`
		_, before := ask("GET", "/_emulator/state", "")
		for _, headers := range [][]string{
			{"Host", "evil.example:9090"},                                                                   // DNS rebinding
			{"Host", "evil.example:9090", "Origin", "http://evil.example:9090"},                             // its own page, for the browser
			{"Host", "evil.example", "Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"},      // likewise
			{"Origin", "https://evil.example", "Content-Type", "text/plain"},                                // fetch without asking
			{"Sec-Fetch-Site", "cross-site", "Content-Type", "application/x-www-form-urlencoded"},           // a form
			{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"},    // a form that opens a page
			{"Origin", "null", "Content-Type", "multipart/form-data; boundary=x", "Sec-Fetch-Mode", "cors"}, // from a sandbox
		} {
			for _, path := range []string{publish, "/_emulator/reset", "/_emulator/release", "/_emulator/mode?mode=PUSH&sub_app_id=1500000001&url=http://evil.example/"} {
				code, answer := ask("POST", path, event, headers...)
				require.Contains(t, []int{http.StatusForbidden, http.StatusMisdirectedRequest}, code, "%s %v: %s", path, headers, answer)
			}
			code, _ := ask("DELETE", "/_emulator/faults", "", headers...)
			require.Contains(t, []int{http.StatusForbidden, http.StatusMisdirectedRequest}, code)
		}
		code, _ := ask("GET", "/_emulator/journal", "", "Host", "evil.example:9090")
		require.Equal(t, http.StatusMisdirectedRequest, code)
		code, _ = ask("GET", "/_emulator/journal", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors")
		require.Equal(t, http.StatusForbidden, code)
		_, after := ask("GET", "/_emulator/state", "")
		require.Equal(t, before, after)

		// As curl sends it, with --data-binary, and by the names that programs use.
		for _, host := range []string{address, "localhost:9090"} {
			code, answer := ask("POST", publish, event, "Host", host, "User-Agent", "curl/8.5.0", "Accept", "*/*", "Content-Type", "application/x-www-form-urlencoded")
			require.Equal(t, http.StatusOK, code, answer)
		}
		code, answer := ask("GET", "/_emulator/", "")
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, answer, "The control API")
		p.signal(syscall.SIGTERM)
		require.Zero(t, p.wait())
	}
}
