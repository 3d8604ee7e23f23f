package emulator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const testApp = 1500000001

// testClient is a client written from the public description of the API, so
// that nothing of the server's code judges itself.
type testClient struct {
	url    string
	http   *http.Client
	id     string
	key    string
	token  string
	change func(*http.Request) // after signing
}

// tc3 signs as described at https://www.tencentcloud.com/document/product/267/37447.
func tc3(id, key, service, contentType, host string, stamp int64, body string) string {
	date := time.Unix(stamp, 0).UTC().Format("2006-01-02")
	return tc3On(date, id, key, service, contentType, host, stamp, body)
}

func tc3On(date, id, key, service, contentType, host string, stamp int64, body string) string {
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	hm := func(k []byte, s string) []byte { h := hmac.New(sha256.New, k); h.Write([]byte(s)); return h.Sum(nil) }
	canonical := "POST\n/\n\ncontent-type:" + contentType + "\nhost:" + host + "\n\ncontent-type;host\n" + sum(body)
	scope := date + "/" + service + "/tc3_request"
	text := fmt.Sprintf("TC3-HMAC-SHA256\n%d\n%s\n%s", stamp, scope, sum(canonical))
	signature := hex.EncodeToString(hm(hm(hm(hm([]byte("TC3"+key), date), service), "tc3_request"), text))
	return "TC3-HMAC-SHA256 Credential=" + id + "/" + scope + ", SignedHeaders=content-type;host, Signature=" + signature
}

func (c *testClient) request(ctx context.Context, action, body string) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	stamp := time.Now().Unix()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-TC-Action", action)
	r.Header.Set("X-TC-Version", "2018-07-17")
	r.Header.Set("X-TC-Timestamp", fmt.Sprint(stamp))
	if c.token != "" {
		r.Header.Set("X-TC-Token", c.token)
	}
	r.Header.Set("Authorization", tc3(c.id, c.key, "vod", "application/json", r.URL.Host, stamp, body))
	if c.change != nil {
		c.change(r)
	}
	return r
}

type testAnswer struct {
	Status int
	Header http.Header
	Body   []byte

	Code      string
	Message   string
	RequestID string
	EventSet  []json.RawMessage
	Fields    map[string]json.RawMessage
}

func (a *testAnswer) handles() []string {
	handles := make([]string, 0, len(a.EventSet))
	for _, raw := range a.EventSet {
		var e struct{ EventHandle string }
		if json.Unmarshal(raw, &e) == nil {
			handles = append(handles, e.EventHandle)
		}
	}
	return handles
}

func (c *testClient) raw(ctx context.Context, action, body string) (*testAnswer, error) {
	resp, err := c.http.Do(c.request(ctx, action, body))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := &testAnswer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(resp.Body)
	return a, err
}

func (c *testClient) call(action, body string) (*testAnswer, error) {
	a, err := c.raw(context.Background(), action, body)
	if err != nil {
		return nil, err
	}
	var envelope struct {
		Response map[string]json.RawMessage
	}
	if err := json.Unmarshal(a.Body, &envelope); err != nil {
		return nil, fmt.Errorf("%w: %s", err, a.Body)
	}
	a.Fields = envelope.Response
	var e struct{ Code, Message string }
	if raw, ok := a.Fields["Error"]; ok {
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
	}
	a.Code, a.Message = e.Code, e.Message
	_ = json.Unmarshal(a.Fields["RequestId"], &a.RequestID)
	_ = json.Unmarshal(a.Fields["EventSet"], &a.EventSet)
	return a, nil
}

func (c *testClient) must(t *testing.T, action, body string) *testAnswer {
	t.Helper()
	a, err := c.call(action, body)
	require.NoError(t, err)
	require.Equal(t, 200, a.Status)
	require.NotEmpty(t, a.RequestID)
	return a
}

func appBody(app uint64) string { return fmt.Sprintf(`{"SubAppId":%d}`, app) }

func (c *testClient) pull(t *testing.T) *testAnswer {
	t.Helper()
	return c.must(t, ActionPullEvents, appBody(testApp))
}

func (c *testClient) confirm(t *testing.T, handles ...string) *testAnswer {
	t.Helper()
	b, err := json.Marshal(map[string]any{"EventHandles": handles, "SubAppId": uint64(testApp)})
	require.NoError(t, err)
	return c.must(t, ActionConfirmEvents, string(b))
}

// inBubble runs f in a synctest bubble with a server on a network in memory.
func inBubble(t *testing.T, opts Options, f func(t *testing.T, s *Server, c *testClient)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := NewNetwork()
		withServer(t, opts, network, network.DialContext, "http://emulator", f)
	})
}

// onTCP runs f with a server on a real socket.
func onTCP(t *testing.T, opts Options, f func(t *testing.T, s *Server, c *testClient)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	withServer(t, opts, l, (&net.Dialer{}).DialContext, "http://"+l.Addr().String(), f)
}

func withServer(t *testing.T, opts Options, l net.Listener, dial func(context.Context, string, string) (net.Conn, error),
	url string, f func(t *testing.T, s *Server, c *testClient)) {
	s := New(opts)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 100}
	defer func() {
		transport.CloseIdleConnections()
		s.Close()
		require.NoError(t, <-served)
	}()
	f(t, s, &testClient{url: url, http: &http.Client{Transport: transport}, id: DefaultSecretID, key: DefaultSecretKey})
}

// uploads returns n small events whose payload tells them apart.
func uploads(n int) []json.RawMessage {
	list := make([]json.RawMessage, n)
	for i := range list {
		list[i] = fmt.Appendf(nil, `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"%d"}}`, i+1)
	}
	return list
}

// fileIDs reads the FileIds of what was pulled.
func fileIDs(a *testAnswer) string {
	var ids []string
	for _, raw := range a.EventSet {
		var e struct{ FileUploadEvent struct{ FileId string } }
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&e); err != nil {
			panic(err)
		}
		ids = append(ids, e.FileUploadEvent.FileId)
	}
	return strings.Join(ids, " ")
}
