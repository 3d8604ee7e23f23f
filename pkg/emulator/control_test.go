package emulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func (c *testClient) control(t *testing.T, method, path, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.url+"/_emulator/"+path, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := c.http.Do(r)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestControlPublish(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		for _, test := range []struct{ query, body, want string }{
			{"?sub_app_id=1500000001&sample=reliable-callback", "", `{"count":1,"first":1,"last":1}`},
			{"?sub_app_id=1500000001&sample=normal-callback", "", `{"count":1,"first":2,"last":2}`},
			{"?sub_app_id=1500000001&generate=3&seed=4&size=5000&types=NewFileUpload,FileDeleted", "", `{"count":3,"first":3,"last":5}`},
			{"?sub_app_id=1500000001", "{\"a\":1}\n\n {\"b\":2} \r\n{\"c\":3}", `{"count":3,"first":6,"last":8}`},
			{"", "{}\n", `{"count":1,"first":9,"last":9}`},
			{"", "\n", `{"count":0}`},
		} {
			status, answer := c.control(t, "POST", "events"+test.query, test.body)
			require.Equal(t, 200, status, answer)
			require.Equal(t, test.want, answer)
		}
		require.Equal(t, int64(1), s.CountsBySubApp()[0].Ready)
		require.Len(t, c.pull(t).EventSet, 8)

		for want, request := range map[string][2]string{
			"write one of [normal-callback": {"?sample=x", ""},
			"write one of them":             {"?sample=x&generate=1", ""},
			"sub_app_id":                    {"?sub_app_id=-1", ""},
			"count":                         {"?generate=1000001", ""},
			"size":                          {"?generate=1&size=1000000", ""},
			"not an event type":             {"?generate=1&types=Uploaded", ""},
			"not a parameter":               {"?count=1", ""},
			"line 2: not a JSON object":     {"", "{}\n[]"},
			"line 1: longer":                {"", `{"a":"` + strings.Repeat("x", 1<<20) + `"}`},
		} {
			status, answer := c.control(t, "POST", "events"+request[0], request[1])
			require.Equal(t, 400, status)
			require.Contains(t, answer, want)
		}
		require.Equal(t, int64(9), s.Counts().Published)
		for range 2 { // without a seed, events differ from one generation to the next
			c.control(t, "POST", "events?sub_app_id=1500000001&generate=1", "")
		}
		two := c.pull(t)
		require.Len(t, two.EventSet, 2)
		require.NotEqual(t, fileIDs(two)[:19], fileIDs(two)[20:])
	})
}

func TestControlStateAndJournal(t *testing.T) {
	inBubble(t, Options{JournalSize: 8}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(3)...)
		handles := c.pull(t).handles()
		c.confirm(t, handles[0])
		c.confirm(t, handles[0])
		_, answer := c.control(t, "GET", "state", "")
		require.JSONEq(t, `{"total":{"published":3,"delivered":3,"redelivered":0,"confirmed":1,"expired":0,"purged":0,"refused":1,"ready":0,"leased":2,"waiting":0},
			"applications":{"1500000001":{"published":3,"delivered":3,"redelivered":0,"confirmed":1,"expired":0,"purged":0,"refused":1,"ready":0,"leased":2,"waiting":0}}}`, answer)

		_, answer = c.control(t, "GET", "journal?after=5&limit=2", "")
		require.JSONEq(t, fmt.Sprintf(`{"entries":[
			{"seq":6,"time":"2000-01-01T00:00:00Z","kind":"leased","sub_app_id":1500000001,"event":3,"delivery":1,"handle":%q},
			{"seq":7,"time":"2000-01-01T00:00:00Z","kind":"confirmed","sub_app_id":1500000001,"event":1,"delivery":1,"handle":%q}],"next":7}`, handles[2], handles[0]), utc(answer))
		_, answer = c.control(t, "GET", "journal?after=7", "")
		require.Contains(t, answer, `"kind":"refused","sub_app_id":1500000001,"event":1,"handle":"`+handles[0]+`","action":"ConfirmEvents","code":"InvalidParameterValue"`)
		_, answer = c.control(t, "GET", "journal?after=8", "")
		require.JSONEq(t, `{"entries":[],"next":8}`, answer)

		s.Publish(testApp, uploads(4)...)
		seqs := func() (list []int64) {
			for _, e := range s.Journal() {
				list = append(list, e.Seq)
			}
			return list
		}
		require.Equal(t, []int64{5, 6, 7, 8, 9, 10, 11, 12}, seqs())
		status, _ := c.control(t, "POST", "reset", "")
		require.Equal(t, 200, status)
		require.Empty(t, s.Journal())
		require.Equal(t, Counts{}, s.Counts())
		require.False(t, s.Confirmed(1))
		require.Equal(t, []int64{8}, s.Publish(testApp, uploads(1)...))
		require.Equal(t, []int64{13}, seqs())
		require.Equal(t, "InvalidParameterValue", c.confirm(t, handles[1]).Code)
		for range 10 {
			s.Publish(testApp, uploads(1)...)
		}
		require.Equal(t, []int64{17, 18, 19, 20, 21, 22, 23, 24}, seqs())
		require.Len(t, s.JournalAfter(22, 1), 1)
		require.Equal(t, int64(23), s.JournalAfter(22, 1)[0].Seq)
		_, answer = c.control(t, "GET", "journal?after=13&limit=1", "")
		require.Contains(t, answer, `"next":17,"missed":3}`, "14 to 16 are no longer kept")
	})
}

