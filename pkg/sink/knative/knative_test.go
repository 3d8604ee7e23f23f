package knative

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/client"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bind is the environment of a container that Knative has bound to url.
func bind(t *testing.T, url, overrides string) {
	t.Setenv(envSink, url)
	t.Setenv(envOverrides, overrides)
	t.Setenv(envCACerts, "")
	t.Setenv("NO_PROXY", "*")
}

func open(t *testing.T, change ...func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// receiver is a program on the CloudEvents SDK.
type receiver struct {
	address string
	stop    func()

	mu     sync.Mutex
	events []cloudevents.Event
	answer protocol.Result
}

func (r *receiver) start(t *testing.T) {
	if r.address == "" {
		r.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", r.address)
	require.NoError(t, err)
	r.address = listener.Addr().String()
	p, err := cehttp.New(cehttp.WithListener(listener), cehttp.WithShutdownTimeout(time.Millisecond))
	require.NoError(t, err)
	c, err := client.New(p)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.StartReceiver(ctx, func(e cloudevents.Event) protocol.Result {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.answer == nil {
				r.events = append(r.events, e)
			}
			return r.answer
		})
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		_ = listener.Close()
	})
}

func (r *receiver) received() []cloudevents.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]cloudevents.Event(nil), r.events...)
}

func receive(t *testing.T) *receiver {
	r := &receiver{}
	r.start(t)
	t.Cleanup(func() { r.stop() })
	return r
}

func TestContract(t *testing.T) {
	for _, format := range []event.Format{event.FormatCloudEventsBinary, event.FormatCloudEvents} {
		t.Run(string(format), func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Harness {
				r := receive(t)
				bind(t, "http://vod:hunter2@"+r.address+"/default", `{"extensions":{"region":"ap-guangzhou"}}`)
				return sinktest.Harness{
					Sink: open(t, func(c *Config) { c.Format = format }),
					Received: func(t *testing.T) (bodies [][]byte) {
						for _, e := range r.received() {
							require.NoError(t, e.Validate())
							require.Equal(t, "ap-guangzhou", e.Extensions()["region"])
							bodies = append(bodies, e.Data())
						}
						return bodies
					},
					IDs: func(*testing.T) (ids []string) {
						for _, e := range r.received() {
							ids = append(ids, e.Source()+" "+e.ID())
						}
						return ids
					},
					Break:   func(*testing.T) { r.stop() },
					Mend:    r.start,
					Secrets: []string{"hunter2"},
				}
			})
		})
	}
}

