package vod

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// seen is one request as the server saw it.
type seen struct {
	header http.Header
	host   string
	body   string
}

// recorder answers with reply and keeps the requests.
func recorder(reply string) (http.HandlerFunc, func() []seen) {
	var mu sync.Mutex
	var all []seen
	return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			all = append(all, seen{r.Header.Clone(), r.Host, r.Method + " " + r.URL.String() + " " + string(body)})
			mu.Unlock()
			write(w, reply)
		}, func() []seen {
			mu.Lock()
			defer mu.Unlock()
			return all
		}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	empty := ""
	for _, row := range []struct {
		action, body string
		call         func(c *Client) error
	}{
		{"PullEvents", `{}`, func(c *Client) error { _, err := c.Queue(0).Pull(ctx); return err }},
		{"PullEvents", `{"SubAppId":1500000001}`, func(c *Client) error { _, err := c.Queue(1500000001).Pull(ctx); return err }},
		{"PullEvents", `{"SubAppId":18446744073709551615}`, func(c *Client) error { _, err := c.Queue(1<<64 - 1).Pull(ctx); return err }},
		{"ConfirmEvents", `{"SubAppId":7,"EventHandles":["a","b 😀"]}`, func(c *Client) error { return c.Queue(7).Confirm(ctx, []string{"a", "b 😀"}) }},
		{"DescribeEventsState", `{"SubAppId":7}`, func(c *Client) error { _, err := c.QueueDepth(ctx, 7); return err }},
		{"DescribeEventConfig", `{}`, func(c *Client) error { _, err := c.EventConfig(ctx, 0); return err }},
		{"ModifyEventConfig", `{"SubAppId":7,"Mode":"PULL","UploadMediaCompleteEventSwitch":"ON","DeleteMediaCompleteEventSwitch":"OFF","PersistenceCompleteEventSwitch":"ON"}`,
			func(c *Client) error {
				return c.SetEventConfig(ctx, 7, EventConfigChange{Mode: ModePull, UploadMediaComplete: On, DeleteMediaComplete: Off, PersistenceComplete: On})
			}},
		{"ModifyEventConfig", `{"NotificationUrl":"","UploadMediaCompleteEventSwitch":"ON","DeleteMediaCompleteEventSwitch":"ON","PersistenceCompleteEventSwitch":"ON"}`,
			func(c *Client) error {
				return c.SetEventConfig(ctx, 0, EventConfigChange{NotificationURL: &empty, UploadMediaComplete: On, DeleteMediaComplete: On, PersistenceComplete: On})
			}},
	} {
		h, all := recorder(okReply)
		require.NoError(t, row.call(client(t, h)), row.action)
		require.Len(t, all(), 1)
		got := all()[0]
		require.Equal(t, "POST / "+row.body, got.body)
		require.Equal(t, row.action, got.header.Get("X-TC-Action"))
		require.Equal(t, "2018-07-17", got.header.Get("X-TC-Version"))
		require.Equal(t, "en-US", got.header.Get("X-TC-Language"))
		require.Equal(t, testTok, got.header.Get("X-TC-Token"))
		require.Contains(t, got.header.Get("X-TC-RequestClient"), "vodrelay")
		require.Contains(t, got.header.Get("Authorization"), "TC3-HMAC-SHA256 Credential="+testID+"/")
		require.NotContains(t, got.header, "X-Idempotency-Key")
		require.NotContains(t, got.header, "X-Tc-Region")
		require.Equal(t, "127.0.0.1:1", got.host)
	}
}

func TestConfirmCounts(t *testing.T) {
	t.Parallel()
	h, all := recorder(okReply)
	q := client(t, h).Queue(0)
	require.True(t, retry.IsPermanent(q.Confirm(context.Background(), nil)))
	require.True(t, retry.IsPermanent(q.Confirm(context.Background(), make([]string, event.MaxBatch+1))))
	require.Empty(t, all())
}

func TestConfirmStale(t *testing.T) {
	t.Parallel()
	err := client(t, answer(apiError("InvalidParameterValue", "4000"))).Queue(0).Confirm(context.Background(), []string{"a"})
	require.ErrorIs(t, err, event.ErrStaleHandle)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "req-1", e.RequestID())
	require.Equal(t, "InvalidParameterValue", e.Code)
}

