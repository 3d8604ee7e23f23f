package vod

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// retrieve asks what cfg names, with env as the whole environment and m as the whole network.
func retrieve(t *testing.T, cfg CredentialsConfig, env map[string]string, m *memory) (Credential, error) {
	if m == nil {
		m = newMemory()
		require.NoError(t, m.Close())
	}
	transport := newTransport(m.Dial, nil)
	t.Cleanup(transport.CloseIdleConnections)
	src := &sources{
		cfg: &cfg, dial: m.Dial, transport: reader{transport},
		limits: newLimits(time.Second, 1<<20),
		env:    func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
	p, err := src.provider()
	require.NoError(t, err)
	return p.Retrieve(context.Background())
}

func with(provider string, change ...func(*CredentialsConfig)) CredentialsConfig {
	cfg := DefaultCredentialsConfig()
	cfg.Provider = provider
	cfg.STSEndpoint, cfg.MetadataURL = "http://sts.test", "http://metadata.test"
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

func file(t *testing.T, path, content string) string {
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	cred, err := retrieve(t, with("env"), map[string]string{"TENCENTCLOUD_SECRET_ID": "id", "TENCENTCLOUD_SECRET_KEY": "key", "TENCENTCLOUD_TOKEN": "tok"}, nil)
	require.NoError(t, err)
	require.Equal(t, [3]string{"id", "key", "tok"}, [3]string{cred.SecretID, cred.SecretKey, cred.Token})
	for want, env := range map[string]map[string]string{
		"TENCENTCLOUD_SECRET_ID is not set":              {},
		"but TENCENTCLOUD_SECRET_ID is not":              {"TENCENTCLOUD_SECRET_KEY": "VERYSECRET"},
		"TENCENTCLOUD_SECRET_KEY is not":                 {"TENCENTCLOUD_SECRET_ID": "id", "TENCENTCLOUD_SECRET_KEY": ""},
		"the key is in TENCENTCLOUD_SECRET_KEY_FILE":     {"TENCENTCLOUD_SECRET_ID": "id", "TENCENTCLOUD_SECRET_KEY_FILE": "/x"},
		"credentials: env: TENCENTCLOUD_SECRET_KEY is s": {"TENCENTCLOUD_SECRET_KEY": "VERYSECRET"},
	} {
		_, err := retrieve(t, with("env"), env, nil)
		require.ErrorContains(t, err, want)
		require.True(t, retry.IsPermanent(err))
		require.NotEmpty(t, retry.Hint(err))
		require.NotContains(t, err.Error(), "VERYSECRET")
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name, content string) string { return file(t, filepath.Join(dir, name), content) }
	for name, row := range map[string]struct {
		cfg CredentialsConfig
		env map[string]string
	}{
		"json": {cfg: with("file", func(c *CredentialsConfig) {
			c.File = at("a.json", `{"secretId":"id","SecretKey":"key","TOKEN":"tok","other":1}`)
		})},
		"ini": {cfg: with("file", func(c *CredentialsConfig) {
			c.File = at("a.ini", "\ufeff# c\r\n[default]\r\nsecret_id = id\r\nsecret_key=key\r\ntoken=tok\r\n[x]\nsecret_id=no\n")
		})},
		"ini profile": {cfg: with("file", func(c *CredentialsConfig) {
			c.File, c.Profile = at("b.ini", "[default]\nsecret_id=no\nsecret_key=no\n[prod]\nsecret_id=id\nsecret_key=key\ntoken=tok"), "prod"
		})},
		"environment file": {cfg: with("file", func(c *CredentialsConfig) {
			c.File = at("c.env", "export TENCENTCLOUD_SECRET_ID=\"id\"\nTENCENTCLOUD_SECRET_KEY='key'\nTENCENTCLOUD_TOKEN=tok\n")
		})},
		"kubernetes mount": {cfg: with("file", func(c *CredentialsConfig) {
			at("k8s/secret_id", "id\n")
			at("k8s/secret_key", "key")
			at("k8s/TENCENTCLOUD_TOKEN", " tok ")
			at("k8s/..2024/secret_id", "no")
			c.File = filepath.Join(dir, "k8s")
		})},
		"systemd":          {cfg: with("file"), env: map[string]string{"CREDENTIALS_DIRECTORY": filepath.Dir(at("sd/tencentcloud-secret-id", "id") + at("sd/tencentcloud-secret-key", "key") + at("sd/tencentcloud-token", "tok"))[:len(dir)+3]}},
		"systemd one file": {cfg: with("file"), env: map[string]string{"CREDENTIALS_DIRECTORY": filepath.Dir(at("sd1/tencentcloud-credentials", `{"secret_id":"id","secret_key":"key","token":"tok"}`))}},
		"*_FILE": {cfg: with("file"), env: map[string]string{
			"TENCENTCLOUD_SECRET_ID_FILE": at("id", "id"), "TENCENTCLOUD_SECRET_KEY_FILE": at("key", "key"), "TENCENTCLOUD_TOKEN_FILE": at("tok", "tok")}},
		"only the key in a file": {cfg: with("auto"), env: map[string]string{
			"TENCENTCLOUD_SECRET_ID": "id", "TENCENTCLOUD_SECRET_KEY_FILE": at("key2", "key"), "TENCENTCLOUD_TOKEN": "tok"}},
		"static with files": {cfg: with("static", func(c *CredentialsConfig) {
			c.SecretID, c.SecretKeyFile, c.TokenFile = "id", at("key3", "key"), at("tok3", "tok")
		})},
		"profile":              {cfg: with("profile"), env: map[string]string{"HOME": filepath.Dir(filepath.Dir(at("home/.tencentcloud/credentials", "[default]\nsecret_id=id\nsecret_key=key\ntoken=tok")))}},
		"profile elsewhere":    {cfg: with("profile"), env: map[string]string{"TENCENTCLOUD_CREDENTIALS_FILE": at("elsewhere", "[default]\nsecret_id=id\nsecret_key=key\ntoken=tok")}},
		"tccli":                {cfg: with("tccli"), env: map[string]string{"HOME": filepath.Dir(filepath.Dir(at("home2/.tccli/default.credential", `{"secretId":"id","secretKey":"key","token":"tok"}`)))}},
		"tccli TCCLI_PROFILE":  {cfg: with("auto"), env: map[string]string{"TCCLI_PROFILE": "p", "HOME": filepath.Dir(filepath.Dir(at("home3/.tccli/p.credential", `{"secretId":"id","secretKey":"key","token":"tok"}`)))}},
		"tccli in the profile": {cfg: with("tccli", func(c *CredentialsConfig) { c.Profile = "q" }), env: map[string]string{"USERPROFILE": filepath.Dir(filepath.Dir(at("home4/.tccli/q.credential", `{"secretId":"id","secretKey":"key","token":"tok"}`)))}},
	} {
		cred, err := retrieve(t, row.cfg, row.env, nil)
		require.NoError(t, err, name)
		require.Equal(t, [3]string{"id", "key", "tok"}, [3]string{cred.SecretID, cred.SecretKey, cred.Token}, name)
		require.Equal(t, recheck, cred.Recheck, name)
		require.NotEmpty(t, cred.Source, name)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for content, want := range map[string]string{
		"":                                    "the secret ID is empty",
		"{":                                   "is not valid JSON",
		`{"secret_id":"VERYSECRET"`:           "is not valid JSON",
		`{"secret_id":1,"secret_key":"x"}`:    "a part of the key is not a string",
		`{"secret_id":"x","secret_key":null}`: "the secret key is empty",
		"[other]\nsecret_id=x\nsecret_key=VERYSECRET":         "the secret ID is empty", // the SDK panics here
		"[default\nsecret_id=x":                               "line 1: the section's name has no closing bracket",
		"VERYSECRET":                                          "line 1: is not of the form name = value",
		"secret_id=x\nsecret_key=VERYSECRET with blanks":      "the secret key has blanks",
		"secret_id=x\nsecret_key=VERYSECRET\x00":              "the secret key has blanks",
		`{"secret_id":"x","secret_key":"a\nb"}`:               "the secret key has blanks",
		strings.Repeat("x", maxSmallFile+1) + "=VERYSECRET\n": "is larger than 65536 bytes",
	} {
		path := file(t, filepath.Join(dir, "f"), content)
		_, err := retrieve(t, with("file", func(c *CredentialsConfig) { c.File = path }), nil, nil)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
		require.True(t, retry.IsPermanent(err))
		require.NotContains(t, fmt.Sprintf("%+v", err), "VERYSECRET")
	}
	_, err := retrieve(t, with("file", func(c *CredentialsConfig) { c.File = filepath.Join(dir, "none") }), nil, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = retrieve(t, with("file", func(c *CredentialsConfig) { c.File, c.Profile = file(t, filepath.Join(dir, "g"), "a=b"), "prod" }), nil, nil)
	require.ErrorContains(t, err, "has no section [prod]")
	file(t, filepath.Join(dir, "half", "secret_id"), "x")
	_, err = retrieve(t, with("file", func(c *CredentialsConfig) { c.File = filepath.Join(dir, "half") }), nil, nil)
	require.ErrorContains(t, err, "the secret key is empty")
}

// metadataServer is the metadata service of an instance with the role "relay".
func metadataServer(left time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case rolePath:
			_, _ = fmt.Fprintln(w, "relay")
		case rolePath + "relay":
			_ = json.NewEncoder(w).Encode(map[string]any{"TmpSecretId": "id", "TmpSecretKey": "key", "Token": "tok", "Code": "Success", "ExpiredTime": time.Now().Add(left).Unix()})
		default:
			http.NotFound(w, r)
		}
	}
}

func TestCVM(t *testing.T) {
	t.Parallel()
	m := serve(t, metadataServer(time.Hour))
	for _, cfg := range []CredentialsConfig{with("cvm"), with("auto"), with("cvm", func(c *CredentialsConfig) { c.CVMRole = "relay" })} {
		cred, err := retrieve(t, cfg, nil, m)
		require.NoError(t, err)
		require.Equal(t, [3]string{"id", "key", "tok"}, [3]string{cred.SecretID, cred.SecretKey, cred.Token})
		require.InDelta(t, time.Hour, time.Until(cred.Expires), float64(2*time.Second))
		require.Equal(t, "CVM role relay", cred.Source)
	}
	_, err := retrieve(t, with("cvm", func(c *CredentialsConfig) { c.CVMRole = "other" }), nil, m)
	require.ErrorContains(t, err, "no role is bound")
	require.True(t, retry.IsPermanent(err))

	for body, want := range map[string]string{
		"<html>VERYSECRET</html>": "not the name of a role",
		"":                        "no role is bound",
	} {
		_, err := retrieve(t, with("cvm"), nil, serve(t, answer(body)))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "VERYSECRET")
	}
	for body, want := range map[string]string{
		"VERYSECRET":        "not the documented JSON",
		`{"Code":"Failed"}`: "has no key for role relay: code Failed",
		`{"Code":"Success","TmpSecretId":"id","TmpSecretKey":"VERYSECRET"}`: "has no key for role relay",
	} {
		_, err := retrieve(t, with("cvm", func(c *CredentialsConfig) { c.CVMRole = "relay" }), nil, serve(t, answer(body)))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "VERYSECRET")
		require.False(t, retry.IsPermanent(err), "the service may recover")
	}
	_, err = retrieve(t, with("cvm"), nil, nil)
	require.ErrorContains(t, err, "the metadata service: dial: failed")
	require.False(t, retry.IsPermanent(err))
	_, err = retrieve(t, with("cvm"), nil, serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })))
	require.ErrorContains(t, err, "the metadata service: HTTP 503")
}

func TestCVMHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		start := time.Now()
		_, err := retrieve(t, with("cvm"), nil, m)
		require.EqualError(t, err, "credentials: cvm: no answer within 3s")
		require.Equal(t, 3*time.Second, time.Since(start))
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, retry.IsPermanent(err))
	})
}

func stsReply(at time.Time) string {
	return fmt.Sprintf(`{"Response":{"Credentials":{"Token":"tok","TmpSecretId":"id","TmpSecretKey":"key"},"ExpiredTime":%d,"Expiration":"x","RequestId":"r"}}`, at.Unix())
}

func TestAssumeRole(t *testing.T) {
	t.Parallel()
	env := map[string]string{"TENCENTCLOUD_SECRET_ID": "baseid", "TENCENTCLOUD_SECRET_KEY": "basekey", "TENCENTCLOUD_TOKEN": "basetok"}
	role := func(c *CredentialsConfig) { c.RoleARN, c.ExternalID = "qcs::cam::uin/1:roleName/relay", "ext" }
	for _, provider := range []string{"assume_role", "auto"} {
		h, all := recorder(stsReply(time.Now().Add(2 * time.Hour)))
		cred, err := retrieve(t, with(provider, role), env, serve(t, h))
		require.NoError(t, err)
		require.Equal(t, [3]string{"id", "key", "tok"}, [3]string{cred.SecretID, cred.SecretKey, cred.Token})
		require.InDelta(t, 2*time.Hour, time.Until(cred.Expires), float64(2*time.Second))
		require.Len(t, all(), 1)
		got := all()[0]
		require.Equal(t, "sts.test", got.host)
		require.Equal(t, `POST / {"RoleArn":"qcs::cam::uin/1:roleName/relay","RoleSessionName":"vodrelay","DurationSeconds":7200,"ExternalId":"ext"}`, got.body)
		require.Contains(t, got.header.Get("Authorization"), "Credential=baseid/")
		require.Contains(t, got.header.Get("Authorization"), "/sts/tc3_request")
		require.Equal(t, "AssumeRole", got.header.Get("X-TC-Action"))
		require.Equal(t, "basetok", got.header.Get("X-TC-Token"))
		require.Equal(t, "ap-guangzhou", got.header.Get("X-TC-Region"))
	}

	_, err := retrieve(t, with("assume_role", role), nil, nil)
	require.ErrorContains(t, err, "no credentials found") // the base
	_, err = retrieve(t, with("assume_role", role), env, serve(t, answer(okReply)))
	require.ErrorContains(t, err, "the reply of STS holds no credential")
	_, err = retrieve(t, with("assume_role", role), env, serve(t, answer(apiError("UnauthorizedOperation", "no"))))
	require.EqualError(t, err, "credentials: assume_role: AssumeRole: UnauthorizedOperation: no")
	require.True(t, retry.IsPermanent(err))
	require.Contains(t, retry.Hint(err), "sts:AssumeRole")
	_, err = retrieve(t, with("assume_role", role), env, serve(t, answer(`null`)))
	require.ErrorContains(t, err, "no Response object")
	require.False(t, retry.IsPermanent(err))
	require.Contains(t, retry.Hint(err), "vod.credentials.sts_endpoint")
}

