package callback

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Every body gets an answer, and an event that is accepted can travel on.
func FuzzHandler(f *testing.F) {
	for _, body := range []string{
		notification(1), `{}`, `null`, `[`, `{"EventType":"A","AEvent":{"Sign":"0cc175b9c0f1b6a831c399e269772661","T":"1"}}`, "\xef\xbb\xbf{\"EventType\":\"\\ud800\"}",
		`{"version":"4.0","eventType":"ConcatComplete","data":{"fileInfo":[{"status":-1,"x":null}],"vodTaskId":1e400}}`, `{"version":4,"eventType":"FileDeleted","data":{"fileInfo":[1,{"fileId":{}}]}}`,
		`{"version":4,"eventType":"ProcedureStateChanged","data":{"processTaskList":[{"taskType":"\"","status":[]}],"aIAnalysisList":{}}}`,
		`{"EventType":"A","EventType":5,"\u0053ign":"x","T":-1,"EventHandle":{}}`, `{"version":"4.0","eventType":"Other"}`, "{\"EventType\":\"\xff\",\"\xff\":\"\xff\"}",
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	h := &recorder{}
	cfg := testConfig()
	cfg.Legacy = true
	open := receiver(f, cfg, nil, h)
	cfg.SignKey = testKey
	locked := receiver(f, cfg, nil, h)
	f.Fuzz(func(t *testing.T, body []byte, sign bool) {
		status, text := ask(locked, string(body))
		require.NotEqual(t, http.StatusOK, status, "unsigned")
		require.NotContains(t, text, "\n")
		s := open
		if sign {
			signed, err := Sign(body, testKey, time.Now().Add(time.Minute))
			if err != nil {
				return
			}
			body, s = signed, locked
		}
		status, text = ask(s, string(body))
		if status != http.StatusOK {
			require.Contains(t, []int{http.StatusBadRequest, http.StatusUnauthorized}, status, text)
			require.False(t, sign && status == http.StatusUnauthorized, "%s", body)
			return
		}
		d := h.delivery()
		require.NotEmpty(t, d.Type)
		again, _, _ := event.Decode(d.Raw, testApp)
		require.Equal(t, d.ID, again.ID, "the ID is that of what travels on")
		if json.Valid(body) {
			require.True(t, json.Valid(d.Raw), "%s", d.Raw)
		}
		_, err := d.CallbackBody()
		require.NoError(t, err)
	})
}

// A message taken apart and joined is the same, and has no signature left.
func FuzzParse(f *testing.F) {
	for _, body := range []string{notification(1), `{"a":{"T":1,"Sign":"0cc175b9c0f1b6a831c399e269772661"},"T":2,"Sign":"0CC175B9C0F1B6A831C399E269772661"}`, ` { "a" : [1 , 2.50] } `} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		m, err := parse(body)
		require.Equal(t, before, body, "the body is not changed")
		if err != nil {
			return
		}
		again, err := parse(m.content)
		require.NoError(t, err, "%s", m.content)
		if len(m.signatures) == 0 {
			require.Equal(t, m.content, again.content)
		}
		require.Equal(t, m.eventType, again.eventType)
		require.LessOrEqual(t, len(again.signatures), len(m.signatures))
	})
}
