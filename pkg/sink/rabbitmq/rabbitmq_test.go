//go:build unix

package rabbitmq

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

func TestContract(t *testing.T) {
	s := need(t)
	s.ctl(t, "add_user", "writer", "s3cret")
	defer s.ctl(t, "delete_user", "writer")
	s.ctl(t, "set_permissions", "writer", "", ".*", ".*")
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		const exchange = "contract"
		r := s.reader(t)
		queue := s.queue(t, r, nil)
		declare := func(t *testing.T, args amqp.Table) {
			t.Helper()
			require.NoError(t, r.ExchangeDeclare(exchange, amqp.ExchangeFanout, true, false, false, false, nil))
			_, err := r.QueueDeclare(queue, true, false, false, false, args)
			require.NoError(t, err)
			require.NoError(t, r.QueueBind(queue, "", exchange, false, nil))
		}
		drop := func(t *testing.T) {
			t.Helper()
			_, err := r.QueueDelete(queue, false, false, false)
			require.NoError(t, err)
		}
		declare(t, nil)
		t.Cleanup(func() { require.NoError(t, r.ExchangeDelete(exchange, false, false)) })
		w := wire.New(t, s.address())
		// A connection keeps what it was permitted to do.
		mistake := func(name string, wrong, right []string) sinktest.Mistake {
			return sinktest.Mistake{
				Name: name,
				Make: func(t *testing.T) { s.ctl(t, wrong...); w.Cut() },
				Fix:  func(t *testing.T) { s.ctl(t, right...) },
			}
		}
		rights := []string{"set_permissions", "writer", "", ".*", ".*"}
		return sinktest.Harness{
			Sink: open(t, w.Address(), "", func(c *Config) {
				c.Exchange, c.Username, c.Password = exchange, "writer", "s3cret"
			}),
			Received: func(t *testing.T) [][]byte { return bodies(r.all(t, queue)) },
			IDs: func(t *testing.T) (ids []string) {
				for _, d := range r.all(t, queue) {
					ids = append(ids, d.MessageId)
				}
				return ids
			},
			Break:  func(*testing.T) { w.Down() },
			Mend:   func(*testing.T) { w.Up() },
			Stall:  func(*testing.T) func() { return w.Stall() },
			Strand: func(*testing.T) { w.Strand() },
			Mistakes: []sinktest.Mistake{
				mistake("right withdrawn", []string{"set_permissions", "writer", "", "none", ".*"}, rights),
				mistake("vhost closed to it", []string{"clear_permissions", "writer"}, rights),
				mistake("password replaced", []string{"change_password", "writer", "an0ther"}, []string{"change_password", "writer", "s3cret"}),
				{
					Name: "exchange missing",
					Make: func(t *testing.T) { require.NoError(t, r.ExchangeDelete(exchange, false, false)) },
					Fix:  func(t *testing.T) { declare(t, nil) },
				},
				{Name: "queue missing", Make: drop, Fix: func(t *testing.T) { declare(t, nil) }},
				{
					Name: "queue full",
					Make: func(t *testing.T) { drop(t); declare(t, amqp.Table{"x-max-length": 0, "x-overflow": "reject-publish"}) },
					Fix:  func(t *testing.T) { drop(t); declare(t, nil) },
				},
			},
			MaxBody: maxMessage,
			Secrets: []string{"s3cret", "an0ther"},
		}
	})
}

// TestMessage has every property of a message, in each format.
func TestMessage(t *testing.T) {
	s := need(t)
	e := sinktest.Upload(1)
	e.SubAppID = 1500000001
	for format, want := range map[event.Format]struct {
		contentType string
		headers     amqp.Table
	}{
		event.FormatCallback:    {"application/json", amqp.Table{"team": "video"}},
		event.FormatCloudEvents: {"application/cloudevents+json; charset=utf-8", amqp.Table{"team": "video"}},
		event.FormatCloudEventsBinary: {"application/json", amqp.Table{
			"team": "video", "cloudEvents_specversion": "1.0", "cloudEvents_id": e.ID,
			"cloudEvents_source": "//vod.tencentcloudapi.com/1500000001", "cloudEvents_type": "com.tencentcloud.vod.NewFileUpload",
			"cloudEvents_subject": e.Subject(),
		}},
	} {
		r := s.reader(t)
		queue := s.queue(t, r, nil)
		sink := open(t, s.address(), queue, func(c *Config) {
			c.Format, c.Headers = format, map[string]string{"team": "video"}
		})
		require.NoError(t, send(t, sink, e))
		all := r.all(t, queue)
		require.Len(t, all, 1)
		got := all[0]
		message, err := format.Encode(e)
		require.NoError(t, err)
		require.Equal(t, string(message.Body), string(got.Body))
		require.Equal(t, want.contentType, got.ContentType)
		require.Equal(t, want.headers, got.Headers)
		require.Equal(t, e.DedupID(), got.MessageId)
		require.Equal(t, "NewFileUpload", got.Type)
		require.EqualValues(t, amqp.Persistent, got.DeliveryMode)
	}
}

