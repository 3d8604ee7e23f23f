package vod

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/event"
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
		{`{"Response":{"A":` + strings.Repeat("[", 1<<20), reply{}, errNotJSON},
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

// An item that is no notification still travels on, with its handle if it has one, and holds up nobody.
func TestPullOddItems(t *testing.T) {
	t.Parallel()
	c := client(t, answer(`{"Response":{"EventSet":[null,7,{"EventHandle":"h"},{"EventHandle":123456789012345678901,"EventType":"X"},["a"]],"RequestId":"r"}}`))
	got, err := c.Queue(0).Pull(context.Background())
	require.NoError(t, err)
	require.Len(t, got, 5)
	for i, want := range []string{"unknown", "unknown", "unknown", "X", "unknown"} {
		require.Equal(t, want, got[i].Type)
		require.NotEmpty(t, got[i].ID)
	}
	require.Equal(t, "h", got[2].Handle)
	require.Equal(t, "123456789012345678901", got[3].Handle)
	require.Equal(t, "7", string(got[1].Raw))
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
		`{"Response":{"Error":{"Code":"A"},"Error":null}}`, "{\"Response\":{\"\xff\":1}}", `{"Response":{},"Response":{"RequestId":"r"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		copied := string(body)
		q := &Queue{}
		var deliveries []event.Delivery
		var unread error
		r, err := decodeReply(body, q.eventSet(&deliveries, &unread))
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
		for _, d := range deliveries {
			if d.ID == "" || d.Type == "" || len(d.Raw) == 0 {
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
	q := &Queue{}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var deliveries []event.Delivery
		var unread error
		if _, err := decodeReply(body, q.eventSet(&deliveries, &unread)); err != nil || len(deliveries) != 16 {
			b.Fatal(err, len(deliveries))
		}
	}
}
