package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a sink for url that is closed with the test.
func open(t *testing.T, url string, change ...func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.URL = url
	cfg.Proxy = "none"
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// capture is an endpoint that keeps the last request.
type capture struct {
	mu     sync.Mutex
	header http.Header
	host   string
	method string
	proto  string
	path   string
	body   []byte
}

func (c *capture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header, c.host, c.method, c.proto, c.path, c.body = r.Header, r.Host, r.Method, r.Proto, r.URL.RequestURI(), body
	w.WriteHeader(http.StatusNoContent)
}

// endpoint is one that can be switched off and on again, on the same port.
type endpoint struct {
	address  string
	listener net.Listener
	server   *http.Server
	done     chan struct{}
	moved    atomic.Int32 // what was started before a move answers 404

	mu          sync.Mutex
	bodies      [][]byte
	ids         []string
	stall       chan struct{}
	answer      int // 0: it accepts
	location    string
	certificate tls.Certificate // none: no TLS
}

func (p *endpoint) start(t *testing.T) {
	listener, err := net.Listen("tcp", p.address)
	require.NoError(t, err)
	p.address = listener.Addr().String()
	p.listener = listener
	mine := p.moved.Load()
	p.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.moved.Load() > mine {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		p.ServeHTTP(w, r)
	})}
	p.done = make(chan struct{})
	if p.certificate.Certificate != nil {
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{p.certificate}})
	}
	go func() { defer close(p.done); _ = p.server.Serve(listener) }()
}

// answers has the endpoint give this answer to all that it is sent.
func (p *endpoint) answers(code int, location string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer, p.location = code, location
}

// mistake is one of the endpoint's operator that shows as this answer.
func (p *endpoint) mistake(name string, code int, location string) sinktest.Mistake {
	return sinktest.Mistake{
		Name: name,
		Make: func(*testing.T) { p.answers(code, location) },
		Fix:  func(*testing.T) { p.answers(0, "") },
	}
}

func (p *endpoint) stop(t *testing.T) {
	require.NoError(t, p.server.Close())
	<-p.done
}

func (p *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	p.mu.Lock()
	stall, answer, location := p.stall, p.answer, p.location
	p.mu.Unlock()
	if answer != 0 {
		w.Header().Set("Location", location)
		w.WriteHeader(answer)
		return
	}
	if stall != nil {
		select {
		case <-stall:
		case <-r.Context().Done():
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if user, password, _ := r.BasicAuth(); err != nil || user != "vod" || password != "hunter2" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if bytes.Contains(body, []byte("Refused")) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodies, p.ids = append(p.bodies, body), append(p.ids, r.Header.Get("Idempotency-Key"))
}

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		cert, ca, _ := certificate(t, time.Now().Add(time.Hour))
		other, _, _ := certificate(t, time.Now().Add(time.Hour))
		p := &endpoint{address: "127.0.0.1:0", certificate: cert}
		p.start(t)
		t.Cleanup(func() { p.stop(t) })
		w := wire.New(t, p.address)
		return sinktest.Harness{
			Sink: open(t, "https://vod:hunter2@"+w.Address()+"/hook?token=t0ken", func(c *Config) { c.TLS.CAFile = ca }),
			Received: func(*testing.T) [][]byte {
				p.mu.Lock()
				defer p.mu.Unlock()
				return append([][]byte(nil), p.bodies...)
			},
			IDs: func(*testing.T) []string {
				p.mu.Lock()
				defer p.mu.Unlock()
				return slices.Clone(p.ids)
			},
			Break: p.stop,
			Mend:  p.start,
			Stall: func(*testing.T) func() {
				stall := make(chan struct{})
				set := func(c chan struct{}) { p.mu.Lock(); defer p.mu.Unlock(); p.stall = c }
				set(stall)
				return func() { set(nil); close(stall) }
			},
			Strand: func(*testing.T) { w.Strand() },
			Mistakes: []sinktest.Mistake{
				p.mistake("password replaced", http.StatusUnauthorized, ""),
				p.mistake("rights withdrawn", http.StatusForbidden, ""),
				p.mistake("path not there", http.StatusNotFound, ""),
				p.mistake("method not allowed", http.StatusMethodNotAllowed, ""),
				p.mistake("proxy in the way", http.StatusProxyAuthRequired, ""),
				p.mistake("moved", http.StatusPermanentRedirect, "https://example.com/?token=t0ken"),
				{Name: "name moved to another host", Make: p.move, Fix: p.start},
				{
					Name: "certificate replaced",
					Make: func(t *testing.T) { p.restart(t, other) },
					Fix:  func(t *testing.T) { p.restart(t, cert) },
				},
			},
			Refused: map[string]event.Event{"validation": {ID: "r", Type: "Refused", Raw: []byte(`{"EventType":"Refused"}`)}},
			Secrets: []string{"hunter2", "t0ken"},
		}
	})
}

