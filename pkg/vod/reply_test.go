package vod

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/event"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestDecodeReply(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		body string
		want reply
		err  error
	}{
		{`{"Response":{"RequestId":"r"}}`, reply{requestID: "r"}, nil},
		{" \n{\"X\":[1],\"Response\":{\"Y\":{},\"RequestId\":\"r\",\"Error\":null}} \n", reply{requestID: "r"}, nil},
		{`{"Response":{"Error":{"Code":"A.B","Message":"m","More":[]},"RequestId":"r"}}`, reply{code: "A.B", message: "m", requestID: "r"}, nil},
		{`{"Response":{"Error":{"Code":"A"}}}`, reply{code: "A"}, nil},
		{`{"Response":{"Error":{"Message":"m"},"RequestId":"r"}}`, reply{}, errBadError},
		{`{"Response":{"Error":"broken","RequestId":"r"}}`, reply{}, errBadError},
		{`{"Response":{"Error":{},"RequestId":"r"}}`, reply{}, errBadError},
		{``, reply{}, errNoBytes},
		{" \n", reply{}, errNoBytes},
		{`null`, reply{}, errNoObject},
		{`[]`, reply{}, errNoObject},
		{`"x"`, reply{}, errNoObject},
		{`{}`, reply{}, errNoObject},
		{`{"Response":null}`, reply{}, errNoObject},
		{`{"Response":[]}`, reply{}, errNoObject},
		{`{"code":4000,"message":"x","codeDesc":"InvalidParameter"}`, reply{}, errNoObject},
		{`{"Response":{}}`, reply{}, errNoID},
		{`{"Response":{"RequestId":null}}`, reply{}, errNoID},
		{`{"Response":{"RequestId":{}}}`, reply{}, errNoID},
		{`<html>`, reply{}, errNotJSON},
		{`{"Response":{"RequestId":"r"}}x`, reply{}, errNotJSON},
		{`{"Response":{"RequestId":"r"}}{}`, reply{}, errNotJSON},
		{`{"Response":{"RequestId":"r"`, reply{}, errCutShort},
		{`{"Response":{"RequestId":"r`, reply{}, errCutShort},
		{`{"Response":`, reply{}, errCutShort},
		{`{"Response":{"EventSet":[{"a":1},`, reply{}, errCutShort},
		{strings.Repeat("[", 1<<20), reply{}, errNoObject},
		{`{"Response":{"A":` + strings.Repeat("[", 1<<20), reply{}, errCutShort},
		{`{"Response":{"A":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `,"RequestId":"r"}}`, reply{requestID: "r"}, nil},
		{`{"Response":{"RequestId":"r"]}`, reply{}, errNotJSON},
		{`{"Response" {"RequestId":"r"}}`, reply{}, errNotJSON},
	} {
		got, err := decodeReply([]byte(row.body), skipField)
		name := row.body[:min(len(row.body), 80)]
		require.Equal(t, row.err, err, name)
		if err == nil {
			require.Equal(t, row.want, got, name)
		}
	}
}

func TestPullEmpty(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		emptyReply,
		`{"Response":{"Error":{"Code":"ResourceNotFound","Message":"some other text"},"RequestId":"r"}}`,
		`{"Response":{"EventSet":null,"RequestId":"r"}}`,
		`{"Response":{"EventSet":[],"RequestId":"r"}}`,
		`{"Response":{"RequestId":"r"}}`,
	} {
		got, err := client(t, answer(body)).Queue(7).Pull(context.Background())
		require.NoError(t, err, body)
		require.Nil(t, got, body)
	}
}

// Every byte of an event reaches Raw, whatever it is.
func TestPullKeepsBytes(t *testing.T) {
	t.Parallel()
	payloads := []string{
		`{"EventType":"NewFileUpload","FileUploadEvent":{"Size":9007199254740993,"Big":12345678901234567891}}`,
		`{"EventType":"SomethingNew","Odd":{"a":0.10,"b":1e21,"c":-0,"d":1E+2}}`,
		`{"EventType":"NewFileUpload","Text":"<b>&\u003c\u2028` + "\u2028" + `😀\ud83d\ude00"}`,
		`{"EventType":"NewFileUpload","N":null,"Unknown":[[],{}],"a":1,"a":2}`,
		"{\"EventType\":\"NewFileUpload\",\"Broken\":\"\xff\xfe\"}",
	}
	var items []string
	for i, p := range payloads {
		items = append(items, fmt.Sprintf(`{"EventHandle":"h%d",%s`, i, p[1:]))
	}
	body := `{"Response":{"EventSet":[` + strings.Join(items, ",") + `],"RequestId":"r"}}`
	for _, contentType := range []string{"application/json", "text/html", "text/event-stream", "application/octet-stream", ""} {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{contentType}
			_, _ = io.WriteString(w, body)
		})
		before := time.Now()
		got, err := c.Queue(1500000001).Pull(context.Background())
		require.NoError(t, err)
		require.Len(t, got, len(payloads))
		for i, d := range got {
			require.Equal(t, payloads[i], string(d.Raw))
			require.Equal(t, fmt.Sprintf("h%d", i), d.Handle)
			require.Equal(t, uint64(1500000001), d.SubAppID)
			require.Equal(t, event.LeaseTime, d.Deadline.Sub(d.ReceivedAt))
			require.False(t, d.ReceivedAt.Before(before))
		}
		require.Equal(t, "SomethingNew", got[1].Type)
	}
}

// A bad item costs itself alone: what may have a handle travels on, and what has none is left out. Each kind is
// logged when it begins.
func TestPullOddItems(t *testing.T) {
	t.Parallel()
	logs, seenLogs := observer.New(zapcore.WarnLevel)
	deep := func(n int, handle string) string {
		return `{"EventType":"Deep","Deep":` + strings.Repeat(`{"a":[`, n) + strings.Repeat("]}", n) + `,"EventHandle":"` + handle + `"}`
	}
	body := `{"Response":{"EventSet":[null,7,{"EventHandle":"h","A":1},` + deep(4000, "fits") + `,"x",{"EventHandle":123456789012345678901,"EventType":"X"},["a"],` +
		deep(6000, "deep") + `,{"EventType":"NoHandle"},{"EventHandle":"broken","EventType":"Y","B":tru,"C":[,,:x"}]"]},nonsense,{"EventHandle":"last","EventType":"Z"}],"RequestId":"r"}}`
	c := client(t, answer(body), WithLogger(zap.New(logs)))
	var first []event.Delivery
	for range 3 {
		got, err := c.Queue(0).Pull(t.Context())
		require.NoError(t, err)
		var types, handles []string
		for _, d := range got {
			types, handles = append(types, d.Type), append(handles, d.Handle)
			require.True(t, event.IsJSON(d.Raw))
			require.NotContains(t, string(d.Raw), "EventHandle")
		}
		require.Equal(t, []string{"unknown", "Deep", "X", "unknown", "NoHandle", "unknown", "Z"}, types)
		require.Equal(t, []string{"h", "fits", "123456789012345678901", "deep", "", "broken", "last"}, handles)
		if first == nil {
			first = got
		}
	}
	var text string
	require.NoError(t, json.Unmarshal(first[3].Raw, &text))
	require.Equal(t, strings.Replace(deep(6000, "x"), `,"EventHandle":"x"`, "", 1), text)
	again, err := client(t, answer(strings.Replace(body, `"deep"`, `"other"`, 1))).Queue(0).Pull(t.Context())
	require.NoError(t, err)
	require.Equal(t, "other", again[3].Handle)
	require.Equal(t, first[3].ID, again[3].ID, "another delivery of the same event")
	require.Equal(t, 3, seenLogs.Len(), "not at every reply")
	for _, entry := range seenLogs.All() {
		require.Less(t, len(fmt.Sprint(entry.ContextMap())), 200)
	}
}

// However many items there are, 1,024 are taken, and the others cost nothing.
func TestPullTakesNoMoreThanItMay(t *testing.T) { // alone, since it counts memory
	logs, seenLogs := observer.New(zapcore.WarnLevel)
	good := func(i int) string { return fmt.Sprintf(`{"EventHandle":"h%d","EventType":"X","N":%d}`, i, i) }
	var many []string
	for i := range 3000 {
		many = append(many, good(i))
	}
	c := client(t, answer(`{"Response":{"EventSet":[`+strings.Join(many, ",")+`],"RequestId":"r"}}`), WithLogger(zap.New(logs)))
	for range 2 {
		got, err := c.Queue(7).Pull(t.Context())
		require.NoError(t, err)
		require.Len(t, got, 1024)
	}
	require.Equal(t, 1, seenLogs.Len())
	require.EqualValues(t, 3000-1024, seenLogs.All()[0].ContextMap()["count"])

	body := []byte(`{"Response":{"EventSet":[` + good(1) + strings.Repeat(",1", 5<<20) + `,` + good(2) + `],"RequestId":"r"}}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var set eventSet
	_, err := decodeReply(body, set.reader(7))
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, set.deliveries, 2)
	require.Equal(t, 5<<20, set.odd[nothing].count)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func TestPullSample(t *testing.T) {
	t.Parallel()
	sample, err := os.ReadFile("../event/testdata/reliable-callback.json")
	require.NoError(t, err)
	got, err := client(t, answer(string(sample))).Queue(0).Pull(context.Background())
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "EventHandle.N", got[0].Handle)
	upload, err := got[0].FileUpload()
	require.NoError(t, err)
	require.Equal(t, "5285890784273533167", upload.FileId)
}

func FuzzDecodeReply(f *testing.F) {
	for _, seed := range []string{
		okReply, oneEvent, emptyReply, `null`, `{}`, ``, `<html>`, `{"Response":{"EventSet":[{"EventHandle":1},null],"RequestId":"\ud83d"}}`,
		`{"Response":{"EventSet":[{"EventHandle":"a","X":tru},1,{"EventHandle":"b"},nonsense,"]",[{}]],"RequestId":1}}`,
		`{"Response":{"EventSet":[` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `,{"EventType":"\\\\\\"","EventHandle":"\\u0041"}],"RequestId":"r"}}`,
		`{"Response":{"Error":{"Code":"A"},"Error":null}}`, "{\"Response\":{\"\xff\":1}}", `{"Response":{},"Response":{"RequestId":"r"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		copied := string(body)
		var set eventSet
		r, err := decodeReply(body, set.reader(7))
		if string(body) != copied {
			t.Fatal("the body was changed")
		}
		if err == nil && r.code == "" && r.requestID == "" {
			t.Fatal("a success without a RequestId")
		}
		if err != nil {
			if _, ok := err.(shapeError); !ok { //nolint:errorlint // exactly this is promised
				t.Fatalf("%T: %v", err, err)
			}
		}
		if len(set.deliveries) > maxEvents {
			t.Fatal("more than there may be")
		}
		for _, d := range set.deliveries {
			if d.ID == "" || d.Type == "" || !event.IsJSON(d.Raw) {
				t.Fatalf("an incomplete event: %+v", d)
			}
		}
	})
}

func BenchmarkDecode16Events(b *testing.B) {
	sample, err := os.ReadFile("../event/testdata/reliable-callback.json")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(sample), "[")
	item := rest[:strings.LastIndex(rest, "]")]
	body := []byte(`{"Response":{"EventSet":[` + strings.Repeat(item+",", 15) + item + `],"RequestId":"r"}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var set eventSet
		if _, err := decodeReply(body, set.reader(7)); err != nil || len(set.deliveries) != 16 {
			b.Fatal(err, len(set.deliveries))
		}
	}
}
