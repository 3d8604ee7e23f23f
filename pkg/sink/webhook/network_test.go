package webhook

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
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

// serveTLS starts an endpoint with a certificate for 127.0.0.1 and example.com that is its own authority,
// in the file that it returns.
func serveTLS(t *testing.T, handler http.Handler, change ...func(*httptest.Server)) (server *httptest.Server, ca string) {
	t.Helper()
	server = httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, c := range change {
		c(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, writePEM(t, "CERTIFICATE", server.Certificate().Raw)
}

func writePEM(t *testing.T, kind string, content []byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.pem")
	require.NoError(t, err)
	require.NoError(t, pem.Encode(f, &pem.Block{Type: kind, Bytes: content}))
	require.NoError(t, f.Close())
	return f.Name()
}

// certificate makes a self-signed one that is good until then.
func certificate(t *testing.T, until time.Time) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vodrelay"},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, writePEM(t, "CERTIFICATE", der), writePEM(t, "EC PRIVATE KEY", keyDER)
}

func TestPrivateAuthorityAndHTTP2(t *testing.T) {
	var got capture
	server, ca := serveTLS(t, &got)
	s := open(t, server.URL, func(c *Config) { c.TLS.CAFile = ca })
	e := sinktest.Upload(1)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Send(t.Context(), e))
	require.Equal(t, "HTTP/2.0", got.proto)
	require.Equal(t, string(sinktest.Body(t, e)), string(got.body))

	require.NoError(t, open(t, server.URL, func(c *Config) { c.TLS.InsecureSkipVerify = true }).Send(t.Context(), e))
	require.NoError(t, open(t, server.URL, func(c *Config) { c.TLS.CAFile, c.TLS.ServerName = ca, "example.com" }).Send(t.Context(), e))

	// HTTP/1.1 where the endpoint has no more.
	old, ca := serveTLS(t, &got, func(s *httptest.Server) { s.EnableHTTP2 = false })
	require.NoError(t, open(t, old.URL, func(c *Config) { c.TLS.CAFile = ca }).Send(t.Context(), e))
	require.Equal(t, "HTTP/1.1", got.proto)
}

func TestContractOverHTTP2(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		p := &endpoint{}
		server, ca := serveTLS(t, p)
		w := wire.New(t, server.Listener.Addr().String())
		return sinktest.Harness{
			Sink:   open(t, "https://vod:hunter2@"+w.Address(), func(c *Config) { c.TLS.CAFile = ca }),
			Strand: func(*testing.T) { w.Strand() },
			Received: func(*testing.T) [][]byte {
				p.mu.Lock()
				defer p.mu.Unlock()
				return append([][]byte(nil), p.bodies...)
			},
		}
	})
}

func TestClientCertificate(t *testing.T) {
	_, certFile, keyFile := certificate(t, time.Now().Add(time.Hour))
	pool := x509.NewCertPool()
	text, err := os.ReadFile(certFile)
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(text))
	var got capture
	var newest uint16
	demand := func(s *httptest.Server) {
		s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: newest}
	}
	server, ca := serveTLS(t, &got, demand)
	with := func(c *Config) { c.TLS = TLSConfig{CAFile: ca, CertFile: certFile, KeyFile: keyFile} }
	require.NoError(t, open(t, server.URL, with).Send(t.Context(), sinktest.Upload(0)))

	// With TLS 1.3 the request is on its way when the refusal comes, and which of the two is noticed first is
	// open. 1.2 tells for sure.
	for newest = range map[uint16]bool{tls.VersionTLS12: true, tls.VersionTLS13: true} {
		strict, ca := serveTLS(t, &got, demand)
		err = open(t, strict.URL, func(c *Config) { c.TLS.CAFile = ca }).Send(t.Context(), sinktest.Upload(0))
		require.False(t, retry.IsPermanent(err))
		require.Contains(t, retry.Hint(err), "tls.cert_file")
		if newest == tls.VersionTLS12 {
			require.ErrorContains(t, err, strict.URL+": tls: ")
		}
	}

	s := open(t, server.URL, with)
	require.NoError(t, os.Remove(keyFile))
	err = s.Send(t.Context(), sinktest.Upload(0))
	require.ErrorContains(t, err, "tls.key_file")
	require.False(t, retry.IsPermanent(err))
}