func TestState(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	depth, err := client(t, answer(`{"Response":{"CountOfEventsToPull":9007199254740993,"RequestId":"r"}}`)).QueueDepth(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, uint64(9007199254740993), depth)

	_, err = client(t, answer(`{"Response":{"CountOfEventsToPull":"many","RequestId":"r"}}`)).QueueDepth(ctx, 1)
	require.ErrorContains(t, err, "CountOfEventsToPull is not of the documented type")

	cfg, err := client(t, answer(`{"Response":{"Mode":"PULL","NotificationUrl":null,"UploadMediaCompleteEventSwitch":"ON","DeleteMediaCompleteEventSwitch":"OFF","PersistenceCompleteEventSwitch":"ON","RequestId":"r"}}`)).EventConfig(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, EventConfig{Mode: ModePull, UploadMediaComplete: On, DeleteMediaComplete: Off, PersistenceComplete: On}, cfg)
	require.Equal(t, EventConfigChange{Mode: ModePull, UploadMediaComplete: On, DeleteMediaComplete: Off, PersistenceComplete: On}, cfg.Change())
	text, err := json.Marshal(cfg)
	require.NoError(t, err)
	require.JSONEq(t, `{"mode":"PULL","notification_url":"","upload_media_complete":"ON","delete_media_complete":"OFF","persistence_complete":"ON"}`, string(text))
}

func TestSetEventConfigRefusesHalfAChange(t *testing.T) {
	t.Parallel()
	h, all := recorder(okReply)
	c := client(t, h)
	for _, change := range []EventConfigChange{
		{},
		{Mode: ModePull, UploadMediaComplete: On, DeleteMediaComplete: On},
		{Mode: "pull", UploadMediaComplete: On, DeleteMediaComplete: On, PersistenceComplete: On},
		{UploadMediaComplete: "on", DeleteMediaComplete: On, PersistenceComplete: On},
	} {
		require.True(t, retry.IsPermanent(c.SetEventConfig(context.Background(), 0, change)), change)
	}
	require.Empty(t, all())
}

// The pollers of a busy queue must not pay for a handshake at each poll.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	const pollers, polls = 32, 20
	var open atomic.Int32
	gate := make(chan struct{})
	var waiting atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if waiting.Add(1) <= pollers { // all are in flight at once
			if waiting.Load() == pollers {
				close(gate)
			}
			<-gate
		}
		write(w, oneEvent)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			open.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	cfg := testConfig()
	cfg.Endpoint = server.URL
	c, err := New(cfg)
	require.NoError(t, err)
	defer c.Close()
	var group sync.WaitGroup
	for range pollers {
		group.Go(func() {
			for range polls {
				if got, err := c.Queue(0).Pull(context.Background()); err != nil || len(got) != 1 {
					t.Errorf("%v %v", got, err)
				}
			}
		})
	}
	group.Wait()
	require.LessOrEqual(t, int(open.Load()), pollers)
}

// A request whose reply is lost is an error also on a connection that was used before, where net/http could send it
// again in silence: it may have been carried out.
func TestALostReplyIsNotHidden(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	var killed atomic.Bool
	m := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 2 && killed.CompareAndSwap(false, true) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.Close()
			return
		}
		write(w, okReply)
	}))
	c := newClient(t, m, testConfig())
	confirm := func() error { return c.Queue(0).Confirm(context.Background(), []string{"a"}) }
	require.NoError(t, confirm())
	err := confirm()
	require.ErrorContains(t, err, "without a reply")
	require.False(t, retry.HadNoEffect(err))
	require.NoError(t, confirm())
	require.Equal(t, 2, m.dials())
	require.EqualValues(t, 3, requests.Load())
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("HTTP/%d", r.ProtoMajor)
		}
		write(w, oneEvent)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // one client below does not trust it
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport := newTransport(nil, nil)
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.NextProtos = nil
	cfg := testConfig()
	cfg.Endpoint = server.URL
	c, err := New(cfg, WithTransport(transport))
	require.NoError(t, err)
	defer c.Close()
	got, err := c.Queue(0).Pull(context.Background())
	require.NoError(t, err)
	require.Len(t, got, 1)

	untrusting, err := New(cfg)
	require.NoError(t, err)
	defer untrusting.Close()
	_, err = untrusting.Queue(0).Pull(context.Background())
	require.EqualError(t, err, "PullEvents: the server's certificate is signed by an unknown authority")
	require.Contains(t, retry.Hint(err), "ca-certificates")
}

