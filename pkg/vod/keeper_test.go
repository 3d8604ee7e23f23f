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
		_, _, err := c.CredentialSource(ctx)
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
	source, _, err := c.CredentialSource(context.Background())
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

// What copying leaves around a key is left out, whichever source it comes from, and reported once.
func TestWhatStandsAroundAKey(t *testing.T) {
	t.Parallel()
	for part, want := range map[string]string{
		"key": "", "\ufeffkey": "a byte order mark", "key\r\n": "a line end", "\tkey ": "blanks", "\u00a0key": "blanks", `"key"`: "quotes",
		"'key'\n": "a line end, quotes", "\ufeff\" key\"": "a byte order mark, quotes, blanks", "\u200bkey\u202e": "invisible characters", "`key`": "quotes",
	} {
		got, around := bare(part)
		require.Equal(t, "key", got, "%q", part)
		require.Equal(t, want, strings.Join(around, ", "), "%q", part)
	}
	for _, part := range []string{"", `"`, `""`, "\ufeff\n", `"key`, "k y", "k\x00"} { // what is left is refused
		cred := Credential{SecretID: "id", SecretKey: part}
		require.Error(t, cred.tidy(), "%q", part)
	}

	dir := t.TempDir()
	env := map[string]string{"TENCENTCLOUD_SECRET_ID": "\ufeffid", "TENCENTCLOUD_SECRET_KEY": `"VERYSECRET"`, "TENCENTCLOUD_TOKEN": "tok\n"}
	at := func(name, content string) string { return file(t, filepath.Join(dir, name), content) }
	at("dir/secret_id", "\ufeffid\r\n")
	at("dir/secret_key", "\"VERYSECRET\"\n")
	at("dir/token", "tok\n") // usual
	fromFile := func(name string) CredentialsConfig {
		return with("file", func(c *CredentialsConfig) { c.File = filepath.Join(dir, name) })
	}
	at("j.json", `{"secret_id":"\ufeffid","secret_key":"\"VERYSECRET\"","token":"tok\n"}`)
	at("f.ini", "\ufeff[default]\r\nsecret_id = 'id'\r\nsecret_key=VERYSECRET\r\ntoken=tok")
	const all = "the secret ID has a byte order mark around it; the secret key has quotes around it"
	for name, c := range map[string]struct {
		cfg  CredentialsConfig
		env  map[string]string
		want string
	}{
		"environment": {with("env"), env, all + "; the token has a line end around it"},
		"static": {with("static", func(c *CredentialsConfig) { c.SecretID, c.SecretKey, c.Token = "id ", "VERYSECRET", "tok" }), nil,
			"the secret ID has blanks around it"},
		"directory": {fromFile("dir"), nil, all},
		"JSON":      {fromFile("j.json"), nil, all + "; the token has a line end around it"},
		"INI":       {fromFile("f.ini"), nil, ""}, // these are its syntax
	} {
		synctest.Test(t, func(t *testing.T) {
			logs, seenLogs := observer.New(zapcore.WarnLevel)
			src := &sources{cfg: &c.cfg, env: func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }}
			p, err := src.provider()
			require.NoError(t, err)
			k := newKeeper(p, zap.New(logs))
			defer k.close()
			for range 3 {
				cred, err := k.get(t.Context())
				require.NoError(t, err, name)
				require.Equal(t, []string{"id", "VERYSECRET", "tok"}, []string{cred.SecretID, cred.SecretKey, cred.Token}, name)
				require.Equal(t, c.want, cred.untidy, name)
				time.Sleep(2 * recheck)
				synctest.Wait()
			}
			if c.want == "" {
				require.Zero(t, seenLogs.Len(), name)
				return
			}
			require.Equal(t, 1, seenLogs.FilterMessage("the API key is used without what stands around it").Len(), name)
			require.NotContains(t, fmt.Sprint(seenLogs.All()), "VERYSECRET")
		})
	}
	utf16 := at("utf16", "\xff\xfei\x00d\x00")
	_, err := retrieve(t, with("file", func(c *CredentialsConfig) { c.File = utf16 }), nil, nil)
	require.ErrorContains(t, err, utf16+": is text in UTF-16, save it in UTF-8")
}

// Who waits makes no calls, and still learns at once that a refused key was replaced in its file.
func TestARefusedFileIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := file(t, filepath.Join(t.TempDir(), "key"), "secret_id=id\nsecret_key=wrong")
		c := client(t, answer(apiError("AuthFailure.SignatureFailure", "no")), func(o *options) {
			cfg := with("file", func(c *CredentialsConfig) { c.File = path })
			p, err := (&sources{cfg: &cfg}).provider()
			require.NoError(t, err)
			o.provider = p
		})
		q := c.Queue(0)
		before := q.CredentialChanged()
		require.NotNil(t, before, "nothing is known yet")
		_, err := q.Pull(t.Context())
		require.True(t, retry.IsKeyRefused(err))
		changed := q.CredentialChanged()
		select {
		case <-before:
			t.Fatal("the first one ends no wait: nothing was refused before it")
		case <-changed:
			t.Fatal("it did not change")
		case <-time.After(time.Minute):
		}
		file(t, path, "secret_id=id\nsecret_key=right")
		began := time.Now()
		<-changed
		require.LessOrEqual(t, time.Since(began), recheck)
	})
	c := client(t, answer(okReply)) // a key in the configuration
	require.NoError(t, c.Queue(0).Confirm(t.Context(), []string{"a"}))
	require.Nil(t, c.Queue(0).CredentialChanged())
}