// utc drops the zone of the machine, which is of no interest here.
func utc(answer string) string {
	var page struct {
		Entries []map[string]any `json:"entries"`
		Next    int64            `json:"next"`
	}
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		return answer
	}
	for _, e := range page.Entries {
		e["time"] = "2000-01-01T00:00:00Z"
	}
	b, _ := json.Marshal(page)
	return string(b)
}

func TestControlFaults(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		const fault = `{"kind":"too-many-requests","action":"PullEvents","sub_app_id":7,"times":2,"rate":0.5,"delay":"1.5s","code":"RequestLimitExceeded","message":"m","after":true}`
		_, answer := c.control(t, "POST", "faults", fault)
		require.JSONEq(t, `{"id":1}`, answer)
		_, answer = c.control(t, "GET", "faults", "")
		require.JSONEq(t, `{"faults":[{"id":1,`+fault[1:]+`]}`, answer)
		for want, body := range map[string]string{
			"unknown field":  `{"kind":"reset","time":2}`,
			"not a duration": `{"kind":"latency","delay":"2"}`,
			"write one of":   `{"kind":"explode"}`,
			"fault":          `[]`,
		} {
			status, answer := c.control(t, "POST", "faults", body)
			require.Equal(t, 400, status)
			require.Contains(t, answer, want)
		}
		status, _ := c.control(t, "DELETE", "faults/1", "")
		require.Equal(t, 200, status)
		for _, id := range []string{"1", "x"} {
			status, _ = c.control(t, "DELETE", "faults/"+id, "")
			require.Equal(t, 404, status)
		}
		c.control(t, "POST", "faults", `{"kind":"reset","rate":1}`)
		c.control(t, "DELETE", "faults", "")
		require.Empty(t, s.Faults())
		status, _ = c.control(t, "POST", "release", "")
		require.Equal(t, 200, status)
	})
}

func TestControlRest(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		status, answer := c.control(t, "GET", "", "")
		require.Equal(t, 200, status)
		require.Contains(t, answer, "/_emulator/journal")
		status, _ = c.control(t, "GET", "nothing", "")
		require.Equal(t, 404, status)
		status, _ = c.control(t, "GET", "events", "")
		require.Equal(t, 405, status)
		status, _ = c.control(t, "POST", "mode?sub_app_id=1500000001&mode=PUSH", "")
		require.Equal(t, 200, status)
		s.Publish(testApp, uploads(1)...)
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		status, _ = c.control(t, "POST", "mode?mode=x", "")
		require.Equal(t, 400, status)

		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/_emulator/reset", nil)
		require.NoError(t, err)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		resp, err := c.http.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 403, resp.StatusCode)
	})
}

// A key is rotated, expires and is removed, all from outside; nothing that is answered has a secret.
func TestControlCredentials(t *testing.T) {
	given := map[string]Credential{"old": {SecretKey: "old-secret"}}
	inBubble(t, Options{Hold: -1, Credentials: given}, func(t *testing.T, _ *Server, c *testClient) {
		set := func(body string) {
			t.Helper()
			status, answer := c.control(t, "POST", "credentials", body)
			require.Equal(t, 200, status, answer)
			require.Equal(t, "{}", answer)
		}
		as := func(id, key, token string) string {
			c.id, c.key, c.token = id, key, token
			return c.pull(t).Code
		}
		set(`{"secret_id":"new","secret_key":"new-secret"}`)
		require.Equal(t, "ResourceNotFound", as("old", "old-secret", ""), "both work")
		require.Equal(t, "ResourceNotFound", as("new", "new-secret", ""))
		status, answer := c.control(t, "DELETE", "credentials/old", "")
		require.Equal(t, 200, status, answer)
		require.Equal(t, "AuthFailure.SecretIdNotFound", as("old", "old-secret", ""))
		status, _ = c.control(t, "DELETE", "credentials/old", "")
		require.Equal(t, 404, status)

		set(`{"secret_id":"new","secret_key":"newer-secret","token":"first-token"}`)
		require.Equal(t, "AuthFailure.TokenFailure", as("new", "new-secret", ""))
		require.Equal(t, "AuthFailure.SignatureFailure", as("new", "new-secret", "first-token"))
		require.Equal(t, "ResourceNotFound", as("new", "newer-secret", "first-token"))
		set(`{"secret_id":"new","secret_key":"newer-secret","token":"second-token"}`)
		require.Equal(t, "AuthFailure.TokenFailure", as("new", "newer-secret", "first-token"), "it has expired")

		_, answer = c.control(t, "GET", "credentials", "")
		require.JSONEq(t, `{"credentials":[{"secret_id":"new","temporary":true}]}`, answer)
		for want, body := range map[string]string{
			"write both":           `{"secret_id":"x"}`,
			"write {\"secret_id\"": `{"secret_id":"x","secret_key":"secret-1","Secret":1}`,
			"for a temporary one":  `secret-1`,
		} {
			status, answer = c.control(t, "POST", "credentials", body)
			require.Equal(t, 400, status)
			require.Contains(t, strings.ReplaceAll(answer, `\"`, `"`), want)
			require.NotContains(t, answer, "secret-1")
		}
		c.control(t, "POST", "reset", "")
		require.Equal(t, "ResourceNotFound", as("new", "newer-secret", "second-token"), "a reset keeps the keys")
	})
	require.Len(t, given, 1, "the caller's map is left alone")
}