func TestPanicOfTransport(t *testing.T) {
	t.Parallel()
	c, err := New(testConfig(), WithTransport(roundTripper(func(*http.Request) (*http.Response, error) { panic("boom") })))
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Queue(0).Pull(context.Background())
	require.ErrorContains(t, err, "panicked: boom")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A program that embeds the relay may use the SDK itself; its global client must stay its own.
func TestDefaultHTTPClientIsRefused(t *testing.T) { //nolint:paralleltest // changes a global of the SDK
	common.DefaultHttpClient = &http.Client{}
	defer func() { common.DefaultHttpClient = nil }()
	_, err := New(testConfig())
	require.ErrorContains(t, err, "DefaultHttpClient")
	require.Nil(t, common.DefaultHttpClient.Transport)
}

func TestContextIsFirst(t *testing.T) {
	t.Parallel()
	h, all := recorder(oneEvent)
	c := client(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Queue(0).Pull(ctx)
	require.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	require.ErrorIs(t, c.Queue(0).Confirm(ctx, []string{"a"}), context.DeadlineExceeded)
	require.Empty(t, all())
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	for _, row := range []struct {
		change func(*Config)
		want   []string
	}{
		{func(c *Config) { c.Endpoint = "" }, []string{"endpoint: "}},
		{func(c *Config) { c.Endpoint = "ftp://vod" }, []string{`endpoint: "ftp://vod": must begin with https://`}},
		{func(c *Config) { c.Endpoint = "https://vod.tencentcloudapi.com/v2" }, []string{"endpoint: ", "more than scheme"}},
		{func(c *Config) { c.Endpoint = "https://u:VERYSECRET@vod" }, []string{"endpoint: has a user name"}},
		{func(c *Config) { c.Endpoint = "http://[::1" }, []string{"endpoint: "}},
		{func(c *Config) { c.SubAppIDs = []uint64{1, 0, 1} }, []string{"sub_app_ids: 0", "sub_app_ids: 1: is there twice"}},
		{func(c *Config) { c.RateLimit = 0 }, []string{"rate_limit: 0"}},
		{func(c *Config) { c.Proxy = "http://u:VERYSECRET@%" }, []string{"proxy: is not an address"}},
		{func(c *Config) { c.Proxy = "ftp://u:VERYSECRET@h" }, []string{`proxy: cannot use scheme "ftp"`}},
		{func(c *Config) { c.Proxy, c.ProxyFile = "http://h", "/f" }, []string{"proxy_file: "}},
		{func(c *Config) { c.PullTimeout = 5 * time.Second }, []string{"pull_timeout: 5s: must be from 6s"}},
		{func(c *Config) { c.CallTimeout, c.ReadTimeout = 0, time.Minute }, []string{"call_timeout: 0s", "read_timeout: 1m0s"}},
		{func(c *Config) { c.MaxReplyBytes = 1 }, []string{"max_reply_bytes: 1"}},
		{func(c *Config) { c.Credentials.Provider = "x" }, []string{`credentials.provider: "x"`}},
		{func(c *Config) { c.Credentials.Provider, c.Credentials.Base = "static", "y" }, []string{"credentials.base", "credentials.secret_id: is missing"}},
		{func(c *Config) { c.Credentials.SecretKey = "VERYSECRET" }, []string{"credentials.secret_id: is missing"}},
		{func(c *Config) { c.Credentials.SecretID = "x" }, []string{"credentials.secret_key: is missing"}},
		{func(c *Config) { c.Credentials.Provider = "assume_role" }, []string{"credentials.role_arn: is missing"}},
		{func(c *Config) {
			c.Credentials.Duration, c.Credentials.Timeout, c.Credentials.SessionName, c.Credentials.Profile, c.Credentials.STSEndpoint, c.Credentials.MetadataURL = 0, 0, "", "../x", "a b", "x://"
		}, []string{"credentials.duration", "credentials.timeout", "credentials.session_name", "credentials.profile", "credentials.sts_endpoint", "credentials.metadata_url"}},
	} {
		cfg := DefaultConfig()
		row.change(&cfg)
		err := cfg.Validate()
		for _, want := range row.want {
			require.ErrorContains(t, err, want)
		}
		require.Len(t, strings.Split(err.Error(), "\n"), max(len(row.want), 1)-boolToInt(len(row.want) == 2 && strings.HasPrefix(row.want[1], "more")))
		require.NotContains(t, err.Error(), "VERYSECRET")
		_, newErr := New(cfg)
		require.Equal(t, err.Error(), newErr.Error())
	}
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]endpoint{
		"vod.tencentcloudapi.com":         {"https", "vod.tencentcloudapi.com"},
		"https://vod.tencentcloudapi.com": {"https", "vod.tencentcloudapi.com"},
		"http://127.0.0.1:8080/":          {"http", "127.0.0.1:8080"},
		"http://[::1]:8080":               {"http", "[::1]:8080"},
		"localhost:8080":                  {"https", "localhost:8080"},
	} {
		got, err := parseEndpoint(text, DefaultEndpoint)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for host, want := range map[string]bool{"localhost": true, "localhost:1": true, "127.0.0.9:1": true, "[::1]:80": true, "[::1]": true, "example.com": false, "10.0.0.1:80": false} {
		require.Equal(t, want, endpoint{host: host}.loopback(), host)
	}
}

func TestErrorsOfTheNetworkAreStable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := testConfig()
	cfg.Endpoint = "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())
	c, err := New(cfg)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Queue(0).Pull(context.Background())
	require.EqualError(t, err, "PullEvents: dial: connection refused")
	var op *net.OpError
	require.True(t, errors.As(err, &op), "the cause is kept")
	require.Contains(t, retry.Hint(err), "vod.endpoint")
	require.False(t, retry.IsPermanent(err))
}