// move leaves the connections that there are to a host which is no endpoint any more.
func (p *endpoint) move(t *testing.T) {
	require.NoError(t, p.listener.Close())
	<-p.done
	p.moved.Add(1)
	old := p.server
	t.Cleanup(func() { _ = old.Close() })
}

func (p *endpoint) restart(t *testing.T, certificate tls.Certificate) {
	p.stop(t)
	p.certificate = certificate
	p.start(t)
}

func TestRequest(t *testing.T) {
	var got capture
	server := serve(t, got.ServeHTTP)
	bearer := filepath.Join(t.TempDir(), "bearer")
	require.NoError(t, os.WriteFile(bearer, []byte("Bearer one\n"), 0o600))
	s := open(t, server.URL+"/a%2Fb?q=1#part", func(c *Config) {
		c.Method = http.MethodPut
		c.Headers = map[string]string{"x-tenant": "7", "host": "other.example"}
		c.HeadersFile = map[string]string{"authorization": bearer}
	})
	e := sinktest.Upload(1)
	require.NoError(t, s.Send(t.Context(), e))
	require.Equal(t, string(sinktest.Body(t, e)), string(got.body))
	require.Equal(t, http.MethodPut, got.method)
	require.Equal(t, "/a%2Fb?q=1", got.path)
	require.Equal(t, "other.example", got.host)
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "vodrelay", "Idempotency-Key": e.DedupID(), "Webhook-Id": e.DedupID(),
		"X-Tenant": "7", "Authorization": "Bearer one", "Webhook-Signature": "",
	} {
		require.Equal(t, want, got.header.Get(name), name)
	}

	// The file is replaced, as Kubernetes does it, then goes missing.
	require.NoError(t, os.WriteFile(bearer+".new", []byte("Bearer two\n"), 0o600))
	require.NoError(t, os.Rename(bearer+".new", bearer))
	require.NoError(t, s.Send(t.Context(), e))
	require.Equal(t, "Bearer two", got.header.Get("Authorization"))
	require.NoError(t, os.Remove(bearer))
	err := s.Send(t.Context(), e)
	require.ErrorContains(t, err, "headers_file: ")
	require.NotEmpty(t, retry.Hint(err))
	require.False(t, retry.IsPermanent(err))
}

func TestFormats(t *testing.T) {
	var got capture
	server := serve(t, got.ServeHTTP)
	for name, e := range sinktest.OddEvents() {
		body := string(sinktest.Body(t, e))
		require.NoError(t, open(t, server.URL, func(c *Config) { c.Format = event.FormatCloudEventsBinary }).Send(t.Context(), e), name)
		require.Equal(t, body, string(got.body), name)
		require.Equal(t, e.ID, got.header.Get("Ce-Id"), name)
		require.Equal(t, "1.0", got.header.Get("Ce-Specversion"), name)
		require.Equal(t, "//vod.tencentcloudapi.com/1500000001", got.header.Get("Ce-Source"), name)
		require.Equal(t, "application/json", got.header.Get("Content-Type"), name)

		require.NoError(t, open(t, server.URL, func(c *Config) { c.Format = event.FormatCloudEvents }).Send(t.Context(), e), name)
		require.Equal(t, "application/cloudevents+json; charset=utf-8", got.header.Get("Content-Type"), name)
		var envelope struct{ Data json.RawMessage }
		require.NoError(t, json.Unmarshal(got.body, &envelope), name)
		require.Equal(t, body, string(envelope.Data), name)
	}
}

