package vod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// script is a provider whose answers a test decides.
type script struct {
	mu     sync.Mutex
	calls  int
	answer func(ctx context.Context, call int) (Credential, error)
}

func (s *script) Retrieve(ctx context.Context) (Credential, error) {
	s.mu.Lock()
	s.calls++
	call := s.calls
	s.mu.Unlock()
	return s.answer(ctx, call)
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func temporary(n int, left time.Duration) Credential {
	return Credential{SecretID: fmt.Sprint("id", n), SecretKey: testKey, Token: testTok, Expires: time.Now().Add(left), Source: "script"}
}

func signedBy(t *testing.T, c *Client, all func() []seen) string {
	require.NoError(t, c.Queue(0).Confirm(context.Background(), []string{"a"}))
	requests := all()
	_, rest, _ := strings.Cut(requests[len(requests)-1].header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

func TestTemporaryKeyIsReplacedBeforeItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &script{answer: func(_ context.Context, n int) (Credential, error) { return temporary(n, 2*time.Hour), nil }}
		h, all := recorder(okReply)
		c := client(t, h, WithCredentials(p))
		synctest.Wait()
		require.Zero(t, p.count(), "nothing happens before the first call")
		require.Equal(t, "id1", signedBy(t, c, all))
		time.Sleep(2*time.Hour - refreshMargin - time.Second)
		require.Equal(t, "id1", signedBy(t, c, all))
		time.Sleep(2 * time.Second) // without any call
		synctest.Wait()
		require.Equal(t, 2, p.count())
		require.Equal(t, "id2", signedBy(t, c, all))
	})
}

// A metadata service that hangs blocks no call while the key in use is valid.
func TestHungRefreshBlocksNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs, seenLogs := observer.New(zapcore.WarnLevel)
		p := &script{answer: func(ctx context.Context, n int) (Credential, error) {
			if n > 1 {
				select {
				case <-time.After(time.Minute):
					return Credential{}, errors.New("hung")
				case <-ctx.Done():
					return Credential{}, ctx.Err()
				}
			}
			return temporary(n, time.Hour), nil
		}}
		h, all := recorder(okReply)
		c := client(t, h, WithCredentials(p), WithLogger(zap.New(logs)))
		start := time.Now()
		for time.Since(start) < time.Hour-time.Second {
			at := time.Now()
			require.Equal(t, "id1", signedBy(t, c, all))
			require.Zero(t, time.Since(at))
			time.Sleep(time.Second)
		}
		require.Greater(t, p.count(), 3)
		require.Equal(t, 1, seenLogs.Len(), "logged when it starts, not at every attempt")

		time.Sleep(2 * time.Second) // it has expired
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Queue(0).Confirm(ctx, []string{"a"}), context.DeadlineExceeded)
		err := c.Queue(0).Confirm(context.Background(), []string{"a"})
		require.ErrorContains(t, err, "ConfirmEvents: hung")
		require.Equal(t, refreshPause, retry.Delay(err))
	})
}

func TestFailedRefreshIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &script{answer: func(_ context.Context, n int) (Credential, error) {
			if n == 2 || n == 3 {
				return Credential{}, errors.New("not now")
			}
			return temporary(n, time.Hour), nil
		}}
		h, all := recorder(okReply)
		c := client(t, h, WithCredentials(p))
		require.Equal(t, "id1", signedBy(t, c, all))
		time.Sleep(55*time.Minute + 2*refreshPause + time.Second)
		synctest.Wait()
		require.Equal(t, 4, p.count())
		require.Equal(t, "id4", signedBy(t, c, all))
	})
}

// A source that gives the same key again is asked at growing urgency, never in a loop.
func TestSourceThatKeepsItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(time.Hour)
		p := &script{answer: func(context.Context, int) (Credential, error) {
			cred := temporary(1, 0)
			cred.Expires = ends
			return cred, nil
		}}
		h, all := recorder(okReply)
		c := client(t, h, WithCredentials(p))
		require.Equal(t, "id1", signedBy(t, c, all))
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		require.Greater(t, p.count(), 3)
		require.Less(t, p.count(), 20)
	})
}

func TestManyCallersFetchOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &script{answer: func(_ context.Context, n int) (Credential, error) {
			time.Sleep(time.Second)
			return temporary(n, time.Hour), nil
		}}
		c := client(t, answer(okReply), WithCredentials(p))
		var group sync.WaitGroup
		for range 32 {
			group.Go(func() {
				if err := c.Queue(0).Confirm(context.Background(), []string{"a"}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		require.Equal(t, 1, p.count())
	})
}

// A key that was rotated in its file is taken without a restart.
func TestFileIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := file(t, filepath.Join(t.TempDir(), "key.json"), `{"secret_id":"old","secret_key":"k"}`)
		cfg := testConfig()
		cfg.Credentials = with("file", func(c *CredentialsConfig) { c.File = path })
		h, all := recorder(okReply)
		c := newClient(t, serve(t, h), cfg)
		require.Equal(t, "old", signedBy(t, c, all))

		file(t, path, `{"secret_id":"new"`) // half written: the old one stays
		time.Sleep(2 * time.Second)
		require.Equal(t, "old", signedBy(t, c, all))
		synctest.Wait()
		require.Equal(t, "old", signedBy(t, c, all))

		file(t, path, `{"secret_id":"new","secret_key":"k"}`)
		time.Sleep(2 * time.Second)
		_ = signedBy(t, c, all) // notices
		synctest.Wait()
		require.Equal(t, "new", signedBy(t, c, all))
	})
}