// TestTrouble has what can go wrong below HTTP: transient, with a text that stays and a hint that helps.
func TestTrouble(t *testing.T) {
	var got capture
	secure, ca := serveTLS(t, &got)
	plain := serve(t, got.ServeHTTP)
	expired, expiredCA, _ := certificate(t, time.Now().Add(-time.Hour))
	late, _ := serveTLS(t, &got, func(s *httptest.Server) { s.TLS = &tls.Config{Certificates: []tls.Certificate{expired}} })
	raw := func(answer string) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				if answer == "reset" {
					_ = conn.(*net.TCPConn).SetLinger(0)
				} else {
					_, _ = io.WriteString(conn, answer)
				}
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() { _ = listener.Close(); <-done })
		return "http://" + listener.Addr().String()
	}
	trust := func(c *Config) { c.TLS.CAFile = ca }
	for name, tt := range map[string]struct {
		url        string
		change     func(*Config)
		text, hint string
	}{
		"nobody listens":      {"http://127.0.0.1:1", nil, ": connection refused", "nothing listens"},
		"unknown host":        {"http://vodrelay.invalid", nil, `host "vodrelay.invalid"`, "DNS"},
		"unknown authority":   {secure.URL, nil, ": its certificate is signed by an unknown authority", "tls.ca_file"},
		"other host":          {strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), trust, ": its certificate is for another host", "tls.server_name"},
		"expired":             {late.URL, func(c *Config) { c.TLS.CAFile = expiredCA }, ": its certificate has expired or is not yet valid", "clock"},
		"no TLS":              {strings.Replace(plain.URL, "http:", "https:", 1), nil, ": it does not speak TLS", "http://"},
		"closed at once":      {raw(""), nil, ": it closed the connection without an answer", "log"},
		"cut in the header":   {raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), nil, ": it closed the connection without an answer", "log"},
		"reset":               {raw("reset"), nil, ": it closed the connection without an answer", "log"},
		"not HTTP":            {raw("220 s3cret mail server\r\n\r\n"), nil, ": it does not speak HTTP", "https://"},
		"odd header":          {raw("HTTP/1.1 200 OK\r\ns3cret\r\n\r\n"), nil, "", ""},
		"endless header":      {raw("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("s3cret", maxHeaderBytes)), nil, "", ""},
		"proxy away":          {"http://127.0.0.1:9", func(c *Config) { c.Proxy = "http://127.0.0.1:1" }, ": the proxy http://127.0.0.1:1: connection refused", "check proxy"},
		"SOCKS away":          {"http://127.0.0.1:9", func(c *Config) { c.Proxy = "socks5://u:s3cret@127.0.0.1:1" }, ": the proxy socks5://127.0.0.1:1: connection refused", "check proxy"},
		"proxy wants a user":  {"https://127.0.0.1:9", func(c *Config) { c.Proxy = raw("HTTP/1.1 407 s3cret\r\n\r\n") }, ": the proxy answered 407 Proxy Authentication Required", "user:password"},
		"proxy cannot get on": {"https://127.0.0.1:9", func(c *Config) { c.Proxy = raw("HTTP/1.1 502 s3cret\r\n\r\n") }, ": the proxy answered 502 Bad Gateway", "NO_PROXY"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.change == nil {
				tt.change = func(*Config) {}
			}
			s := open(t, tt.url, tt.change)
			err := s.Send(t.Context(), sinktest.Upload(0))
			require.ErrorContains(t, err, tt.text)
			require.True(t, strings.HasPrefix(err.Error(), tt.url+": "), err)
			require.NotContains(t, err.Error(), "s3cret")
			require.False(t, retry.IsPermanent(err))
			require.Contains(t, retry.Hint(err), tt.hint)
			require.NotEmpty(t, retry.Hint(err))
			require.Equal(t, err.Error(), s.Send(t.Context(), sinktest.Upload(1)).Error())
			if err := s.Check(t.Context()); tt.text != "" {
				require.ErrorContains(t, err, tt.text)
			}
		})
	}
}