func TestSignature(t *testing.T) {
	const first, second = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "plain text secret"
	raw := strings.ReplaceAll(second, " ", "-")
	var got capture
	server := serve(t, got.ServeHTTP)
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(first+"\n"), 0o600))
	e := sinktest.OddEvents()["emoji"]
	standard, err := standardwebhooks.NewWebhook(first)
	require.NoError(t, err)
	plain, err := standardwebhooks.NewWebhookRaw([]byte(raw))
	require.NoError(t, err)

	require.NoError(t, open(t, server.URL, func(c *Config) { c.Secret = first }).Send(t.Context(), e))
	require.NoError(t, standard.Verify(got.body, got.header))
	require.Error(t, plain.Verify(got.body, got.header))
	require.Equal(t, e.DedupID(), got.header.Get("webhook-id"))

	require.NoError(t, open(t, server.URL, func(c *Config) { c.Secret = raw }).Send(t.Context(), e))
	require.NoError(t, plain.Verify(got.body, got.header))
	require.Error(t, standard.Verify(append(got.body, ' '), got.header))

	s := open(t, server.URL, func(c *Config) { c.SecretFile = path })
	require.NoError(t, s.Send(t.Context(), e))
	require.NoError(t, standard.Verify(got.body, got.header))
	// Two keys while the receiver changes over.
	require.NoError(t, os.WriteFile(path, []byte(raw+"\n"+first), 0o600))
	require.NoError(t, s.Send(t.Context(), e))
	require.NoError(t, standard.Verify(got.body, got.header))
	require.NoError(t, plain.Verify(got.body, got.header))
	require.NoError(t, os.WriteFile(path, []byte("whsec_!"), 0o600))
	err = s.Send(t.Context(), e)
	require.ErrorContains(t, err, "secret_file: the secret is not base64 behind whsec_")
	require.False(t, retry.IsPermanent(err))
}

// TestStatus has every status, in the four classes of results.
func TestStatus(t *testing.T) {
	code := 0
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	s := open(t, server.URL)
	for code = 200; code < 600; code++ {
		err := s.Send(t.Context(), sinktest.Upload(0))
		if code < 300 {
			require.NoError(t, err, code)
			continue
		}
		require.Error(t, err, code)
		refused := slices.Contains([]int{400, 410, 413, 414, 415, 422}, code)
		require.Equal(t, refused, retry.IsPermanent(err), code)
		require.Zero(t, retry.Delay(err))
		require.NotEmpty(t, retry.Hint(err), code)
		require.Equal(t, server.URL+" answered "+statusText(code), err.Error())
	}
	for status, hint := range map[int]string{401: "credentials", 403: "credentials", 404: "path", 405: "method", 410: "filter", 413: "client_max_body_size"} {
		code = status
		require.Contains(t, retry.Hint(s.Send(t.Context(), sinktest.Upload(0))), hint)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                  0,
		"0":                                 0,
		"7":                                 7 * time.Second,
		" 120 ":                             2 * time.Minute,
		"3600":                              time.Hour,
		"3601":                              time.Hour,
		"99999999999999999999":              time.Hour,
		"-5":                                0,
		"1.5":                               0,
		"soon":                              0,
		"Wed, 01 Jul 2026 12:00:30 GMT":     30 * time.Second,
		"Wednesday, 01-Jul-26 12:01:00 GMT": time.Minute,
		"Wed Jul  1 12:02:00 2026":          2 * time.Minute,
		"Wed, 01 Jul 2026 11:59:00 GMT":     0,
		"Fri, 01 Jan 2100 00:00:00 GMT":     time.Hour,
	} {
		require.Equal(t, want, retryAfter(value, now), value)
	}
	for code, want := range map[int]time.Duration{429: 7 * time.Second, 503: 7 * time.Second, 500: 7 * time.Second, 404: 7 * time.Second, 400: 0, 413: 0} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(code)
		})
		require.Equal(t, want, retry.Delay(open(t, server.URL).Send(t.Context(), sinktest.Upload(0))), code)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-1", "Wed, 01 Jul 2026 12:00:30 GMT", "9223372036854775807", ""} {
		f.Add(seed)
	}
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		d := retryAfter(value, now)
		require.GreaterOrEqual(t, d, time.Duration(0))
		require.LessOrEqual(t, d, maxRetryAfter)
	})
}

