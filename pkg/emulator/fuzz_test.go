package emulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every body gets a well-formed answer, whatever the action.
func FuzzRequestBody(f *testing.F) {
	for _, body := range []string{
		`{}`, `null`, `[]`, `{"SubAppId":1}`, `{"EventHandles":["x"],"SubAppId":1500000001}`, `{"EventHandles":[]}`,
		`{"Mode":"PUSH","SignKey":"a"}`, `{"SubAppId":1e3}`, `{"SubAppId":-0}`, "{\"\x00\":1}", `{"SubAppId":1,"SubAppId":"x"}`,
	} {
		f.Add(body)
	}
	s := New(Options{Hold: -1, Quotas: UnlimitedQuotas(), SubAppIDs: []uint64{0, 1, testApp}})
	s.Publish(testApp, uploads(1)...)
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, body string) {
		for action := range parameters {
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader([]byte(body)))
			stamp := time.Now().Unix()
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-TC-Action", action)
			r.Header.Set("X-TC-Version", "2018-07-17")
			r.Header.Set("X-TC-Timestamp", jsonNumber(stamp))
			r.Header.Set("Authorization", tc3(DefaultSecretID, DefaultSecretKey, "vod", "application/json", r.Host, stamp, body))
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Equal(t, 200, w.Code)
			var answer struct {
				Response struct {
					RequestId string
					Error     *struct{ Code string }
				}
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
			require.NotEmpty(t, answer.Response.RequestId)
			if e := answer.Response.Error; e != nil {
				require.NotContains(t, e.Code, "AuthFailure")
			}
		}
	})
}

func jsonNumber(n int64) string { b, _ := json.Marshal(n); return string(b) }

// What prepare makes is the content again, with a handle and without its own.
func FuzzPrepare(f *testing.F) {
	for _, content := range []string{
		`{}`, ` { } `, "\v{}", `{"EventType":"A","B":{"c":[1,2.50,"]}\\\""]}}`, `{"EventHandle":1}`, `{"a":1,"EventHandle":{}}`,
		`{"\u0045ventHandle":null,"x":-1e5}`, `{"FileUploadEvent":null}`, `{"a":true}`,
	} {
		for nulls := range uint8(3) {
			f.Add(content, nulls)
		}
	}
	f.Fuzz(func(t *testing.T, content string, nulls uint8) {
		kind := []NullFields{NullsAbsent, NullsDocumented, NullsNewer}[nulls%3]
		tail, err := prepare([]byte(content), kind)
		var fields map[string]json.RawMessage
		if json.Unmarshal([]byte(content), &fields) != nil || fields == nil {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		event := `{"EventHandle":"h"`
		if tail[0] != '}' {
			event += ","
		}
		event += string(tail)
		var got map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(event), &got), event)
		require.Equal(t, `"h"`, string(got[handleKey]), "the handle comes once")
		delete(got, handleKey)
		delete(fields, handleKey)
		if kind != NullsAbsent {
			types := eventTypes
			if kind == NullsNewer {
				types = append(slices.Clone(types), unknownType)
			}
			for _, e := range types {
				if _, ok := fields[e.field]; !ok {
					require.Equal(t, "null", string(got[e.field]))
					delete(got, e.field)
				}
			}
		}
		require.Equal(t, fields, got)
	})
}

func FuzzHandle(f *testing.F) {
	codec := newHandleCodec(1)
	f.Add(string(codec.append(nil, delivery{event: 1, count: 1})))
	f.Add("emu")
	f.Fuzz(func(t *testing.T, handle string) {
		if d, ok := codec.parse(handle); ok {
			require.Equal(t, handle, string(codec.append(nil, d)))
		}
	})
}