// TestOddBodies has answers whose status is clear and whose body is not worth waiting for.
func TestOddBodies(t *testing.T) {
	for name, body := range map[string]func(w http.ResponseWriter, r *http.Request){
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
		"stalled": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		for proto, insecure := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(name+" "+proto, func(t *testing.T) {
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusAccepted)
					body(w, r)
				})
				var server *httptest.Server
				if insecure {
					server, _ = serveTLS(t, handler)
				} else {
					server = serve(t, handler)
				}
				s := open(t, server.URL, func(c *Config) { c.TLS.InsecureSkipVerify = insecure })
				start := time.Now()
				require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
				require.NoError(t, s.Send(t.Context(), sinktest.Upload(1)))
				require.Less(t, time.Since(start), 4*drainTime)
			})
		}
	}
}

// TestTimeout has an endpoint that never answers.
func TestTimeout(t *testing.T) {
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices only then that its client is gone
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := open(t, server.URL).Send(ctx, sinktest.Upload(0))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualError(t, err, server.URL+": no answer in time: context deadline exceeded")
	require.False(t, retry.IsPermanent(err))
}

// TestConnectionsAreKept has many events go over few connections, refusals with bodies among them.
func TestConnectionsAreKept(t *testing.T) {
	var connections, requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if requests.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(make([]byte, maxBody/2))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	s := open(t, server.URL)
	var group errgroup.Group
	for range 16 {
		group.Go(func() error {
			for i := range 20 {
				_ = s.Send(t.Context(), sinktest.Upload(i))
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 320, requests.Load())
	require.LessOrEqual(t, connections.Load(), int32(32), "one for each sender, and a few at the start")
}

// TestIdleConnectionClosed has the endpoint close a kept connection when the next request comes on it, as
// happens around its idle timeout: the event arrives all the same.
func TestIdleConnectionClosed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				one := make([]byte, 1)
				_, _ = conn.Read(one) // the first byte of the next request
			}
			_ = conn.Close()
		}
	}()
	s := open(t, "http://"+listener.Addr().String())
	t.Cleanup(func() { _ = s.Close(context.Background()); _ = listener.Close(); <-done })
	for i := range 5 {
		require.NoError(t, s.Send(t.Context(), sinktest.Upload(i)))
	}
}

func TestProxy(t *testing.T) {
	var got capture
	target := serve(t, got.ServeHTTP)
	to, err := url.Parse(target.URL)
	require.NoError(t, err)
	var auth string
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Proxy-Authorization")
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}).ServeHTTP(w, r)
	})
	s := open(t, "http://vodrelay.invalid/x", func(c *Config) { c.Proxy = strings.Replace(proxy.URL, "://", "://user:hunter2@", 1) })
	require.NoError(t, s.Send(t.Context(), sinktest.Upload(0)))
	require.Equal(t, "/x", got.path)
	require.Equal(t, "Basic dXNlcjpodW50ZXIy", auth)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections() // the reverse proxy's
}

func TestFilesGone(t *testing.T) {
	dir := t.TempDir()
	_, err := New(Config{URL: "https://example.com", Method: "POST", TLS: TLSConfig{CAFile: filepath.Join(dir, "no.pem")}}, nil)
	require.ErrorContains(t, err, `tls.ca_file: "`+dir+`/no.pem": no such file or directory`)
}
