package callback

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestListen(t *testing.T) {
	s := receiver(t, testConfig(), nil, &recorder{})
	require.Nil(t, s.Addr())
	require.NoError(t, s.Listen(t.Context()))
	require.NoError(t, s.Listen(t.Context()), "again changes nothing")
	cfg := testConfig()
	cfg.Listen = s.Addr().String()
	err := receiver(t, cfg, nil, &recorder{}).Listen(t.Context())
	require.ErrorContains(t, err, "callback: listen tcp "+cfg.Listen)
	require.Contains(t, retry.Hint(err), "callback.listen")
	_, err = New(testConfig(), nil, nil)
	require.ErrorContains(t, err, "there is no handler")
	_, err = New(Config{}, nil, &recorder{})
	require.ErrorContains(t, err, "listen")
}

func TestWhatAnUnsignedReceiverMeansIsToldOnce(t *testing.T) {
	for key, want := range map[string]int{"": 1, testKey: 0} {
		cfg := testConfig()
		cfg.SignKey = key
		core, logged := observer.New(zapcore.WarnLevel)
		s := receiver(t, cfg, zap.New(core), &recorder{})
		url := serve(t, s)
		client := http.Client{}
		for i := range 3 {
			body := notification(i)
			if key != "" {
				body = signed(t, body, key, time.Minute)
			}
			status, err := post(&client, url, []byte(body))
			require.NoError(t, err)
			require.Equal(t, 200, status)
		}
		client.CloseIdleConnections()
		require.Equal(t, want, logged.FilterMessageSnippet("there is no sign_key").Len())
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	cfg := testConfig()
	cfg.AnswerWithin, cfg.MaxConnections = 300*time.Millisecond, 4
	limit := defaultLimits
	limit.header, limit.idle = 200*time.Millisecond, 200*time.Millisecond
	s := receiverWithin(t, cfg, nil, &recorder{}, limit)
	url := serve(t, s)
	began := time.Now()
	for _, prefix := range []string{
		"",         // says nothing
		"POST / H", // never ends its headers
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{\"Event", // never ends its body
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Eve",
	} {
		_, err := io.WriteString(dial(t, s), prefix)
		require.NoError(t, err)
	}
	client := http.Client{}
	defer client.CloseIdleConnections()
	status, err := post(&client, url, []byte(notification(1))) // all connections are taken, for a time
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Less(t, time.Since(began), 5*time.Second)

	drip := dial(t, s)
	_, err = io.WriteString(drip, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n")
	require.NoError(t, err)
	go func() {
		for range 100 {
			if _, err := io.WriteString(drip, " "); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(drip), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
	require.True(t, resp.Close)
}

// A load balancer asks for a path of its own, which asks for nothing.
func TestProbe(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(testKey), 0o600))
	cfg := testConfig()
	cfg.SignKeyFile, cfg.Allow, cfg.TrustedProxies = key, []string{"203.0.113.7"}, []string{"127.0.0.1"}
	s := receiver(t, cfg, nil, &recorder{})
	url := strings.TrimSuffix(serve(t, s), "/") + "/healthz"
	client := http.Client{}
	defer client.CloseIdleConnections()
	probe := func(method string) (int, string) {
		r, err := http.NewRequest(method, url, nil)
		require.NoError(t, err)
		resp, err := client.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	status, text := probe(http.MethodGet)
	require.Equal(t, 200, status)
	require.Equal(t, "ok\n", text)
	status, _ = probe(http.MethodHead)
	require.Equal(t, 200, status)
	status, _ = probe(http.MethodPost)
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.NoError(t, os.Remove(key))
	status, text = probe(http.MethodGet)
	require.Equal(t, 503, status, "no notification can be accepted")
	require.NotContains(t, text, key)
	require.NoError(t, os.WriteFile(key, []byte(testKey), 0o600))
	status, _ = probe(http.MethodGet)
	require.Equal(t, 200, status)
	require.Zero(t, s.Stats().Requests, "none of these was a notification")

	require.NoError(t, s.Shutdown(t.Context()))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	require.Equal(t, 503, w.Code)
	require.Equal(t, "vodrelay is stopping\n", w.Body.String())

	cfg.ProbePath = ""
	w = httptest.NewRecorder()
	receiver(t, cfg, nil, &recorder{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	require.Equal(t, 404, w.Code)
}

// Who may not post gets no connection; a proxy gets one, since it names whom it posts for.
func TestConnectionsAreForThoseWhoMayPost(t *testing.T) {
	for addr, c := range map[string]struct {
		allow, proxies []string
		answered       bool
	}{
		"nobody is excluded":   {nil, nil, true},
		"allowed":              {[]string{"127.0.0.0/8"}, nil, true},
		"a proxy":              {[]string{"203.0.113.7"}, []string{"127.0.0.1"}, true},
		"a stranger":           {[]string{"203.0.113.7"}, nil, false},
		"beside another proxy": {[]string{"203.0.113.7"}, []string{"127.0.0.2"}, false},
	} {
		t.Run(addr, func(t *testing.T) {
			cfg := testConfig()
			cfg.Allow, cfg.TrustedProxies = c.allow, c.proxies
			s := receiver(t, cfg, nil, &recorder{})
			url := serve(t, s)
			client := http.Client{}
			defer client.CloseIdleConnections()
			_, err := post(&client, url, []byte(notification(1)))
			require.Equal(t, c.answered, err == nil, err)
			require.Equal(t, !c.answered, s.Stats().Connections.Closed[httpserver.Stranger] > 0)
		})
	}
}

func TestHeadersAreBounded(t *testing.T) {
	s := receiver(t, testConfig(), nil, &recorder{})
	serve(t, s)
	conn := dial(t, s)
	go func() {
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}

func TestATruncatedBodyIsNoEvent(t *testing.T) {
	h := &recorder{}
	s := receiver(t, testConfig(), nil, h)
	serve(t, s)
	for _, head := range []string{"Content-Length: 600\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n78\r\n"} {
		conn := dial(t, s)
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+head+notification(1))
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, 400, resp.StatusCode)
	}
	require.Zero(t, h.calls())
}

func TestAStopFinishesWhatIsInHand(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	h := &recorder{decide: func(ctx context.Context, _ event.Delivery, _ int) error {
		close(begun)
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	for _, cut := range []bool{false, true} {
		begun, release = make(chan struct{}), make(chan struct{})
		limit := defaultLimits
		limit.stop = 300 * time.Millisecond
		if !cut {
			limit.stop = 10 * time.Second
		}
		s, err := newServer(testConfig(), nil, h, limit)
		require.NoError(t, err)
		require.NoError(t, s.Listen(t.Context()))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx) }()
		client := http.Client{}
		answers := make(chan int, 1)
		go func() {
			status, _ := post(&client, "http://"+s.Addr().String()+"/", []byte(notification(1)))
			answers <- status
		}()
		<-begun
		hanging := dial(t, s) // does not hold up the end
		_, err = io.WriteString(hanging, "POST / HT")
		require.NoError(t, err)
		began := time.Now()
		stop()
		want := 503
		if !cut {
			want = 200
			time.Sleep(50 * time.Millisecond)
			_, err := net.Dial("tcp", s.Addr().String())
			require.Error(t, err, "nothing is accepted any more")
			close(release)
		}
		require.Equal(t, want, <-answers)
		require.NoError(t, <-ended)
		require.Less(t, time.Since(began), 3*time.Second)
		require.Error(t, s.Serve(t.Context()), "a server serves only once")
		status, _ := ask(s, notification(2))
		require.Equal(t, 503, status)
		client.CloseIdleConnections()
	}
}

func TestTLSCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig()
	cfg.TLS = TLSConfig{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	pool := x509.NewCertPool()
	renew := func(serial int64) {
		cert, key := certificate(t, serial)
		require.NoError(t, os.WriteFile(cfg.TLS.CertFile, cert, 0o600))
		require.NoError(t, os.WriteFile(cfg.TLS.KeyFile, key, 0o600))
		for _, path := range []string{cfg.TLS.CertFile, cfg.TLS.KeyFile} {
			at := time.Now().Add(time.Duration(serial) * time.Minute)
			require.NoError(t, os.Chtimes(path, at, at))
		}
		pool.AppendCertsFromPEM(cert)
	}
	renew(1)
	core, logged := observer.New(zapcore.ErrorLevel)
	s := receiver(t, cfg, zap.New(core), &recorder{})
	url := strings.Replace(serve(t, s), "http:", "https:", 1)
	serial := func() int64 {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
		defer client.CloseIdleConnections()
		resp, err := client.Post(url, "application/json", strings.NewReader(notification(1)))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "HTTP/1.1", resp.Proto)
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	require.EqualValues(t, 1, serial())
	renew(2)
	require.EqualValues(t, 2, serial())
	require.NoError(t, os.WriteFile(cfg.TLS.CertFile, []byte("half a cert"), 0o600))
	require.EqualValues(t, 2, serial(), "the last good one")
	require.EqualValues(t, 2, serial())
	require.Equal(t, 1, logged.Len())
	renew(3)
	require.EqualValues(t, 3, serial())
}

func certificate(t *testing.T, serial int64) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint(serial)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
