package callback

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
)

// TestPushedAndPulledCopiesHaveOneID posts the pushed shape of every sample and every documented type, in
// all forms of the signature, and compares with the ID of the pulled shape.
func TestPushedAndPulledCopiesHaveOneID(t *testing.T) {
	pushed, err := os.ReadFile("../event/testdata/normal-callback.json")
	require.NoError(t, err)
	reply, err := os.ReadFile("../event/testdata/reliable-callback.json")
	require.NoError(t, err)
	var pulled struct {
		Response struct{ EventSet []json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(reply, &pulled))
	samples := map[string]string{string(pushed): string(pulled.Response.EventSet[0])}
	generated, err := emulator.Generate(emulator.Generation{Count: 40, Seed: 1, Types: []string{emulator.TypesAll}})
	require.NoError(t, err)
	for _, content := range generated {
		samples[string(content)] = `{"EventHandle":"xxx___1772263116607","FileUploadEvent":null,` + string(content[1:])
	}
	cfg := testConfig()
	cfg.SignKey = testKey
	h := &recorder{}
	s := receiver(t, cfg, nil, h)
	for push, pull := range samples {
		want, _, err := event.Decode([]byte(pull), testApp)
		require.NoError(t, err)
		top := signed(t, push, testKey, time.Minute)
		signature := top[strings.LastIndex(top, `"Sign"`) : len(top)-1]
		inner := strings.Replace(push, `Event":{`, `Event":{`+signature+`,`, 1)
		for _, body := range []string{top, inner, strings.ToUpper(signature[:6]) + signature[6:]} {
			if !strings.HasPrefix(body, "{") { // the other letter case of the name, before all fields
				body = "{" + body + "," + strings.TrimSpace(push)[1:]
			}
			if body == push { // ExtractBlindWatermarkComplete has no field that ends in Event
				continue
			}
			status, text := ask(s, body)
			require.Equal(t, http.StatusOK, status, "%s\n%s", body, text)
			got := h.delivery()
			require.Equal(t, want.ID, got.ID, body)
			require.Equal(t, want.Type, got.Type)
			require.EqualValues(t, testApp, got.SubAppID)
			require.Empty(t, got.Handle)
			a, err := want.CallbackBody()
			require.NoError(t, err)
			b, err := got.CallbackBody()
			require.NoError(t, err)
			require.JSONEq(t, string(a), string(b), "every value is kept")
		}
	}
}

func TestOddBodies(t *testing.T) {
	const malformed = http.StatusBadRequest
	h := &recorder{}
	cfg := testConfig()
	cfg.MaxBody = 64 << 10
	s := receiver(t, cfg, nil, h)
	deep := func(n int) string {
		return `{"EventType":"Deep","DeepEvent":` + strings.Repeat(`[`, n) + strings.Repeat(`]`, n) + `}`
	}
	utf16 := func(text string) string {
		var b strings.Builder
		b.WriteString("\xff\xfe")
		for _, c := range []byte(text) {
			b.WriteByte(c)
			b.WriteByte(0)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		body   string
		status int
		text   string
	}{
		"empty":            {"", malformed, "the body is not a JSON object"},
		"white":            {" \n", malformed, "the body is not a JSON object"},
		"text":             {"hello", malformed, "the body is not a JSON object"},
		"null":             {"null", malformed, "the body is not a JSON object"},
		"array":            {"[" + notification(1) + "]", malformed, "the body is not a JSON object"},
		"truncated":        {notification(1)[:60], malformed, "the body is not valid JSON"},
		"two":              {notification(1) + notification(2), malformed, "goes on behind its JSON object"},
		"NUL":              {"\x00", malformed, "the body is not a JSON object"},
		"control":          {"{\"EventType\":\"a\x01\"}", malformed, "the body is not valid JSON"},
		"UTF-16":           {utf16(notification(1)), malformed, "the body is not a JSON object"},
		"form":             {"payload=" + notification(1), malformed, "the body is not a JSON object"},
		"too deep":         {deep(20_000), malformed, "the body is not valid JSON"},
		"long name":        {`{"EventType":"x","` + strings.Repeat("n", 50_000) + `":[}`, malformed, "the body is not valid JSON"},
		"legacy":           {`{"version":"4.0","eventType":"FileDeleted","data":{}}`, malformed, "set callback.legacy"},
		"too large":        {`{"EventType":"` + strings.Repeat("x", 64<<10) + `"}`, http.StatusRequestEntityTooLarge, "larger than callback.max_body"},
		"deep":             {deep(5000), http.StatusOK, "accepted"},
		"BOM":              {"\xef\xbb\xbf" + notification(1), http.StatusOK, "accepted"},
		"white around":     {"\r\n\t" + notification(1) + "\n\n", http.StatusOK, "accepted"},
		"duplicate keys":   {`{"EventType":"A","EventType":"B","X":{"a":1,"a":2},"X":{}}`, http.StatusOK, "accepted"},
		"GBK in a string":  {"{\"EventType\":\"NewFileUpload\",\"FileUploadEvent\":{\"Name\":\"\xb6\xaf\xce\xef\"}}", http.StatusOK, "accepted"},
		"unknown type":     {`{"EventType":"Next","NextEvent":{"Big":12345678901234567891,"x":1e400}}`, http.StatusOK, "accepted"},
		"with a handle":    {`{"EventHandle":"h","EventType":"A","AEvent":{}}`, http.StatusOK, "accepted"},
		"lone surrogate":   {`{"EventType":"A","AEvent":{"x":"\ud800"}}`, http.StatusOK, "accepted"},
		"T without a Sign": {`{"EventType":"A","T":5,"AEvent":{"T":7,"Sign":"ok"}}`, http.StatusOK, "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			before := h.calls()
			status, text := ask(s, c.body)
			require.Equal(t, c.status, status, text)
			require.Contains(t, text, c.text)
			require.Less(t, len(text), 300)
			require.NotContains(t, text, "\n")
			require.Equal(t, status == http.StatusOK, h.calls() > before)
			if status == http.StatusOK && name != "with a handle" {
				want, _, err := event.Decode([]byte(strings.TrimPrefix(c.body, "\xef\xbb\xbf")), testApp)
				require.NoError(t, err)
				got := h.delivery().Event
				require.Equal(t, want, got, "as pkg/event reads it")
			}
		})
	}
}

// VOD documents a notification without EventType. It is the same event whether it is pulled or posted.
func TestANotificationWithoutEventTypeIsTheOneThatIsPulled(t *testing.T) {
	for _, key := range []string{"", testKey} {
		cfg := testConfig()
		cfg.SignKey = key
		h := &recorder{}
		s := receiver(t, cfg, nil, h)
		for body, eventType := range map[string]string{
			`{"FileUploadEvent":{"FileId":"1"}}`: event.NewFileUpload, `{"EventType":null,"FileDeleteEvent":{}}`: event.FileDeleted,
			`{"NewShape":{"id":1}}`: event.Unknown, `{"EventType":["x"]}`: event.Unknown, `{"EventType":null,"A":{}}`: event.Unknown, `{"a":1}`: event.Unknown,
		} {
			pulled, _, err := event.Decode([]byte(`{"EventHandle":"h",`+body[1:]), testApp)
			require.Equal(t, eventType == event.Unknown, err != nil)
			post := body
			if key != "" {
				post = signed(t, body, key, time.Minute)
			}
			status, text := ask(s, post)
			require.Equal(t, http.StatusOK, status, text)
			require.Equal(t, eventType, h.delivery().Type)
			require.Equal(t, pulled.ID, h.delivery().ID, body)
			require.JSONEq(t, body, string(h.delivery().Raw))
		}
	}
}
