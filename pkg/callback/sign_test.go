package callback

import (
	"crypto/md5"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestSignatureWhereverItStands(t *testing.T) {
	h := &recorder{}
	cfg := testConfig()
	cfg.SignKey = testKey
	s := receiver(t, cfg, nil, h)
	at := fmt.Sprint(time.Now().Add(time.Minute).Unix())
	sign := fmt.Sprintf("%x", md5.Sum([]byte(testKey+at)))
	want := idOf(t, `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`)
	for _, body := range []string{
		`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]},"Sign":"` + sign + `","T":` + at + `}`,
		`{"Sign":"` + strings.ToUpper(sign) + `","T":"` + at + `","EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`,
		`{"t":` + at + `,"EventType":"FileDeleted","sign":"` + sign + `","FileDeleteEvent":{"FileIdSet":["1"]}}`,
		`{"EventType":"FileDeleted","FileDeleteEvent":{"Sign":"` + sign + `","FileIdSet":["1"],"T":` + at + `}}`,
		`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"],"T":"` + at + `","SIGN":"` + sign + `"},"PullCompleteEvent":null}`,
		`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]},"\u0053ign":"` + sign + `","T":` + at + `}`,
		`{"EventType":"FileDeleted","Sign":"` + strings.Repeat("0", 32) + `","FileDeleteEvent":{"FileIdSet":["1"]},"Sign":"` + sign + `","T":` + at + `}`,
	} {
		status, text := ask(s, body)
		require.Equal(t, http.StatusOK, status, "%s: %s", body, text)
		e := h.delivery()
		require.Equal(t, want, e.ID, body)
		require.NotContains(t, strings.ToLower(string(e.Raw)), sign, "whoever sees the event could post others")
	}
}

func TestSignatureIsRefused(t *testing.T) {
	cfg := testConfig()
	cfg.SignKey, cfg.PreviousSignKey = testKey, "previous"
	h := &recorder{}
	core, logged := observer.New(zapcore.ErrorLevel)
	s := receiver(t, cfg, zap.New(core), h)
	body := notification(1)
	at := fmt.Sprint(time.Now().Add(time.Minute).Unix())
	right := fmt.Sprintf("%x", md5.Sum([]byte(testKey+at)))
	with := func(sign, t string) string { return body[:len(body)-1] + `,"Sign":` + sign + `,"T":` + t + `}` }
	for _, c := range []struct{ body, want string }{
		{body, "carries no signature"},
		{with(`"`+right+`"`, "null"), "carries no signature"},
		{with(`null`, at), "carries no signature"},
		{with(`"`+right[:31]+`"`, at), "carries no signature"},
		{with(`"`+right[:31]+`g"`, at), "carries no signature"},
		{with(`"`+right+`"`, at+"0"), "was not made with this receiver's key"},
		{with(`"`+right+`"`, at+".0"), "carries no signature"},
		{with(`"`+right+`"`, "-"+at), "carries no signature"},
		{with(`["`+right+`"]`, at), "carries no signature"},
		{signed(t, body, "another", time.Minute), "was not made with this receiver's key"},
		{signed(t, body, "", time.Minute), "was not made with this receiver's key"},
		{signed(t, body, testKey, -2*time.Second), "the signature expired"},
		{signed(t, body, testKey, SignLife+maxSkew+time.Minute), "and VOD makes them for 10m0s: check this machine's clock"},
		{signed(t, body, testKey, 100*365*24*time.Hour), "the signature is valid for longer than 15m0s"},
		{body[:len(body)-2] + `,"A":{"Sign":"` + right + `","T":` + at + `}}}`, "carries no signature"}, // too deep
	} {
		status, text := ask(s, c.body)
		require.Equal(t, http.StatusUnauthorized, status, c.body)
		require.Contains(t, text, c.want)
		require.NotContains(t, text, testKey)
	}
	require.Zero(t, h.calls())
	messages := map[string]bool{} // few, so that a log which samples by message is not filled by a stranger
	for _, line := range logged.All() {
		messages[line.Message] = true
	}
	require.Len(t, messages, 4)
	require.EqualValues(t, 15, s.Stats().Unsigned)
	for _, key := range []string{testKey, "previous"} {
		status, _ := ask(s, signed(t, body, key, time.Minute))
		require.Equal(t, http.StatusOK, status)
	}
}

func TestSignatureExpiresAtT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := signature{t: fmt.Sprint(time.Now().Add(SignLife).Unix())}
		s.sign = fmt.Sprintf("%x", sum(testKey, s.t))
		time.Sleep(SignLife)
		require.NoError(t, verify([]string{testKey}, []signature{s}, time.Now()))
		time.Sleep(time.Second)
		require.EqualError(t, verify([]string{testKey}, []signature{s}, time.Now()), "the signature expired 1s ago: check this machine's clock")
		early := time.Now().Add(-SignLife - time.Second - maxSkew) // a clock that is slow by as much as may be
		require.NoError(t, verify([]string{testKey}, []signature{s}, early))
		require.ErrorContains(t, verify([]string{testKey}, []signature{s}, early.Add(-time.Second)), "the signature is valid for longer than 15m0s")
		fresh := signature{t: fmt.Sprint(time.Now().Unix())}
		fresh.sign = fmt.Sprintf("%x", sum(testKey, fresh.t))
		require.NoError(t, verify([]string{testKey}, []signature{s, fresh}, time.Now()), "one of them is enough")
	})
}

func TestKeysAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	key, previous := filepath.Join(dir, "key"), filepath.Join(dir, "previous")
	write := func(path, content string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(content), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	write(key, "old\n")
	cfg := testConfig()
	cfg.SignKeyFile, cfg.PreviousSignKeyFile = key, previous
	h := &recorder{}
	s := receiver(t, cfg, nil, h)
	accepted := func(key string) bool {
		status, _ := ask(s, signed(t, notification(1), key, time.Minute))
		return status == http.StatusOK
	}
	require.True(t, accepted("old"))
	require.False(t, accepted("new"))
	write(previous, "old")
	write(key, "new")
	require.True(t, accepted("old"))
	require.True(t, accepted("new"))
	require.NoError(t, os.Remove(previous))
	require.False(t, accepted("old"))
	require.True(t, accepted("new"))
	write(key, "not a key!")
	status, text := ask(s, signed(t, notification(1), "new", time.Minute))
	require.Equal(t, http.StatusServiceUnavailable, status, "VOD may try again when the key is mended")
	require.Equal(t, "the key for signatures cannot be read: see vodrelay's log", text)
	write(key, "new")
	require.True(t, accepted("new"))
	before, err := os.Stat(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(key, []byte("own"), 0o600)) // in place, of the same size, with the same time
	require.NoError(t, os.Chtimes(key, before.ModTime(), before.ModTime()))
	require.True(t, accepted("own"))
	require.False(t, accepted("new"))
}

func TestSign(t *testing.T) {
	for _, body := range []string{notification(1), " {} \n", `{"EventType":"x"}`} {
		text, err := Sign([]byte(body), testKey, time.Now().Add(time.Minute))
		require.NoError(t, err)
		m, err := parse(text)
		require.NoError(t, err, "%s", text)
		require.NoError(t, verify([]string{testKey}, m.signatures, time.Now()))
		require.JSONEq(t, body, string(m.content))
	}
	for _, body := range []string{"", "[]", "{", `{"a":1}x`} {
		_, err := Sign([]byte(body), testKey, time.Now())
		require.Error(t, err, body)
	}
}