func TestRefusedKeyIsFetchedAgain(t *testing.T) {
	t.Parallel()
	for code, again := range map[string]bool{
		"AuthFailure.TokenFailure": true, "AuthFailure.SecretIdNotFound": true, "AuthFailure.SignatureFailure": true,
		"AuthFailure.SignatureExpire": false, "InternalError": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &script{answer: func(_ context.Context, n int) (Credential, error) { return temporary(n, time.Hour), nil }}
			var refuse atomic.Bool
			refuse.Store(true)
			c := client(t, func(w http.ResponseWriter, _ *http.Request) {
				if refuse.Load() {
					write(w, apiError(code, "no"))
				} else {
					write(w, okReply)
				}
			}, WithCredentials(p))
			for range 10 { // many that fail together
				require.Error(t, c.Queue(0).Confirm(context.Background(), []string{"a"}))
			}
			time.Sleep(2 * time.Second)
			refuse.Store(false)
			require.NoError(t, c.Queue(0).Confirm(context.Background(), []string{"a"}))
			synctest.Wait()
			want := 1
			if again {
				want = 2
			}
			require.Equal(t, want, p.count(), code)
		})
	}
}

func TestProviderThatMisbehaves(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]providerFunc{
		"the credential provider panicked: boom": func(context.Context) (Credential, error) { panic("boom") },
		"the secret ID is empty":                 func(context.Context) (Credential, error) { return Credential{}, nil },
		"had expired when it was fetched":        func(context.Context) (Credential, error) { return temporary(1, -time.Hour), nil },
	} {
		_, err := client(t, answer(okReply), WithCredentials(p)).Queue(0).Pull(context.Background())
		require.ErrorContains(t, err, want)
	}
	_, err := client(t, answer(okReply), WithCredentials(providerFunc(func(context.Context) (Credential, error) {
		return Credential{}, context.DeadlineExceeded // its own, not the caller's
	}))).Queue(0).Pull(context.Background())
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	synctest.Test(t, func(t *testing.T) { // one that ignores its context still ends by itself
		p := providerFunc(func(context.Context) (Credential, error) {
			time.Sleep(time.Minute)
			return Credential{}, errors.New("late")
		})
		c := client(t, answer(okReply), WithCredentials(p))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.CredentialSource(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestNoCredentials(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Credentials = with("file", func(c *CredentialsConfig) { c.File = filepath.Join(t.TempDir(), "none") })
	c := newClient(t, serve(t, answer(okReply)), cfg)
	_, err := c.Queue(0).Pull(context.Background())
	require.ErrorContains(t, err, "PullEvents: credentials: file: ")
	require.True(t, retry.IsPermanent(err))
	require.NotEmpty(t, retry.Hint(err))
	c = client(t, answer(okReply))
	source, err := c.CredentialSource(context.Background())
	require.NoError(t, err)
	require.Equal(t, "the configuration", source)
}

// No printed form of anything here holds a secret.
func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	logs, seenLogs := observer.New(zapcore.DebugLevel)
	cfg := testConfig()
	cfg.Proxy = "http://user:VERYSECRETproxy@127.0.0.1:1"
	m := serve(t, answer(apiError("AuthFailure.SignatureFailure", "no")))
	c := newClient(t, m, cfg, WithLogger(zap.New(logs)), WithTransport(newTransport(m.Dial, nil)))
	_, callErr := c.Queue(0).Pull(context.Background())
	require.Error(t, callErr)
	cred := Credential{SecretID: testID, SecretKey: testKey, Token: testTok, Source: "x"}
	zap.New(logs).Info("all", zap.Any("credential", cred), zap.Any("config", cfg), zap.Any("credentials", cfg.Credentials), zap.Any("client", fmt.Sprint(c)), zap.Error(callErr))
	src := &sources{cfg: &cfg.Credentials}
	provider, err := src.provider()
	require.NoError(t, err)

	for name, v := range map[string]any{
		"config": cfg, "credentials": cfg.Credentials, "credentials pointer": &cfg.Credentials, "credential": cred, "credential pointer": &cred,
		"slice": []Credential{cred}, "client": c, "keeper": c.keys, "queue": c.Queue(0), "error": callErr, "provider": provider,
		"struct": struct{ C Config }{cfg},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			require.NotContains(t, fmt.Sprintf(verb, v), "VERYSECRET", name+" "+verb)
		}
	}
	for _, v := range []any{cfg, cfg.Credentials, cred, &cred} {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, string(text), "VERYSECRET")
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	for _, entry := range seenLogs.All() {
		line, err := encoder.EncodeEntry(entry.Entry, entry.Context)
		require.NoError(t, err)
		require.NotContains(t, line.String(), "VERYSECRET")
	}
	require.NotZero(t, seenLogs.Len())
}
