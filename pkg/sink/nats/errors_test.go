package nats

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
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestNoStream(t *testing.T) {
	b := startServer(t)
	s := open(t, b)
	named := open(t, b, func(cfg *Config) { cfg.Stream = stream })
	for err, text := range map[error]string{
		send(t, s, sinktest.Upload(0)): `no stream takes the subject "vod.events"`,
		s.Check(t.Context()):           `no stream takes the subject "vod.events"`,
		named.Check(t.Context()):       `stream "VOD" does not exist`,
	} {
		require.EqualError(t, err, b.url()+": "+text)
		require.False(t, retry.IsPermanent(err))
		require.NotEmpty(t, retry.Hint(err))
	}
	b.addStream(t)
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, named.Check(t.Context()))

	// Another stream than the one that is wanted.
	_, err := b.connect(t).CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	require.NoError(t, err)
	other := open(t, b, func(cfg *Config) { cfg.Stream = "OTHER" })
	err = send(t, other, sinktest.Upload(0))
	require.EqualError(t, err, b.url()+`: subject "vod.events": is not taken by the stream "OTHER"`)
	require.False(t, retry.IsPermanent(err))
	err = other.Check(t.Context())
	require.EqualError(t, err, b.url()+`: subject "vod.events": is taken by the stream "VOD", not by "OTHER"`)
	require.False(t, retry.IsPermanent(err))
}

func TestCreateStream(t *testing.T) {
	b := startServer(t)
	create := func(cfg *Config) {
		cfg.Stream, cfg.CreateStream.Enabled = stream, true
		cfg.CreateStream.MaxAge, cfg.CreateStream.MaxBytes = time.Hour, 1<<20
	}
	s := open(t, b, create)
	require.NoError(t, s.Check(t.Context()))
	js := b.connect(t)
	_, err := js.Stream(t.Context(), stream)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound, "a check creates nothing")
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	require.NoError(t, s.Check(t.Context()))
	made, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	c := made.CachedInfo().Config
	require.Equal(t, []string{subject}, c.Subjects)
	require.Equal(t, jetstream.FileStorage, c.Storage)
	require.Equal(t, 10*time.Minute, c.Duplicates)
	require.Equal(t, time.Hour, c.MaxAge)
	require.EqualValues(t, 1<<20, c.MaxBytes)

	// It is removed under the sink.
	require.NoError(t, js.DeleteStream(t.Context(), stream))
	require.Error(t, send(t, s, sinktest.Upload(1)))
	require.NoError(t, send(t, s, sinktest.Upload(1)))

	// One that exists is not changed.
	require.NoError(t, send(t, open(t, b, create, func(cfg *Config) { cfg.CreateStream.MaxAge = 2 * time.Hour }), sinktest.Upload(2)))
	made, err = js.Stream(t.Context(), stream)
	require.NoError(t, err)
	require.Equal(t, time.Hour, made.CachedInfo().Config.MaxAge)

	// Its subject is another's.
	err = send(t, open(t, b, create, func(cfg *Config) { cfg.Stream = "SECOND" }), sinktest.Upload(3))
	require.ErrorContains(t, err, `stream "SECOND" cannot be created: subjects overlap with an existing stream`)
	require.NotEmpty(t, retry.Hint(err))
	require.False(t, retry.IsPermanent(err))
}

func TestLimits(t *testing.T) {
	b := startServer(t)
	js := b.connect(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: stream, Subjects: []string{"vod.>"}, MaxMsgs: 2, Discard: jetstream.DiscardNew, MaxMsgSize: 2000,
	})
	require.NoError(t, err)
	s := open(t, b)
	big := sinktest.Upload(9)
	big.Raw = bytes.Replace(big.Raw, []byte("clip"), bytes.Repeat([]byte("x"), 5000), 1)
	err = send(t, s, big)
	require.EqualError(t, err, b.url()+`: subject "vod.events": the event is too large for the stream`)
	require.True(t, retry.IsPermanent(err))

	require.NoError(t, send(t, s, sinktest.Upload(0)))
	require.NoError(t, send(t, s, sinktest.Upload(1)))
	err = send(t, s, sinktest.Upload(2))
	require.EqualError(t, err, b.url()+`: subject "vod.events": the stream stores nothing more: maximum messages exceeded`)
	require.False(t, retry.IsPermanent(err), "a consumer may make room")
	require.Contains(t, retry.Hint(err), "limits")
	require.Len(t, b.messages(t), 2)
}

func TestNoJetStream(t *testing.T) {
	b := startServer(t, func(o *server.Options) { o.JetStream = false })
	s := open(t, b)
	for _, err := range []error{s.Check(t.Context()), send(t, s, sinktest.Upload(0))} {
		require.Error(t, err)
		require.False(t, retry.IsPermanent(err))
		require.NotEmpty(t, retry.Hint(err))
	}
	require.EqualError(t, s.Check(t.Context()), b.url()+": JetStream does not answer")
}