func TestRedirect(t *testing.T) {
	var got capture
	elsewhere := serve(t, got.ServeHTTP)
	to := ""
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusPermanentRedirect)
	})
	s := open(t, server.URL)
	for location, hint := range map[string]string{
		elsewhere.URL + "/path?token=t0ken":    ", on " + elsewhere.URL,
		"https://user:t0ken@example.com/t0ken": ", on https://example.com",
		"/t0ken":                               ", on " + server.URL,
		"":                                     "",
		"http://[":                             "",
	} {
		to = location
		for _, err := range []error{s.Send(t.Context(), sinktest.Upload(0)), s.Check(t.Context())} {
			require.False(t, retry.IsPermanent(err))
			require.Equal(t, "redirects are not followed: set url to the final address"+hint, retry.Hint(err))
			require.NotContains(t, err.Error(), "t0ken")
		}
	}
	require.Empty(t, got.method, "the redirect was not followed")
}

// TestRefusalBody stays out of the error and comes into the log at debug, without what is secret.
func TestRefusalBody(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "no such field\r\n\x1b[31m"+r.Header.Get("Authorization")+" hunter2hunter2 "+strings.Repeat("x", 5000))
	})
	core, logs := observer.New(zapcore.DebugLevel)
	s, err := New(Config{URL: server.URL, Method: "POST", Headers: map[string]string{"Authorization": "Bearer hunter2hunter2"}}, zap.New(core))
	require.NoError(t, err)
	defer func() { _ = s.Close(t.Context()) }()
	require.EqualError(t, s.Send(t.Context(), sinktest.Upload(0)), server.URL+" answered 400 Bad Request")
	require.Equal(t, 1, logs.Len())
	body := logs.All()[0].ContextMap()["body"].(string)
	require.Contains(t, body, "no such field")
	require.LessOrEqual(t, len(body), excerptBytes)
	require.NotContains(t, body, "hunter2")
	require.NotContains(t, body, "\n")
	require.NotContains(t, body, "\x1b")
}

func TestCheck(t *testing.T) {
	code := 0
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.Header.Get("X-Token") != "t" {
			code = http.StatusTeapot
		}
		w.WriteHeader(code)
	})
	s := open(t, server.URL, func(c *Config) { c.Headers = map[string]string{"X-Token": "t"} })
	const good, doubtful, bad = "good", "doubtful", "bad"
	for status, want := range map[int]string{200: good, 204: good, 400: good, 405: good, 411: good, 415: good, 422: good, 501: good,
		301: doubtful, 308: doubtful, 401: doubtful, 403: doubtful, 404: doubtful, 410: doubtful, 429: doubtful, 500: doubtful,
		407: bad, 502: bad, 503: bad, 504: bad} {
		code = status
		err := s.Check(t.Context())
		require.Equal(t, want == good, err == nil, "%d: %v", status, err)
		require.Equal(t, want == doubtful, retry.IsDoubtful(err), "%d: %v", status, err)
		require.Equal(t, status, code, "the request was not as expected")
		if err != nil {
			require.NotEmpty(t, retry.Hint(err))
			require.ErrorContains(t, err, strconv.Itoa(status))
		}
	}
}

func TestNotJSON(t *testing.T) {
	s := open(t, "http://127.0.0.1:1")
	require.True(t, retry.IsPermanent(s.Send(t.Context(), event.Event{Raw: json.RawMessage("{")})))
}
