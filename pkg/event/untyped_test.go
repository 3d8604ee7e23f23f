package event_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// VOD's documentation has this notification once with its EventType, posted, and once without, pulled:
// https://www.tencentcloud.com/document/product/266/43000.
func TestPulledWithoutAndPostedWithEventTypeAreOneEvent(t *testing.T) {
	const payload = `"ComposeMediaCompleteEvent":{"TaskId":"1256768367-ComposeMedia-f5","Status":"FINISH","Output":{"FileId":5285485487985271490}}`
	posted, _, err := event.Decode([]byte(`{"EventType":"ComposeMediaComplete",`+payload+`}`), 0)
	require.NoError(t, err)
	for _, item := range []string{
		`{"EventHandle":"EventHandle.N",` + payload + `}`,
		`{` + payload + `,"EventHandle":"EventHandle.N","EventType":null,"FileUploadEvent":null}`,
		`{` + payload + `,"Sign":"x","T":1}`,
	} {
		pulled, _, err := event.Decode([]byte(item), 1500000001)
		require.NoError(t, err)
		require.Equal(t, "ComposeMediaComplete", pulled.Type)
		require.Equal(t, posted.ID, pulled.ID, item)
		require.Equal(t, "1256768367-ComposeMedia-f5", pulled.Subject())
		require.Equal(t, posted.Payload(), pulled.Payload())
	}
	pulled, handle, err := event.Decode([]byte(`{"EventHandle":"EventHandle.N",`+payload+`}`), 0)
	require.NoError(t, err)
	require.Equal(t, "EventHandle.N", handle)
	require.Equal(t, `{`+payload+`}`, string(pulled.Raw), "as it came")
}

func TestTypeOfAPayload(t *testing.T) {
	for eventType, field := range event.PayloadFields() {
		for _, name := range []string{field, eventType} {
			e, _, err := event.Decode(fmt.Appendf(nil, `{%q:{"a":1},"Other":{"b":2},"More":null}`, name), 0)
			require.NoError(t, err)
			require.Equal(t, eventType, e.Type)
			require.Equal(t, `{"a":1}`, string(e.Payload()))
		}
	}
	for _, item := range []string{
		`{"Brand":{"a":1}}`, `{"FileUploadEvent":null}`, `{"FileUploadEvent":[]}`, `{"FileUploadEvent":"x"}`, `{}`,
		`{"FileUploadEvent":{},"FileDeleteEvent":{}}`, `{"EventType":"","NewEvent":{}}`,
	} {
		e, _, err := event.Decode([]byte(item), 0)
		require.Error(t, err, item)
		require.Equal(t, event.Unknown, e.Type, item)
		require.Equal(t, item, string(e.Raw), "it travels on")
	}
	e, _, err := event.Decode([]byte(`{"EventType":"Brand","FileUploadEvent":{}}`), 0)
	require.NoError(t, err)
	require.Equal(t, "Brand", e.Type, "what VOD says counts")
}

// Whatever the payload is, a notification has the same ID with its EventType and without it.
func FuzzUntyped(f *testing.F) {
	f.Add(`{"FileId":"1"}`, "FileUploadEvent", "FileDeleteEvent")
	f.Add(`{"a":null,"a":"\ud800"}`, "EditMediaComplete", "X")
	f.Fuzz(func(t *testing.T, payload, field, other string) {
		if !json.Valid([]byte(payload)) {
			return
		}
		names, err := json.Marshal([]string{field, other})
		require.NoError(t, err)
		var quoted []json.RawMessage
		require.NoError(t, json.Unmarshal(names, &quoted))
		item := fmt.Appendf(nil, `{%s:%s,%s:null}`, quoted[0], payload, quoted[1])
		untyped, _, err := event.Decode(item, 0)
		again, _, errAgain := event.Decode(untyped.Raw, 0)
		require.Equal(t, untyped.ID, again.ID)
		require.Equal(t, err == nil, errAgain == nil)
		if err != nil || field == "EventType" || other == "EventType" {
			return
		}
		typed, _, err := event.Decode(fmt.Appendf(nil, `{%s:%s,"EventType":%q}`, quoted[0], payload, untyped.Type), 0)
		require.NoError(t, err)
		require.Equal(t, typed.ID, untyped.ID)
		require.Equal(t, typed.Type, untyped.Type)
	})
}
