package emulator

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The worked example of https://cloud.tencent.com/document/api/213/30654.
func TestDocumentedSignature(t *testing.T) {
	const body = `{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}`
	const want = "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
	canonical := canonicalRequest("POST", "content-type:application/json; charset=utf-8\nhost:cvm.tencentcloudapi.com\n", "content-type;host", []byte(body))
	got := sign("Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", "cvm", "2019-02-25", stringToSign("1551113065", "2019-02-25", "cvm", canonical))
	require.Equal(t, want, hex.EncodeToString(got))
	require.Contains(t, tc3("AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", "cvm",
		"application/json; charset=utf-8", "cvm.tencentcloudapi.com", 1551113065, body), want)
}

func TestRequestsThatAreRefused(t *testing.T) {
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	edit := func(old, fresh string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, fresh, 1))
		}
	}
	resign := func(service string, at time.Duration) func(*http.Request) {
		return func(r *http.Request) {
			stamp := time.Now().Add(at).Unix()
			r.Header.Set("X-TC-Timestamp", fmt.Sprint(stamp))
			r.Header.Set("Authorization", tc3(DefaultSecretID, DefaultSecretKey, service, r.Header.Get("Content-Type"), r.URL.Host, stamp, "{}"))
		}
	}
	for name, test := range map[string]struct {
		code   string
		change func(*http.Request)
		token  string
		body   string
	}{
		"good":             {code: "", change: resign("vod", 0)},
		"no authorization": {code: "AuthFailure.InvalidAuthorization", change: func(r *http.Request) { r.Header.Del("Authorization") }},
		"other algorithm":  {code: "AuthFailure.InvalidAuthorization", change: edit("TC3-HMAC-SHA256", "HmacSHA1")},
		"no signature":     {code: "AuthFailure.InvalidAuthorization", change: edit("Signature=", "Other=")},
		"host not signed":  {code: "AuthFailure.InvalidAuthorization", change: edit("content-type;host", "content-type")},
		"unknown id":       {code: "AuthFailure.SecretIdNotFound", change: edit(DefaultSecretID, "AKIDnobody")},
		"wrong service":    {code: "AuthFailure.SignatureFailure", change: resign("cvm", 0)},
		"wrong signature": {code: "AuthFailure.SignatureFailure", change: func(r *http.Request) {
			kept, _, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", kept+"Signature="+strings.Repeat("0", 64))
		}},
		"old":               {code: "AuthFailure.SignatureExpire", change: resign("vod", -5*time.Minute-time.Second)},
		"from the future":   {code: "AuthFailure.SignatureExpire", change: resign("vod", 5*time.Minute+time.Second)},
		"old enough":        {code: "", change: resign("vod", -5*time.Minute)},
		"timestamp changed": {code: "AuthFailure.SignatureFailure", change: header("X-TC-Timestamp", "946684801")},
		"date changed":      {code: "AuthFailure.SignatureFailure", change: edit("/2000-01-01/", "/2000-01-02/")},
		"date of another zone": {code: "AuthFailure.SignatureFailure", change: func(r *http.Request) {
			r.Header.Set("Authorization", tc3On("2000-01-02", DefaultSecretID, DefaultSecretKey, "vod", "application/json", r.URL.Host, time.Now().Unix(), "{}"))
		}},
		"no timestamp":            {code: "MissingParameter", change: func(r *http.Request) { r.Header.Del("X-TC-Timestamp") }},
		"timestamp no number":     {code: "InvalidParameterValue", change: header("X-TC-Timestamp", "now")},
		"content type changed":    {code: "AuthFailure.SignatureFailure", change: header("Content-Type", "application/json; charset=utf-8")},
		"host changed":            {code: "AuthFailure.SignatureFailure", change: func(r *http.Request) { r.Host = "other" }},
		"token without need":      {code: "AuthFailure.TokenFailure", token: "t"},
		"no action":               {code: "MissingParameter", change: func(r *http.Request) { r.Header.Del("X-TC-Action") }},
		"unknown action":          {code: "InvalidAction", change: header("X-TC-Action", "DescribeMediaInfos")},
		"no version":              {code: "MissingParameter", change: func(r *http.Request) { r.Header.Del("X-TC-Version") }},
		"other version":           {code: "NoSuchVersion", change: header("X-TC-Version", "2017-03-12")},
		"other media type":        {code: "UnsupportedProtocol", change: header("Content-Type", "text/plain")},
		"get":                     {code: "UnsupportedProtocol", change: func(r *http.Request) { r.Method = http.MethodGet }},
		"not JSON":                {code: "InvalidParameter", body: "x"},
		"empty body":              {code: "InvalidParameter", body: " "},
		"null":                    {code: "InvalidParameter", body: "null"},
		"array":                   {code: "InvalidParameter", body: "[]"},
		"unknown parameter":       {code: "UnknownParameter", body: `{"MaxNumber":1}`},
		"wrong type of SubAppId":  {code: "InvalidParameter", body: `{"SubAppId":"1500000001"}`},
		"negative SubAppId":       {code: "InvalidParameter", body: `{"SubAppId":-1}`},
		"SubAppId above int64":    {code: "", body: `{"SubAppId":18446744073709551615}`},
		"null parameter":          {code: "", body: `{"SubAppId":null}`},
		"reserved parameter":      {code: "UnknownParameter", body: `{"ExtInfo":""}`},
		"name in the wrong case":  {code: "UnknownParameter", body: `{"subAppId":1}`},
		"body larger than 10 MiB": {code: "RequestSizeLimitExceeded", body: `{"ExtInfo":"` + strings.Repeat("x", 10<<20) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
				c.change, c.token = test.change, test.token
				body := test.body
				if body == "" {
					body = "{}"
				}
				require.Equal(t, test.code, c.must(t, ActionDescribeEventsState, body).Code)
				if journal := s.Journal(); test.code != "" {
					require.Len(t, journal, 1)
					require.Equal(t, KindRefused, journal[0].Kind)
					require.Equal(t, test.code, journal[0].Code)
				}
			})
		})
	}
}