func TestTKE(t *testing.T) {
	t.Parallel()
	tokenFile := file(t, filepath.Join(t.TempDir(), "token"), "VERYSECRETjwt\n")
	env := map[string]string{"TKE_ROLE_ARN": "arn", "TKE_PROVIDER_ID": "idp", "TKE_WEB_IDENTITY_TOKEN_FILE": tokenFile, "TKE_REGION": "ap-singapore"}
	for _, provider := range []string{"tke", "auto"} {
		h, all := recorder(stsReply(time.Now().Add(2 * time.Hour)))
		cred, err := retrieve(t, with(provider), env, serve(t, h))
		require.NoError(t, err)
		require.Equal(t, "id", cred.SecretID)
		require.Equal(t, "TKE role arn", cred.Source)
		got := all()[0]
		require.Equal(t, `POST / {"ProviderId":"idp","WebIdentityToken":"VERYSECRETjwt","RoleArn":"arn","RoleSessionName":"vodrelay","DurationSeconds":7200}`, got.body)
		require.Equal(t, "SKIP", got.header.Get("Authorization"))
		require.Equal(t, "ap-singapore", got.header.Get("X-TC-Region"), "the SDK ignores TKE_REGION")
		require.Equal(t, "AssumeRoleWithWebIdentity", got.header.Get("X-TC-Action"))
	}
	_, err := retrieve(t, with("tke"), map[string]string{"TKE_ROLE_ARN": "arn"}, nil)
	require.ErrorContains(t, err, "are not all set")
	env["TKE_WEB_IDENTITY_TOKEN_FILE"] = tokenFile + "x"
	_, err = retrieve(t, with("auto"), env, nil)
	require.ErrorIs(t, err, os.ErrNotExist, "a source that is there, but broken, ends the search")
}

