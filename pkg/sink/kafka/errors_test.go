package kafka

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestRefusals has the broker refuse records.
func TestRefusals(t *testing.T) {
	c := startCluster(t)
	for _, test := range []struct {
		code      *kerr.Error
		text      string
		permanent bool
	}{
		{kerr.MessageTooLarge, `topic "vod-events": the event is too large`, true},
		{kerr.InvalidTopicException, `topic "vod-events": is not a topic that can be written to`, false},
		{kerr.TopicAuthorizationFailed, `topic "vod-events": the user may not write to it`, false},
		{kerr.InvalidRecord, `topic "vod-events": the record is refused (INVALID_RECORD)`, true},
		{kerr.PolicyViolation, `topic "vod-events": the record is refused (POLICY_VIOLATION)`, false},
		{kerr.InvalidTimestamp, `topic "vod-events": the record is refused (INVALID_TIMESTAMP)`, false},
		{kerr.UnknownServerError, `topic "vod-events": UNKNOWN_SERVER_ERROR`, false},
		{kerr.InvalidRequiredAcks, `topic "vod-events": INVALID_REQUIRED_ACKS`, false},
	} {
		s := open(t, c)
		fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: test.code, Count: -1})
		err := send(t, s, sinktest.Upload(0))
		require.EqualError(t, err, c.address()+": "+test.text)
		require.Equal(t, test.permanent, retry.IsPermanent(err), test.text)
		require.NotEmpty(t, retry.Hint(err))
		fault.Remove()
		require.NoError(t, send(t, s, sinktest.Upload(0)), "a refusal must not harm the next: %s", test.text)
	}

	// A topic that an expression chose for the event is the event's own, and a record without a key is nobody's fault but
	// that of who configured none.
	for code, change := range map[*kerr.Error]func(*Config){
		kerr.InvalidTopicException: func(cfg *Config) { cfg.Topic, cfg.TopicExpression = "", `"`+topic+`"` },
		kerr.InvalidRecord:         func(cfg *Config) { cfg.Key = "" },
	} {
		s := open(t, c, change)
		fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: code, Count: -1})
		require.Equal(t, code == kerr.InvalidTopicException, retry.IsPermanent(send(t, s, sinktest.Upload(0))), code.Message)
		fault.Remove()
	}

	s := open(t, c)
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.ClusterAuthorizationFailed, Count: -1})
	for _, err := range []error{send(t, s, sinktest.Upload(0)), s.Check(t.Context())} {
		require.EqualError(t, err, c.address()+": the user may not write with idempotence")
		require.False(t, retry.IsPermanent(err))
	}
	plain := open(t, c, func(cfg *Config) { cfg.Idempotent = false })
	require.NoError(t, plain.Check(t.Context()))
	require.NoError(t, send(t, plain, sinktest.Upload(0)))
	fault.Remove()
	require.NoError(t, send(t, s, sinktest.Upload(0)))

	// The client itself tries these again.
	s = open(t, c)
	fault = c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotEnoughReplicas, Count: -1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := s.Send(ctx, sinktest.Upload(1))
	require.EqualError(t, err, c.address()+": no acknowledgement in time")
	require.Contains(t, retry.Hint(err), "min.insync.replicas")
	require.False(t, retry.IsPermanent(err))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	fault.Remove()
	require.NoError(t, send(t, s, sinktest.Upload(1)))
}

func TestUnknownTopic(t *testing.T) {
	c := startCluster(t)
	s := open(t, c, func(cfg *Config) { cfg.Topic = "no-such-topic" })
	for _, err := range []error{send(t, s, sinktest.Upload(0)), s.Check(t.Context())} {
		require.EqualError(t, err, c.address()+`: topic "no-such-topic": does not exist`)
		require.False(t, retry.IsPermanent(err))
		require.Contains(t, retry.Hint(err), "create the topic")
	}
	require.NoError(t, c.CreateTopic("no-such-topic", 1, nil))
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	require.NoError(t, s.Check(t.Context()))
}