func TestConfirmParameters(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, _ *Server, c *testClient) {
		for body, code := range map[string]string{
			`{}`:                    "MissingParameter",
			`{"EventHandles":null}`: "MissingParameter",
			`{"EventHandles":[]}`:   "InvalidParameterValue",
			`{"EventHandles":"x"}`:  "InvalidParameter",
			`{"EventHandles":[1]}`:  "InvalidParameter",
			`{"EventHandles":[""]}`: "InvalidParameterValue",
			`{"EventHandles":["` + strings.Repeat(`x","`, 16) + `x"]}`: "InvalidParameterValue",
			`{"EventHandles":["` + strings.Repeat("x", 5000) + `"]}`:   "InvalidParameterValue",
			`{"EventHandles":["x"],"ExtInfo":1}`:                       "InvalidParameter",
		} {
			require.Equal(t, code, c.must(t, ActionConfirmEvents, body).Code, body)
		}
		require.Equal(t, "InvalidParameter", c.must(t, ActionPullEvents, `{"ExtInfo":1}`).Code)
	})
}

func TestTemporaryCredentialsAndRotation(t *testing.T) {
	opts := Options{Credentials: map[string]Credential{"one": {SecretKey: "k1", Token: "t1"}}}
	inBubble(t, opts, func(t *testing.T, s *Server, c *testClient) {
		code := func(id, key, token string) string {
			c.id, c.key, c.token = id, key, token
			return c.must(t, ActionDescribeEventsState, "{}").Code
		}
		require.Empty(t, code("one", "k1", "t1"))
		require.Equal(t, "AuthFailure.TokenFailure", code("one", "k1", ""))
		require.Equal(t, "AuthFailure.TokenFailure", code("one", "k1", "t2"))
		require.Equal(t, "AuthFailure.SignatureFailure", code("one", "k2", "t1"))
		require.Equal(t, "AuthFailure.SecretIdNotFound", code(DefaultSecretID, DefaultSecretKey, ""))
		s.SetCredentials(map[string]Credential{"two": {SecretKey: "k2"}})
		require.Equal(t, "AuthFailure.SecretIdNotFound", code("one", "k1", "t1"))
		require.Empty(t, code("two", "k2", ""))
	})
}

func TestSignedHeaderValuesInBothCases(t *testing.T) {
	for _, host := range []string{"Emulator", "emulator"} {
		inBubble(t, Options{}, func(t *testing.T, _ *Server, c *testClient) {
			c.change = func(r *http.Request) {
				r.Host = "Emulator"
				stamp := time.Now().Unix()
				r.Header.Set("Authorization", tc3(DefaultSecretID, DefaultSecretKey, "vod", "application/json", host, stamp, "{}"))
			}
			require.Empty(t, c.must(t, ActionDescribeEventsState, "{}").Code)
		})
	}
}