func TestPermissions(t *testing.T) {
	user := func(name string, publish, subscribe []string) *server.User {
		return &server.User{Username: name, Password: "hunter2", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
		}}
	}
	b := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "hunter2"},
			user("other", []string{"other", "$JS.>"}, []string{"_INBOX.>"}),
			user("no-api", []string{"vod.>"}, []string{"_INBOX.>"}),
			user("deaf", []string{"vod.>", "$JS.>"}, []string{"x"}),
			user("private", []string{"vod.>", "$JS.>"}, []string{"_INBOX_private.>"}),
		}
	})
	b.addStream(t, nats.UserInfo("admin", "hunter2"))
	as := func(name string) func(*Config) {
		return func(cfg *Config) { cfg.Username, cfg.Password = name, "hunter2" }
	}
	start := time.Now()
	for name, test := range map[string]struct {
		err  error
		text string
	}{
		"subject": {send(t, open(t, b, as("other")), sinktest.Upload(0)), `the user may not use the subject "vod.events"`},
		"api":     {open(t, b, as("no-api")).Check(t.Context()), `the user may not use the subject "$JS.API.STREAM.NAMES"`},
	} {
		require.EqualError(t, test.err, b.url()+": "+test.text, name)
		require.False(t, retry.IsPermanent(test.err), name)
		require.NotEmpty(t, retry.Hint(test.err), name)
	}
	err := send(t, open(t, b, as("deaf")), sinktest.Upload(0))
	require.ErrorContains(t, err, `the user may not use the subject "_INBOX.`)
	require.Less(t, time.Since(start), 5*time.Second, "not after a timeout")

	// Publishing needs no more than that; other users of the connection's inbox do.
	require.NoError(t, send(t, open(t, b, as("no-api")), sinktest.Upload(0)))
	require.NoError(t, send(t, open(t, b, as("private"), func(cfg *Config) { cfg.InboxPrefix = "_INBOX_private" }), sinktest.Upload(1)))
}

// TestLogins has each way of logging in, and a secret that is replaced.
func TestLogins(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	seed := func(pair nkeys.KeyPair) string {
		text, err := pair.Seed()
		require.NoError(t, err)
		return string(text)
	}
	public := func(pair nkeys.KeyPair) string {
		text, err := pair.PublicKey()
		require.NoError(t, err)
		return text
	}
	user, err := nkeys.CreateUser()
	require.NoError(t, err)
	stranger, err := nkeys.CreateUser()
	require.NoError(t, err)
	for name, test := range map[string]struct {
		server    func(*server.Options)
		good, bad string // contents of the file
		sink      func(*Config, string)
	}{
		"password": {
			func(o *server.Options) { o.Username, o.Password = "vod", "hunter2" }, "hunter2\n", "wrong-s3cret",
			func(cfg *Config, file string) { cfg.Username, cfg.PasswordFile = "vod", file },
		},
		"token": {
			func(o *server.Options) { o.Authorization = "t0ken-hunter2" }, "t0ken-hunter2", "wrong-s3cret",
			func(cfg *Config, file string) { cfg.TokenFile = file },
		},
		"nkey": {
			func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public(user)}} }, seed(user) + "\n", seed(stranger),
			func(cfg *Config, file string) { cfg.NKeyFile = file },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, test.server)
			file := write(name, test.bad)
			s := open(t, b, func(cfg *Config) { test.sink(cfg, file); cfg.CreateStream.Enabled, cfg.Stream = true, stream })
			for _, err := range []error{s.Check(t.Context()), send(t, s, sinktest.Upload(0)), send(t, s, sinktest.Upload(0))} {
				require.EqualError(t, err, b.url()+": the login is refused")
				require.False(t, retry.IsPermanent(err))
				require.NotEmpty(t, retry.Hint(err))
				require.NotContains(t, err.Error()+retry.Hint(err), strings.TrimSpace(test.bad))
			}
			write(name, test.good)
			require.NoError(t, send(t, s, sinktest.Upload(0)))
			require.NoError(t, s.Check(t.Context()))

			require.NoError(t, os.Remove(file))
			require.NoError(t, s.Check(t.Context()), "the connection stays")
			b.wire.Cut()
			require.Eventually(t, func() bool { return s.Check(t.Context()) != nil }, 5*time.Second, time.Millisecond)
			err := s.Check(t.Context())
			require.ErrorContains(t, err, "_file: ")
			require.ErrorContains(t, err, "no such file")
			require.Contains(t, retry.Hint(err), "read the file")
		})
	}

	t.Run("credentials", func(t *testing.T) {
		b, creds := startOperator(t)
		file := write("vod.creds", creds)
		s := open(t, b, func(cfg *Config) {
			cfg.CredentialsFile, cfg.CreateStream.Enabled, cfg.Stream = file, true, stream
		})
		require.NoError(t, send(t, s, sinktest.Upload(0)))
		require.NoError(t, s.Check(t.Context()))
		for _, content := range []string{"no credentials s3cret", strings.Replace(creds, "eyJ", "eyK", 1)} {
			write("bad.creds", content)
			err := open(t, b, func(cfg *Config) { cfg.CredentialsFile = filepath.Join(dir, "bad.creds") }).Check(t.Context())
			require.Error(t, err)
			require.NotEmpty(t, retry.Hint(err))
			require.False(t, retry.IsPermanent(err))
			require.NotContains(t, err.Error(), "s3cret")
		}
	})

	t.Run("bad nkey", func(t *testing.T) {
		b := startServer(t)
		err := open(t, b, func(cfg *Config) { cfg.NKeyFile = write("seed", "SUs3cret") }).Check(t.Context())
		require.ErrorContains(t, err, "holds no seed of an NKey")
		require.NotContains(t, err.Error(), "s3cret")
	})
}