// TestSmallBatches has a topic that takes less in a batch than the sink puts into one: records that are
// small themselves must not suffer for the others.
func TestSmallBatches(t *testing.T) {
	c := startCluster(t)
	require.NoError(t, c.CreateTopic("small", 1, map[string]string{"max.message.bytes": "3000"}))
	s := open(t, c, func(cfg *Config) {
		cfg.Topic = "small"
		cfg.Compression = "none"
		cfg.Linger = 50 * time.Millisecond
	})
	var group errgroup.Group
	for i := range 40 {
		group.Go(func() error { return send(t, s, sinktest.Upload(i)) })
	}
	require.NoError(t, group.Wait())
	require.Len(t, c.records(t, "small"), 40)
	require.NotNil(t, s.alone.client, "the batches were never too large")

	big := sinktest.Upload(41)
	big.Raw = bytes.Replace(big.Raw, []byte("clip"), bytes.Repeat([]byte("x"), 5000), 1)
	err := send(t, s, big)
	require.True(t, retry.IsPermanent(err))
	require.ErrorContains(t, err, "too large")
}

func TestLogin(t *testing.T) {
	const name = "ckafka-1a2b3c4d#vod"
	c := startCluster(t, kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", name, "hunter2"), kfake.Superuser("SCRAM-SHA-512", "scram", "hunter2"),
		kfake.User("PLAIN", "nobody", "hunter2"),
		kfake.User("PLAIN", "reader", "hunter2", kfake.ACL{
			Resource: kmsg.ACLResourceTypeTopic, Name: topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true,
		}))
	file := filepath.Join(t.TempDir(), "password")
	with := func(mechanism, user string) func(*Config) {
		require.NoError(t, os.WriteFile(file, []byte("hunter2\n"), 0o600))
		return func(cfg *Config) {
			cfg.SecurityProtocol = "SASL_PLAINTEXT"
			cfg.SASL = SASLConfig{Mechanism: mechanism, Username: user, PasswordFile: file}
		}
	}
	// kfake ends the connection where Kafka answers, and so do brokers before Kafka 1.0.
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !bytes.Contains(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes, []byte("wrong-pass-word")) {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		res.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return res, nil, true
	})
	for mechanism, user := range map[string]string{"PLAIN": name, "SCRAM-SHA-512": "scram"} {
		text, hint := "the login is refused", "sasl.username"
		if mechanism != "PLAIN" {
			text, hint = "it closed the connection during the first exchange", "the section sasl"
		}
		s := open(t, c, with(mechanism, user))
		require.NoError(t, s.Check(t.Context()), mechanism)
		require.NoError(t, send(t, s, sinktest.Upload(0)), mechanism)

		// The password is changed on the brokers, then in the file.
		require.NoError(t, os.WriteFile(file, []byte("wrong-pass-word"), 0o600))
		c.cut()
		failing := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return s.Send(ctx, sinktest.Upload(1))
		}
		require.Eventually(t, func() bool { return failing() != nil }, 10*time.Second, time.Millisecond, mechanism)
		for _, err := range []error{failing(), failing(), s.Check(t.Context())} {
			require.EqualError(t, err, c.address()+": "+text, mechanism)
			require.False(t, retry.IsPermanent(err), mechanism)
			require.Contains(t, retry.Hint(err), hint)
			require.NotContains(t, err.Error()+retry.Hint(err), "wrong-pass-word")
		}
		require.NoError(t, os.WriteFile(file, []byte("hunter2"), 0o600))
		require.Eventually(t, func() bool { return failing() == nil }, 10*time.Second, time.Millisecond, mechanism)
	}

	// A file that is gone.
	s := open(t, c, with("PLAIN", name))
	require.NoError(t, os.Remove(file))
	err := s.Check(t.Context())
	require.ErrorContains(t, err, "sasl.password_file: ")
	require.Contains(t, retry.Hint(err), "read the file")

	// Rights.
	for _, user := range []string{"nobody", "reader"} {
		s := open(t, c, with("PLAIN", user))
		for _, err := range []error{s.Check(t.Context()), send(t, s, sinktest.Upload(0))} {
			require.ErrorContains(t, err, "the user may not write", user)
			require.False(t, retry.IsPermanent(err), user)
			require.NotEmpty(t, retry.Hint(err))
		}
	}

	// Protocols that do not fit.
	s = open(t, c)
	err = s.Check(t.Context())
	require.Error(t, err)
	require.Contains(t, retry.Hint(err), "security_protocol")
	require.False(t, retry.IsPermanent(err))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = s.Send(ctx, sinktest.Upload(0))
	require.Error(t, err)
	require.Contains(t, retry.Hint(err), "security_protocol", err.Error())
}