// TestRouting has exchanges and routing keys by expression, some of which lead nowhere.
func TestRouting(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, nil)
	require.NoError(t, r.ExchangeDeclare("NewFileUpload", amqp.ExchangeTopic, true, false, false, false, nil))
	defer func() { require.NoError(t, r.ExchangeDelete("NewFileUpload", false, false)) }()
	require.NoError(t, r.QueueBind(queue, "vod.*.good", "NewFileUpload", false, nil))
	sink := open(t, s.address(), "", func(c *Config) {
		c.ExchangeExpression = `type`
		c.RoutingKeyExpression = `"vod." + type + (payload.Bad ?? false ? ".bad" : ".good")`
	})
	require.NoError(t, sink.Check(t.Context()))
	decode := func(text string) event.Event {
		e, _, _ := event.Decode([]byte(text), 0)
		return e
	}
	good := sinktest.Upload(0)
	bad := decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"1","Bad":true}}`)
	nowhere := decode(`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`)
	require.NoError(t, send(t, sink, good))
	const unroutable = `exchange "NewFileUpload", routing key "vod.NewFileUpload.bad": no queue takes the message`
	requireRefused(t, sink, bad, unroutable, "bind a queue")
	requireRefused(t, sink, nowhere, `exchange "FileDeleted" does not exist`, "create it")
	long := decode(`{"EventType":"` + strings.Repeat("x", 300) + `"}`)
	err := send(t, sink, long)
	require.True(t, retry.IsPermanent(err), err)
	require.NotEmpty(t, retry.Hint(err))

	// One that goes nowhere neither harms the others nor is counted as one of them.
	var group sync.WaitGroup
	for i := range 60 {
		group.Go(func() {
			if i%3 == 0 {
				err := send(t, sink, bad)
				if err == nil || retry.IsPermanent(err) {
					t.Errorf("%v", err)
				}
				return
			}
			for retries := 0; ; retries++ {
				err := send(t, sink, sinktest.Upload(i))
				if err == nil {
					return
				}
				if retries == 10 || retry.IsPermanent(err) {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	group.Wait()
	require.Len(t, r.all(t, queue), 41)

	require.NoError(t, r.QueueBind(queue, "vod.*.bad", "NewFileUpload", false, nil))
	require.NoError(t, send(t, sink, bad))
	require.Len(t, r.all(t, queue), 42)
}

// TestMissing has targets that come to be only later, and one that goes.
func TestMissing(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	for name, tt := range map[string]struct {
		change  func(*Config)
		text    string
		declare func() error
	}{
		"queue": {func(c *Config) { c.RoutingKey = "later" }, `queue "later" does not exist`, func() error {
			_, err := r.QueueDeclare("later", true, false, false, false, nil)
			return err
		}},
		"exchange": {func(c *Config) { c.Exchange = "later"; c.RoutingKey = "" }, `exchange "later" does not exist`, func() error {
			return r.ExchangeDeclare("later", amqp.ExchangeFanout, true, false, false, false, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sink := open(t, s.address(), "", tt.change)
			requireRefused(t, sink, sinktest.Upload(0), tt.text, "create it")
			require.EqualError(t, sink.Check(t.Context()), s.address()+": "+tt.text)
			require.NoError(t, tt.declare())
			require.NoError(t, sink.Check(t.Context()))
			if name == "queue" {
				require.NoError(t, send(t, sink, sinktest.Upload(0)))
				_, err := r.QueueDelete("later", false, false, false)
				require.NoError(t, err)
			} else {
				requireRefused(t, sink, sinktest.Upload(0), `exchange "later", routing key "": no queue takes the message`, "bind a queue")
				require.NoError(t, r.ExchangeDelete("later", false, false))
			}
			// While the connection lasts, then after it.
			err := send(t, sink, sinktest.Upload(0))
			require.Error(t, err)
			require.False(t, retry.IsPermanent(err))
		})
	}
}

// TestRejected has a queue that is full.
func TestRejected(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	sink := open(t, s.address(), queue)
	require.NoError(t, send(t, sink, sinktest.Upload(0)))
	requireRefused(t, sink, sinktest.Upload(1), "the broker rejected the message", "reject-publish")
	require.Len(t, r.all(t, queue), 1)
	require.NoError(t, send(t, sink, sinktest.Upload(1)))
}

// TestTooLarge has one event among others that the broker does not take: it alone is to blame.
func TestTooLarge(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, nil)
	sink := open(t, s.address(), queue)
	big := sinktest.Upload(0)
	big.Raw = []byte(`{"EventType":"NewFileUpload","x":"` + strings.Repeat("x", maxMessage) + `"}`)
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			if i == 20 {
				if err := send(t, sink, big); !retry.IsPermanent(err) || !strings.HasSuffix(err.Error(), ": the event is too large") {
					t.Errorf("%v", err)
				}
				return
			}
			for {
				err := send(t, sink, sinktest.Upload(i))
				if retry.IsPermanent(err) {
					t.Errorf("%v", err)
				}
				if err == nil || retry.IsPermanent(err) {
					return
				}
			}
		})
	}
	group.Wait()
	require.GreaterOrEqual(t, len(r.all(t, queue)), 39)
}

func TestLogin(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, nil)
	e := sinktest.Upload(0)
	requireRefused(t, open(t, s.address(), queue, func(c *Config) { c.Password = "s3cret" }), e, "the login is refused", "password")
	requireRefused(t, open(t, s.address(), queue, func(c *Config) { c.VHost = "none" }), e,
		`vhost "none": cannot be opened: NOT_ALLOWED - vhost none not found`, "vhost")
	s.ctl(t, "add_user", "reader", "s3cret")
	defer s.ctl(t, "delete_user", "reader")
	as := func(c *Config) { c.Username, c.Password = "reader", "s3cret" }
	requireRefused(t, open(t, s.address(), queue, as), e,
		`vhost "/": cannot be opened: NOT_ALLOWED - access to vhost "..." refused for user "..."`, "permissions")
	s.ctl(t, "set_permissions", "reader", "", "", ".*")
	sink := open(t, s.address(), queue, as, func(c *Config) { c.Exchange = "amq.topic" })
	requireRefused(t, sink, e, `exchange "amq.topic": the user may not write to it`, "write")
	requireRefused(t, open(t, s.address(), queue, as), e, `exchange "amq.default": the user may not write to it`, "write")

	// The password is replaced on both sides.
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	sink = open(t, s.address(), queue, func(c *Config) { c.Password, c.PasswordFile = "", file })
	require.ErrorContains(t, send(t, sink, e), "the login is refused")
	require.NoError(t, os.WriteFile(file, []byte("hunter2\n"), 0o600))
	require.NoError(t, send(t, sink, e))
	require.NoError(t, sink.Check(t.Context()))
	require.NoError(t, os.Remove(file))
	require.NoError(t, send(t, sink, e), "the connection is there")
	err := sink.Check(t.Context())
	require.ErrorContains(t, err, "password_file: ")
	require.False(t, retry.IsPermanent(err))
	require.NotEmpty(t, retry.Hint(err))
}

// TestBlocked has a broker that takes nothing, since it is low on memory.
func TestBlocked(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, nil)
	sink := open(t, s.address(), queue)
	require.NoError(t, send(t, sink, sinktest.Upload(0)))
	s.ctl(t, "set_vm_memory_high_watermark", "absolute", "1")
	var err error
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		err = sink.Send(ctx, sinktest.Upload(1))
		return err != nil && strings.Contains(err.Error(), "the broker takes no messages: low on memory")
	}, 20*time.Second, 50*time.Millisecond)
	require.False(t, retry.IsPermanent(err))
	require.Contains(t, retry.Hint(err), "free memory")
	// The socket's buffers fill, and still each Send comes back in time.
	start := time.Now()
	big := sinktest.Upload(2)
	big.Raw = []byte(`{"EventType":"NewFileUpload","x":"` + strings.Repeat("x", maxMessage-1000) + `"}`)
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		require.Error(t, sink.Send(ctx, big))
		cancel()
	}
	require.Less(t, time.Since(start), 5*time.Second)
	s.ctl(t, "set_vm_memory_high_watermark", "0.9")
	require.Eventually(t, func() bool { return send(t, sink, sinktest.Upload(3)) == nil }, 30*time.Second, 50*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, sink.Close(ctx))
}

func TestTLS(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, nil)
	secure := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.tlsPort))
	path := func(name string) string { return filepath.Join(s.dir, name) }
	trust := func(c *Config) {
		c.UseTLS, c.TLS.CAFile, c.TLS.CertFile, c.TLS.KeyFile = true, path("ca.pem"), path("cert.pem"), path("key.pem")
	}
	e := sinktest.Upload(1)
	sink := open(t, secure, queue, trust)
	require.NoError(t, sink.Check(t.Context()))
	require.NoError(t, send(t, sink, e))
	require.Len(t, r.all(t, queue), 1)
	requireRefused(t, open(t, secure, queue, func(c *Config) { c.UseTLS = true }), e, "its certificate is signed by an unknown authority", "tls.ca_file")
	requireRefused(t, open(t, secure, queue, trust, func(c *Config) { c.TLS.ServerName = "example.com" }), e, "its certificate is for another host", "tls.server_name")
	requireRefused(t, open(t, s.address(), queue, trust), e, "it does not speak TLS", "use_tls")
	requireRefused(t, open(t, secure, queue, trust, func(c *Config) {
		c.Mechanism, c.Username, c.Password = external, "", ""
	}), e, "the broker does not offer EXTERNAL", "mechanism")
	err := send(t, open(t, secure, queue), e)
	require.Error(t, err)
	require.False(t, retry.IsPermanent(err))
	require.Contains(t, retry.Hint(err), "use_tls")
}

// certificate makes an authority, and a certificate of it for both sides.
func certificate(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
		return path
	}
	issue := func(serial int64, issuer *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "vodrelay " + strconv.FormatInt(serial, 10)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: issuer == nil, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		if issuer == nil {
			issuer, signer = template, private
		}
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, &private.PublicKey, signer)
		require.NoError(t, err)
		parsed, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return parsed, private
	}
	authority, signer := issue(1, nil, nil)
	leaf, private := issue(2, authority, signer)
	der, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	return write("ca.pem", "CERTIFICATE", authority.Raw), write("cert.pem", "CERTIFICATE", leaf.Raw), write("key.pem", "EC PRIVATE KEY", der)
}

// TestLeftBehind has the end wait for a message whose Send gave up, and give it up in turn.
func TestLeftBehind(t *testing.T) {
	s := need(t)
	for name, limit := range map[string]time.Duration{"confirmed": 10 * time.Second, "given up": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			r := s.reader(t)
			queue := s.queue(t, r, nil)
			w := wire.New(t, s.address())
			sink := open(t, w.Address(), queue)
			require.NoError(t, send(t, sink, sinktest.Upload(0)))
			resume := w.Stall()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			require.EqualError(t, sink.Send(ctx, sinktest.Upload(1)), w.Address()+": no confirm in time")
			ctx, cancel = context.WithTimeout(t.Context(), limit)
			defer cancel()
			if name == "confirmed" {
				time.AfterFunc(50*time.Millisecond, resume)
				require.NoError(t, sink.Close(ctx))
				require.Len(t, r.all(t, queue), 2)
			} else {
				require.ErrorContains(t, sink.Close(ctx), "1 message was not confirmed before the end")
			}
		})
	}
}

// TestSecondAddress has a node that is down.
func TestSecondAddress(t *testing.T) {
	s := need(t)
	r := s.reader(t)
	queue := s.queue(t, r, nil)
	sink := open(t, "127.0.0.1:1", queue, func(c *Config) { c.Addresses = append(c.Addresses, s.address()) })
	require.NoError(t, sink.Check(t.Context()))
	require.NoError(t, send(t, sink, sinktest.Upload(0)))
	requireRefused(t, open(t, "127.0.0.1:1", queue), sinktest.Upload(0), "connection refused", "nothing listens")
	away := open(t, "127.0.0.1:1", queue, func(c *Config) { c.Addresses = append(c.Addresses, "127.0.0.1:2") })
	require.EqualError(t, away.Check(t.Context()), "127.0.0.1:2: connection refused")
}
