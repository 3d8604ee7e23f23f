//go:build unix

package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// requireRefused checks the error of a Send, twice the same, and of a Check, for which no event is to blame.
func requireRefused(t *testing.T, s *Sink, text, hint string) {
	t.Helper()
	for i := range 2 {
		err := send(t, s, sinktest.Upload(i))
		require.EqualError(t, err, s.servers+": "+text)
		require.False(t, retry.IsPermanent(err), err)
		require.Contains(t, retry.Hint(err), hint)
	}
	require.EqualError(t, s.Check(t.Context()), s.servers+": "+text)
}

func TestRefusals(t *testing.T) {
	s := startServer(t, "--requirepass", "hunter2")
	admin := s.client(func(o *redis.Options) { o.Password = "hunter2" })
	do := func(args ...any) { t.Helper(); require.NoError(t, admin.Do(t.Context(), args...).Err()) }
	login := func(c *Config) { c.Password = "hunter2" }
	user := func(name string) func(*Config) {
		return func(c *Config) { c.Username, c.Password = name, "s3cret" }
	}
	dedup := func(c *Config) { c.DedupWindow = time.Minute }

	requireRefused(t, open(t, s.address()), "the login is refused", "password_file")
	requireRefused(t, open(t, s.address(), user("nobody")), "the login is refused", "username")
	requireRefused(t, open(t, s.address(), func(c *Config) { c.Password = "s3cret" }), "the login is refused", "password")
	requireRefused(t, open(t, s.address(), login, func(c *Config) { c.DB = 99 }), "the database does not exist", "db")
	requireRefused(t, open(t, s.address(), login, func(c *Config) { c.Mode = modeCluster }), "the server is not part of a cluster", "mode")

	do("set", stream, "x")
	requireRefused(t, open(t, s.address(), login), `key "vod-events": holds another type of value`, "key")
	requireRefused(t, open(t, s.address(), login, dedup), `key "vod-events": holds another type of value`, "key")
	requireRefused(t, open(t, s.address(), login, func(c *Config) { c.Command = commandLPush }), `key "vod-events": holds another type of value`, "key")
	do("del", stream)

	const denied = `key "vod-events": the user may not write to it`
	do("acl", "setuser", "reader", "on", ">s3cret", "+@read", "+@connection", "+info", "~*")
	requireRefused(t, open(t, s.address(), user("reader")), denied, "ACL SETUSER")
	do("acl", "setuser", "elsewhere", "on", ">s3cret", "+@all", "~other")
	requireRefused(t, open(t, s.address(), user("elsewhere")), denied, "ACL SETUSER")
	do("acl", "setuser", "noscript", "on", ">s3cret", "+xadd", "+@connection", "~*")
	requireRefused(t, open(t, s.address(), user("noscript"), dedup), denied, "+eval")
	// What the hint says is enough.
	do("acl", "setuser", "vodrelay", "on", ">s3cret", "+xadd", "+eval", "+exists", "+set", "+pexpire", "+wait", "~vod-events", "~vodrelay:seen:*")
	enough := open(t, s.address(), user("vodrelay"), dedup)
	require.NoError(t, enough.Check(t.Context()))
	require.NoError(t, send(t, enough, sinktest.Upload(0)))
	require.NoError(t, send(t, enough, sinktest.Upload(0)))
	do("flushall")

	do("config", "set", "maxmemory", "1")
	requireRefused(t, open(t, s.address(), login), "the server is out of memory", "maxmemory")
	requireRefused(t, open(t, s.address(), login, dedup), "the server is out of memory", "maxmemory")
	do("config", "set", "maxmemory", "0")
	do("config", "set", "min-replicas-to-write", "1")
	requireRefused(t, open(t, s.address(), login), "too few replicas are connected", "replicas")
	do("config", "set", "min-replicas-to-write", "0")
	do("replicaof", "127.0.0.1", "1")
	requireRefused(t, open(t, s.address(), login), "the server is a replica", "master")
	do("replicaof", "no", "one")
	require.NoError(t, send(t, open(t, s.address(), login), sinktest.Upload(0)))
}

// TestAnswers has what no server here answers.
func TestAnswers(t *testing.T) {
	s := open(t, "redis:6379")
	for answer, want := range map[string]string{
		"ERR Error running script (call to f_ab): @user_script:5: WRONGTYPE Operation against a key": `key "k": holds another type of value`,
		"ERR Error running script (call to f_ab): @user_script: 5: OOM command not allowed":          "the server is out of memory",
		"MOVED 3999 127.0.0.1:6381":                      `key "k": is on another server of a cluster`,
		"CLUSTERDOWN The cluster is down":                "the cluster is down",
		"LOADING Redis is loading the dataset in memory": "the server is still loading its data",
		"ERR something 17 new \"hunter2\"":               `the server answers ERR something N new "..."`,
	} {
		err := s.judge(answerError(answer), "k")
		require.EqualError(t, err, "redis:6379: "+want)
		require.False(t, retry.IsPermanent(err))
		require.NotEmpty(t, retry.Hint(err))
	}
}