func TestBearerToken(t *testing.T) {
	c := startCluster(t)
	var token string
	c.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return req.ResponseKind(), nil, true
	})
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		if want := "n,,\x01auth=Bearer " + token + "\x01\x01"; string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes) != want {
			res.ErrorCode = kerr.SaslAuthenticationFailed.Code
		}
		return res, nil, true
	})
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("t0ken\n"), 0o600))
	token = "t0ken"
	s := open(t, c, func(cfg *Config) {
		cfg.SecurityProtocol = "SASL_PLAINTEXT"
		cfg.SASL = SASLConfig{Mechanism: "OAUTHBEARER", TokenFile: file}
	})
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	require.NoError(t, os.WriteFile(file, []byte("other-t0ken\n"), 0o600))
	c.cut()
	require.Eventually(t, func() bool { return s.Check(t.Context()) != nil }, 5*time.Second, time.Millisecond)
	err := s.Check(t.Context())
	require.EqualError(t, err, c.address()+": the login is refused")
}

func TestTLS(t *testing.T) {
	server, ca := certificate(t)
	c := startCluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}}))
	secure := func(cfg *Config) { cfg.SecurityProtocol, cfg.TLS.CAFile = "SSL", ca }
	s := open(t, c, secure)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	pool := x509.NewCertPool()
	text, err := os.ReadFile(ca)
	require.NoError(t, err)
	pool.AppendCertsFromPEM(text)
	require.Len(t, c.records(t, topic, kgo.DialTLSConfig(&tls.Config{RootCAs: pool})), 1)
	require.NoError(t, open(t, c, secure, func(cfg *Config) { cfg.TLS.CAFile, cfg.TLS.InsecureSkipVerify = "", true }).Check(t.Context()))

	plain := startCluster(t)
	for name, test := range map[string]struct {
		c          *cluster
		change     func(*Config)
		text, hint string
	}{
		"unknown authority": {c, func(cfg *Config) { cfg.SecurityProtocol = "SSL" }, "its certificate is signed by an unknown authority", "tls.ca_file"},
		"other host":        {c, func(cfg *Config) { secure(cfg); cfg.TLS.ServerName = "example.com" }, "its certificate is for another host", "tls.server_name"},
		"no TLS there":      {plain, secure, "no connection in time", "port in brokers"}, // kfake waits for more; Kafka closes the connection
		"TLS there":         {c, func(*Config) {}, "", "security_protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for its time to be over
			s := open(t, test.c, test.change)
			for name, do := range map[string]func(context.Context) error{
				"Check": s.Check, "Send": func(ctx context.Context) error { return s.Send(ctx, sinktest.Upload(0)) },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				err := do(ctx)
				t.Log(name, err)
				require.ErrorContains(t, err, test.c.address()+": "+test.text)
				require.Contains(t, retry.Hint(err), test.hint, err.Error())
				require.False(t, retry.IsPermanent(err))
			}
		})
	}
}

func TestTheReasonOutlastsAnAttemptThatWasCutShort(t *testing.T) {
	h := &health{connectTimeout: 5 * time.Second}
	connect := func(took time.Duration, err error) error {
		h.OnBrokerConnect(kgo.BrokerMetadata{}, took, nil, err)
		return h.trouble()
	}
	cut := fmt.Errorf("dial: %w", context.DeadlineExceeded)
	require.ErrorIs(t, connect(time.Second, cut), cut, "better than nothing")
	unknown := x509.UnknownAuthorityError{}
	require.ErrorIs(t, connect(time.Millisecond, unknown), unknown)
	require.ErrorIs(t, connect(time.Second, cut), unknown)
	require.ErrorIs(t, connect(5*time.Second, cut), cut, "it had all its time")
	h.OnBrokerRead(kgo.BrokerMetadata{}, 0, 0, 0, 0, nil)
	require.ErrorIs(t, h.trouble(), cut, "another broker may have answered")
	h.OnBrokerConnect(kgo.BrokerMetadata{}, time.Second, nil, nil)
	require.NoError(t, h.trouble())
}

// certificate makes one for 127.0.0.1 that is its own authority, in the file that it returns.
func certificate(t *testing.T) (cert tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