// TestReceiver has the CloudEvents SDK read back every attribute. In headers it leaves the percent-encoding, which the
// specification wants undone, to its user.
func TestReceiver(t *testing.T) {
	for _, format := range []event.Format{event.FormatCloudEventsBinary, event.FormatCloudEvents} {
		t.Run(string(format), func(t *testing.T) {
			r := receive(t)
			bind(t, "http://"+r.address, `{"extensions":{"region":"广州 \"%20\"","tier":"from env"}}`)
			s := open(t, func(c *Config) {
				c.Format = format
				c.Extensions = map[string]string{"tier": "from file", "team": "video"}
			})
			for _, e := range append([]event.Event{sinktest.Upload(1)}, sinktest.OddEvents()["no type"], sinktest.OddEvents()["odd type"]) {
				require.NoError(t, s.Send(t.Context(), e))
				all := r.received()
				got := all[len(all)-1]
				text := func(value any) string {
					if format == event.FormatCloudEvents {
						return value.(string)
					}
					decoded, err := url.PathUnescape(value.(string))
					require.NoError(t, err)
					return decoded
				}
				require.NoError(t, got.Validate())
				require.Equal(t, e.ID, got.ID())
				require.Equal(t, "//vod.tencentcloudapi.com/1500000001", got.Source())
				require.Equal(t, "com.tencentcloud.vod."+e.Type, text(got.Type()))
				require.Equal(t, e.Subject(), got.Subject())
				require.Equal(t, "application/json", got.DataContentType())
				require.Len(t, got.Extensions(), 3)
				for name, value := range map[string]string{"region": `广州 "%20"`, "tier": "from env", "team": "video"} {
					require.Equal(t, value, text(got.Extensions()[name]))
				}
				require.Equal(t, string(sinktest.Body(t, e)), string(got.Data()))
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	r := receive(t)
	bind(t, "http://"+r.address, "")
	s := open(t)
	require.NoError(t, s.Check(t.Context()))
	require.Empty(t, r.received())
	for code, permanent := range map[int]bool{400: true, 401: false, 403: false, 404: false, 409: false, 410: true, 413: true, 422: true, 429: false, 500: false, 503: false} {
		r.mu.Lock()
		r.answer = cehttp.NewResult(code, "%w", protocol.ResultNACK)
		r.mu.Unlock()
		err := s.Send(t.Context(), sinktest.Upload(0))
		require.Error(t, err, code)
		require.Equal(t, permanent, retry.IsPermanent(err), err)
	}
}

func TestTLSAndToken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("s3cr3t-1\n"), 0o600))
	var mu sync.Mutex
	var seen []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	bind(t, server.URL, "")
	s := open(t)
	require.ErrorContains(t, s.Send(t.Context(), sinktest.Upload(0)), "unknown authority")

	t.Setenv(envCACerts, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	s = open(t, func(c *Config) { c.TokenFile = token })
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, os.WriteFile(token, []byte("s3cr3t-two"), 0o600))
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.NoError(t, os.WriteFile(token, []byte("s3cr3t\nthree"), 0o600))
	err := s.Send(t.Context(), sinktest.Upload(0))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cr3t")
	require.Equal(t, []string{"Bearer s3cr3t-1", "Bearer s3cr3t-two"}, seen)
}

func TestConfig(t *testing.T) {
	require.False(t, (func() bool { t.Setenv(envSink, ""); return Bound() })())
	for _, c := range []struct {
		name, sink, overrides, certs string
		change                       func(*Config)
		want                         string // "" for a good one
	}{
		{name: "bound", sink: "http://broker-ingress.knative-eventing.svc.cluster.local/default/default", overrides: `{"extensions":{"a1":"b"}}`},
		{name: "no overrides", sink: "http://x", overrides: ""},
		{name: "null", sink: "http://x", overrides: "null"},
		{name: "empty", sink: "http://x", overrides: "{}"},
		{name: "new members", sink: "http://x", overrides: `{"other":1}`},
		{name: "url without a binding", change: func(c *Config) { c.URL = "https://x/y" }},
		{name: "url wins", sink: "nonsense", change: func(c *Config) { c.URL = "https://x/y" }},
		{name: "not bound", want: `url: "": name the sink`},
		{name: "odd sink", sink: "x", want: `K_SINK in the environment: url: "x": needs a scheme`},
		{name: "odd url", change: func(c *Config) { c.URL = "ftp://u:s3cr3t@x" }, want: "must start with https:// or http://"},
		{name: "odd overrides", sink: "http://x", overrides: "[", want: "K_CE_OVERRIDES in the environment cannot be read: write {"},
		{name: "odd extensions", sink: "http://x", overrides: `{"extensions":{"a":1}}`, want: "K_CE_OVERRIDES in the environment cannot be read"},
		{name: "odd name", sink: "http://x", overrides: `{"extensions":{"A-b":"c"}}`, want: `K_CE_OVERRIDES in the environment: "A-b": must consist of`},
		{name: "own name", sink: "http://x", overrides: `{"extensions":{"source":"c"}}`, want: `"source": is an attribute that vodrelay sets`},
		{name: "odd value", sink: "http://x", change: func(c *Config) { c.Extensions = map[string]string{"a": "b\nc"} }, want: `extensions: "a": its value must be text`},
		{name: "format", sink: "http://x", change: func(c *Config) { c.Format = "callback" }, want: `format: "callback": use cloudevents-binary or cloudevents`},
		{name: "certificates", sink: "https://x", certs: "x", want: "K_CA_CERTS in the environment has no certificate"},
		{name: "other certificates", sink: "https://x", certs: "x", change: func(c *Config) { c.TLS.CAFile = "/nowhere" }, want: "tls.ca_file"},
		{name: "no token", sink: "http://x", change: func(c *Config) { c.TokenFile = "/nowhere" }, want: `token_file: "/nowhere"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			bind(t, c.sink, c.overrides)
			t.Setenv(envCACerts, c.certs)
			require.Equal(t, c.sink != "", Bound())
			cfg := DefaultConfig()
			if c.change != nil {
				c.change(&cfg)
			}
			err := cfg.Validate()
			if c.want == "" {
				require.NoError(t, err)
				open(t, func(o *Config) { *o = cfg })
				return
			}
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "s3cr3t")
			_, err = New(cfg, zaptest.NewLogger(t))
			require.Error(t, err)
		})
	}
}

func FuzzOverrides(f *testing.F) {
	for _, seed := range []string{`{"extensions":{"a":"b"}}`, "null", "[", `{"extensions":{"é":"\u0000"}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, overrides string) {
		attributes, err := DefaultConfig().extensions(overrides)
		if err != nil {
			return
		}
		for _, a := range attributes {
			e := cloudevents.New()
			e.SetExtension(a.Name, a.Value)
			require.Contains(t, e.Extensions(), strings.ToLower(a.Name))
		}
	})
}