// TestChosenKey has a key that key_expression chose for one event, and that cannot go with its mark.
func TestChosenKey(t *testing.T) {
	fixed := open(t, "redis:6379")
	chosen := open(t, "redis:6379", func(c *Config) { c.Key, c.KeyExpression = "", "subject" })
	const answer = answerError("CROSSSLOT Keys in request don't hash to the same slot")
	require.False(t, retry.IsPermanent(fixed.judge(answer, "k")))
	require.True(t, retry.IsPermanent(chosen.judge(answer, "k")))
}

// TestLate tells a server that is slow to answer from one that cannot be reached.
func TestLate(t *testing.T) {
	s := open(t, "redis:6379")
	timeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	for text, errs := range map[string][]error{
		"no answer in time":     {timeout, context.DeadlineExceeded, context.Canceled},
		"no connection in time": {&connectError{timeout}, &connectError{context.DeadlineExceeded}},
	} {
		for _, err := range errs {
			require.EqualError(t, s.judge(err, ""), "redis:6379: "+text)
		}
	}
}

type answerError string

func (e answerError) Error() string { return string(e) }
func (answerError) RedisError()     {}

// TestTooLarge has one event among others that the server does not take.
func TestTooLarge(t *testing.T) {
	s := startServer(t, "--proto-max-bulk-len", "1mb")
	sink := open(t, s.address())
	e := sinktest.Upload(0)
	e.Raw = []byte(`{"EventType":"NewFileUpload","x":"` + strings.Repeat("x", 2_000_000) + `"}`)
	var err error
	require.Eventually(t, func() bool { err = send(t, sink, e); return retry.IsPermanent(err) }, 10*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, err, `key "vod-events": the event is too large`)
	require.Eventually(t, func() bool { return send(t, sink, sinktest.Upload(1)) == nil }, 10*time.Second, 10*time.Millisecond)
}

func TestNoKey(t *testing.T) {
	s := open(t, "127.0.0.1:1", func(c *Config) { c.Key, c.KeyExpression = "", "payload.Nothing" })
	err := send(t, s, sinktest.Upload(0))
	require.EqualError(t, err, "key_expression: gives no key")
	require.True(t, retry.IsPermanent(err))
}

// TestPasswordFile has the password replaced on both sides.
func TestPasswordFile(t *testing.T) {
	s := startServer(t, "--requirepass", "old")
	admin := s.client(func(o *redis.Options) { o.Password = "old" })
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("old\n"), 0o600))
	sink := open(t, s.address(), func(c *Config) { c.PasswordFile = file })
	require.NoError(t, send(t, sink, sinktest.Upload(0)))
	require.NoError(t, admin.ConfigSet(t.Context(), "requirepass", "brandnew").Err())
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err())
	require.Eventually(t, func() bool {
		err := send(t, sink, sinktest.Upload(1))
		return err != nil && err.Error() == s.address()+": the login is refused"
	}, 5*time.Second, 10*time.Millisecond)
	require.NoError(t, os.WriteFile(file, []byte("brandnew\n"), 0o600))
	require.NoError(t, send(t, sink, sinktest.Upload(1)))
	require.NoError(t, os.Remove(file))
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err())
	require.Eventually(t, func() bool { return send(t, sink, sinktest.Upload(2)) != nil }, 5*time.Second, 10*time.Millisecond)
	err := send(t, sink, sinktest.Upload(2))
	require.ErrorContains(t, err, "password_file: ")
	require.False(t, retry.IsPermanent(err))
}

// TestTLS has a certificate that is good, one that is not trusted, and each side without TLS.
func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	port := freePort(t)
	s := startServer(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "yes")
	secure := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	trust := func(c *Config) {
		c.UseTLS, c.TLS.CAFile, c.TLS.CertFile, c.TLS.KeyFile = true, cert, cert, key
	}
	sink := open(t, secure, trust)
	require.NoError(t, sink.Check(t.Context()))
	require.NoError(t, send(t, sink, sinktest.Upload(1)))
	require.Len(t, entries(t, s.client(), stream), 1)

	requireRefused(t, open(t, secure, func(c *Config) { c.UseTLS = true }), "its certificate is signed by an unknown authority", "tls.ca_file")
	requireRefused(t, open(t, secure, trust, func(c *Config) { c.TLS.ServerName = "example.com" }), "its certificate is for another host", "tls.server_name")
	requireRefused(t, open(t, s.address(), trust), "no connection in time", "use_tls")
	err := send(t, open(t, secure), sinktest.Upload(0))
	require.ErrorContains(t, err, "it closed the connection without an answer")
	require.Contains(t, retry.Hint(err), "use_tls")
}

func certificate(t *testing.T) (certFile, keyFile string) {
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
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile
}

// TestCloseGivesUp has the answer to an event not come before the end.
func TestCloseGivesUp(t *testing.T) {
	s := startServer(t)
	sink := open(t, s.address())
	require.NoError(t, send(t, sink, sinktest.Upload(0)))
	s.pause()
	defer s.resume()
	brief := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 100*time.Millisecond)
	}
	ctx, cancel := brief()
	defer cancel()
	require.ErrorContains(t, sink.Send(ctx, sinktest.Upload(1)), "no answer in time")
	ctx, cancel = brief()
	defer cancel()
	start := time.Now()
	require.ErrorContains(t, sink.Close(ctx), "events were not acknowledged before the end")
	require.Less(t, time.Since(start), 2*time.Second)
}