// startOperator starts a server with accounts and users as nsc makes them, and returns the .creds file of
// one.
func startOperator(t *testing.T) (*broker, string) {
	t.Helper()
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		kp, err := create()
		require.NoError(t, err)
		public, err := kp.PublicKey()
		require.NoError(t, err)
		return kp, public
	}
	operator, operatorKey := pair(nkeys.CreateOperator)
	account, accountKey := pair(nkeys.CreateAccount)
	_, systemKey := pair(nkeys.CreateAccount)
	user, userKey := pair(nkeys.CreateUser)

	operatorClaims := jwt.NewOperatorClaims(operatorKey)
	operatorClaims.SystemAccount = systemKey
	accountClaims := jwt.NewAccountClaims(accountKey)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: jwt.NoLimit, MemoryStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	accountJWT, err := accountClaims.Encode(operator)
	require.NoError(t, err)
	systemJWT, err := jwt.NewAccountClaims(systemKey).Encode(operator)
	require.NoError(t, err)
	userJWT, err := jwt.NewUserClaims(userKey).Encode(account)
	require.NoError(t, err)
	seed, err := user.Seed()
	require.NoError(t, err)
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	require.NoError(t, err)

	resolver := &server.MemAccResolver{}
	require.NoError(t, resolver.Store(accountKey, accountJWT))
	require.NoError(t, resolver.Store(systemKey, systemJWT))
	return startServer(t, func(o *server.Options) {
		o.TrustedOperators = []*jwt.OperatorClaims{operatorClaims}
		o.AccountResolver = resolver
		o.SystemAccount = systemKey
	}), string(creds)
}

func TestTLS(t *testing.T) {
	cert, ca := certificate(t)
	secure := startServer(t, func(o *server.Options) {
		o.TLS, o.TLSConfig = true, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	})
	plain := startServer(t)
	trust := func(cfg *Config) { cfg.TLS.CAFile = ca }
	scheme := func(cfg *Config) { cfg.Servers[0] = strings.Replace(cfg.Servers[0], "nats://", "tls://", 1) }
	create := func(cfg *Config) { cfg.CreateStream.Enabled, cfg.Stream = true, stream }
	require.NoError(t, send(t, open(t, secure, trust, create), sinktest.Upload(0)))
	require.NoError(t, open(t, secure, trust, scheme, create).Check(t.Context()))
	require.NoError(t, open(t, secure, create, func(cfg *Config) { cfg.TLS.InsecureSkipVerify = true }).Check(t.Context()))

	for name, test := range map[string]struct {
		b          *broker
		change     []func(*Config)
		text, hint string
	}{
		"unknown authority":  {secure, []func(*Config){scheme}, "its certificate is signed by an unknown authority", "tls.ca_file"},
		"as the server asks": {secure, nil, "its certificate is signed by an unknown authority", "tls.ca_file"},
		"other host":         {secure, []func(*Config){trust, func(cfg *Config) { cfg.TLS.ServerName = "example.com" }}, "its certificate is for another host", "tls.server_name"},
		"not offered":        {plain, []func(*Config){trust}, "it does not offer TLS", "nats://"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, test.b, test.change...)
			for _, err := range []error{s.Check(t.Context()), send(t, s, sinktest.Upload(0))} {
				require.EqualError(t, err, s.servers+": "+test.text)
				require.Contains(t, retry.Hint(err), test.hint)
				require.False(t, retry.IsPermanent(err))
			}
		})
	}
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

func TestDeniedSubject(t *testing.T) {
	for text, want := range map[string]string{
		`Permissions Violation for Publish to "vod.events"`:                      "vod.events",
		`Permissions Violation for Subscription to "_INBOX.x.*"`:                 "_INBOX.x.*",
		`Permissions Violation for Subscription to "_INBOX.x.*" using queue "q"`: "_INBOX.x.*",
		`something new`: "",
	} {
		got, ok := deniedSubject(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text))
		require.Equal(t, want, got)
		require.Equal(t, want != "", ok)
	}
	_, ok := deniedSubject(context.Canceled)
	require.False(t, ok)
}