// The vendor's SDKs differ in the port of the host, and one takes the host's first label for the service.
func TestSignedHostWithItsPortAndWithout(t *testing.T) {
	for _, c := range []struct {
		sent, signed, service, code string
	}{
		{"vod.example:9090", "vod.example:9090", "vod", ""},
		{"vod.example:9090", "vod.example", "vod", ""},
		{"[::1]:9090", "[::1]", "vod", ""},
		{"127.0.0.1:9090", "127.0.0.1", "127", ""},               // Node.js
		{"localhost:9090", "localhost", "localhost:9090", ""},    // Node.js
		{"localhost:9090", "localhost", "localhost", ""},         // who does the same to the host
		{"emulator", "emulator", "vod", ""},                      // the default port
		{"vod.example:9090", "vod.example:80", "vod", "Failure"}, // no other port
		{"vod.example:9090", "other.example", "vod", "Failure"},  // no other host
		{"vod.example:9090", "vod.example:9090", "cvm", "Failure"},
		{"127.0.0.1:9090", "127.0.0.1:9090", "0", "Failure"},
	} {
		var wrong []WrongSignature
		opts := Options{OnWrongSignature: func(w WrongSignature) { wrong = append(wrong, w) }}
		inBubble(t, opts, func(t *testing.T, _ *Server, c2 *testClient) {
			stamp := time.Now().Unix()
			c2.change = func(r *http.Request) {
				r.Host = c.sent
				r.Header.Set("Authorization", tc3(DefaultSecretID, DefaultSecretKey, c.service, "application/json", c.signed, stamp, "{}"))
			}
			want := c.code
			if want != "" {
				want = "AuthFailure.Signature" + want
			}
			require.Equal(t, want, c2.must(t, ActionDescribeEventsState, "{}").Code, c)
		})
		if c.code == "" || c.service != "vod" {
			require.Empty(t, wrong)
			continue
		}
		// Who signs what was expected is accepted.
		require.Len(t, wrong, 1)
		require.Equal(t, ActionDescribeEventsState, wrong[0].Action)
		require.Equal(t, c.sent, wrong[0].Host)
		require.True(t, strings.HasPrefix(wrong[0].CanonicalRequest, "POST\n/\n\ncontent-type:application/json\nhost:"+c.sent+"\n\ncontent-type;host\n"), wrong[0].CanonicalRequest)
		require.True(t, strings.HasSuffix(wrong[0].StringToSign, hexHash([]byte(wrong[0].CanonicalRequest))), wrong[0].StringToSign)
		require.NotContains(t, fmt.Sprint(wrong), DefaultSecretKey)
	}
}

// What is reported of a wrong signature holds no token, also when the token was signed.
func TestAWrongSignatureShowsNoToken(t *testing.T) {
	var wrong []WrongSignature
	opts := Options{Credentials: map[string]Credential{"id": {SecretKey: "VERYSECRET", Token: "VERYSECRETtoken"}}, OnWrongSignature: func(w WrongSignature) { wrong = append(wrong, w) }}
	inBubble(t, opts, func(t *testing.T, _ *Server, c *testClient) {
		c.id, c.key, c.token = "id", "other", "VERYSECRETtoken"
		c.change = func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "content-type;host", "content-type;host;x-tc-token", 1))
		}
		require.Equal(t, "AuthFailure.SignatureFailure", c.must(t, ActionDescribeEventsState, "{}").Code)
	})
	require.Len(t, wrong, 1)
	require.Contains(t, wrong[0].CanonicalRequest, "x-tc-token:(hidden)\n")
	require.NotContains(t, fmt.Sprint(wrong), "VERYSECRET")
}

// A client sees by the Date how far the clocks are apart.
func TestTheDateMovesWithTheClock(t *testing.T) {
	inBubble(t, Options{ClockSkew: time.Hour}, func(t *testing.T, s *Server, c *testClient) {
		date := func() time.Duration {
			a, err := c.raw(t.Context(), ActionDescribeEventsState, "{}")
			require.NoError(t, err)
			at, err := http.ParseTime(a.Header.Get("Date"))
			require.NoError(t, err)
			return time.Until(at).Round(time.Minute)
		}
		require.Equal(t, time.Hour, date())
		s.SetClockSkew(0)
		require.Zero(t, date())
		mustFault(t, s, Fault{Kind: FaultClockSkew, Delay: -2 * time.Hour})
		require.Equal(t, -2*time.Hour, date())
		require.Zero(t, date())
	})
}

func TestOtherPathsAreNotTheAPI(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, _ *Server, c *testClient) {
		c.url += "/v2/index.php"
		a, err := c.raw(t.Context(), ActionPullEvents, "{}")
		require.NoError(t, err)
		require.Equal(t, 404, a.Status)
	})
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add(tc3("id", "key", "vod", "application/json", "h", 1, "{}"))
	f.Add("TC3-HMAC-SHA256 Credential=a/2000-01-01/vod/tc3_request, SignedHeaders=content-type;host;x-tc-action, Signature=" + strings.Repeat("ab", 32))
	f.Add("TC3-HMAC-SHA256 ")
	f.Add("TC3-HMAC-SHA256 Credential=,Credential=,Signature=")
	f.Fuzz(func(t *testing.T, header string) {
		a, err := parseAuthorization(header)
		if err != nil {
			if len(header) > 120 && strings.Contains(err.Error(), header) {
				t.Fatal("the error repeats the header")
			}
			return
		}
		again := "TC3-HMAC-SHA256 Credential=" + a.secretID + "/" + a.date + "/" + a.service + "/tc3_request, SignedHeaders=" +
			strings.Join(a.signedHeaders, ";") + ", Signature=" + hex.EncodeToString(a.signature[:])
		b, err := parseAuthorization(again)
		require.NoError(t, err)
		require.Equal(t, a, b)
	})
}