func TestAutoNamesWhatItTried(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	_, err := retrieve(t, with("auto"), map[string]string{"HOME": home}, nil)
	require.EqualError(t, err, "no credentials found (static: secret_id is not configured; env: TENCENTCLOUD_SECRET_ID is not set; "+
		"file: neither vod.credentials.file nor TENCENTCLOUD_SECRET_KEY_FILE is set; "+
		"profile: "+home+"/.tencentcloud/credentials does not exist; tccli: "+home+"/.tccli/default.credential does not exist; "+
		"tke: TKE_ROLE_ARN, TKE_PROVIDER_ID and TKE_WEB_IDENTITY_TOKEN_FILE are not all set; "+
		"cvm: the metadata service cannot be reached, so this is no CVM instance)")
	require.True(t, retry.IsPermanent(err))
	require.Contains(t, retry.Hint(err), "TENCENTCLOUD_SECRET_ID")

	// An earlier source wins, and half a source ends the search.
	env := map[string]string{"HOME": home, "TENCENTCLOUD_SECRET_ID": "envid", "TENCENTCLOUD_SECRET_KEY": "k"}
	file(t, filepath.Join(home, ".tencentcloud", "credentials"), "[default]\nsecret_id=profileid\nsecret_key=k")
	cred, err := retrieve(t, with("auto"), env, nil)
	require.NoError(t, err)
	require.Equal(t, "envid", cred.SecretID)
	cred, err = retrieve(t, with("auto", func(c *CredentialsConfig) { c.SecretID, c.SecretKey = "staticid", "k" }), env, nil)
	require.NoError(t, err)
	require.Equal(t, "staticid", cred.SecretID)
	delete(env, "TENCENTCLOUD_SECRET_KEY")
	_, err = retrieve(t, with("auto"), env, nil)
	require.ErrorContains(t, err, "TENCENTCLOUD_SECRET_KEY is not")
}

func FuzzParseCredential(f *testing.F) {
	for _, seed := range []string{
		`{"secretId":"id","secretKey":"key"}`, "[default]\nsecret_id=id\nsecret_key=key\n", "a=b", "[", "=", "{", "[default]", "export x='\n", "\ufeff",
	} {
		f.Add([]byte(seed), "")
		f.Add([]byte(seed), "default")
	}
	f.Fuzz(func(t *testing.T, data []byte, profile string) {
		cred, err := parseCredential(data, profile)
		if err == nil && (cred.SecretID == "" || cred.SecretKey == "" || strings.ContainsAny(cred.SecretKey+cred.Token, "\r\n ")) {
			t.Fatalf("accepted %q", data)
		}
	})
}
