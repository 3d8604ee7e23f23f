package event_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return data
}

// pulled is the first item of EventSet in VOD's documented PullEvents reply.
func pulled(t testing.TB) []byte {
	t.Helper()
	var reply struct {
		Response struct{ EventSet []json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(sample(t, "reliable-callback.json"), &reply))
	return reply.Response.EventSet[0]
}

func compact(t testing.TB, data []byte) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, json.Compact(&out, data))
	return out.String()
}

func TestThePulledSampleInCallbackFormatIsThePushedSample(t *testing.T) {
	e, handle, err := event.Decode(pulled(t), 1500000001)
	require.NoError(t, err)
	require.Equal(t, "EventHandle.N", handle)
	require.Equal(t, event.NewFileUpload, e.Type)
	body, err := e.CallbackBody()
	require.NoError(t, err)
	require.Equal(t, compact(t, sample(t, "normal-callback.json")), string(body))
}

func TestThePulledAndThePushedSampleAreOneEvent(t *testing.T) {
	pulledEvent, _, err := event.Decode(pulled(t), 1500000001)
	require.NoError(t, err)
	pushedEvent, handle, err := event.Decode(sample(t, "normal-callback.json"), 0)
	require.NoError(t, err)
	require.Empty(t, handle)
	require.Equal(t, pushedEvent.ID, pulledEvent.ID)
	// The ID is a promise to every target that deduplicates: a change of its definition would make one
	// event two for all of them.
	require.Equal(t, "52d05cd274e830c9a5025e72175b57de", pulledEvent.ID)
}

func TestFileUpload(t *testing.T) {
	e, _, err := event.Decode(pulled(t), 0)
	require.NoError(t, err)
	upload, err := e.FileUpload()
	require.NoError(t, err)
	require.Equal(t, "5285890784273533167", upload.FileId)
	require.Equal(t, "Animal World", upload.MediaBasicInfo.Name)
	require.Equal(t, "Upload", upload.MediaBasicInfo.SourceInfo.SourceType)
	require.Nil(t, upload.MetaData)

	other, _, err := event.Decode([]byte(`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`), 0)
	require.NoError(t, err)
	_, err = other.FileUpload()
	require.ErrorContains(t, err, "FileDeleted")

	odd, _, err := event.Decode([]byte(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":5}}`), 0)
	require.NoError(t, err)
	_, err = odd.FileUpload()
	require.ErrorContains(t, err, "not as documented")
}

func TestDecodeKeepsEveryByteOfEveryValue(t *testing.T) {
	values := []string{
		`9007199254740993`, `12345678901234567891`, `0.10`, `1e21`, `-0`, `1E+2`,
		`"<script>&"`, "\"\u2028\u2029\"", `"\u2028"`, `"😀"`, `"\ud83d\ude00"`, `"\/"`, `""`,
		`true`, `[ ]`, `[1, null,  2]`, `{"a" : {"b":[{}]}}`, "\"\xff\"", `{"a":1,"a":2}`,
	}
	for _, v := range values {
		raw := `{"EventHandle":"h","EventType":"Brand-New","Odd":` + v + `,"Other":null}`
		e, handle, err := event.Decode([]byte(raw), 7)
		require.NoError(t, err, v)
		require.Equal(t, "h", handle)
		require.Equal(t, "Brand-New", e.Type)
		require.EqualValues(t, 7, e.SubAppID)
		require.Equal(t, `{"EventType":"Brand-New","Odd":`+v+`,"Other":null}`, string(e.Raw))
	}
}

func TestDecodeNeverLosesWhatItDoesNotUnderstand(t *testing.T) {
	for _, c := range []struct{ name, item, raw, eventType, handle string }{
		{"no type", `{"EventHandle":"h","X":1}`, `{"X":1}`, event.Unknown, "h"},
		{"type of another kind", `{"EventHandle":"h","EventType":["a"]}`, `{"EventType":["a"]}`, event.Unknown, "h"},
		{"array", `[1, 2]`, `[1, 2]`, event.Unknown, ""},
		{"null", `null`, `null`, event.Unknown, ""},
		{"text", `"x"`, `"x"`, event.Unknown, ""},
		{"cut", `{"EventType":"A","B":`, `"{\"EventType\":\"A\",\"B\":"`, event.Unknown, ""},
		{"two values", `{} {}`, `"{} {}"`, event.Unknown, ""},
		{"empty", ``, `""`, event.Unknown, ""},
		{"no JSON in a field", `{"EventHandle":"h","EventType":"A","B":tru,"C":[1]}`, `"{\"EventType\":\"A\",\"B\":tru,\"C\":[1]}"`, event.Unknown, "h"},
		{"no JSON behind it", `{"EventHandle":"h","EventType":"A"}x`, `"{\"EventHandle\":\"h\",\"EventType\":\"A\"}x"`, event.Unknown, "h"},
		{"not JSON", `<html>`, `"<html>"`, event.Unknown, ""},
		{"not JSON, no text", "<\xff\x00>", "\"<\xff\\u0000>\"", event.Unknown, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, handle, err := event.Decode([]byte(c.item), 0)
			require.Error(t, err)
			require.Equal(t, c.raw, string(e.Raw))
			require.Equal(t, c.eventType, e.Type)
			require.Equal(t, c.handle, handle)
			require.Len(t, e.ID, 32)
			_, err = e.CallbackBody()
			require.NoError(t, err)
		})
	}
}

func TestHandles(t *testing.T) {
	for item, want := range map[string]string{
		`{"EventType":"A","EventHandle":"tdmq830894935510738067"}`:               "tdmq830894935510738067",
		`{"EventType":"A","EventHandle":8077366951669081316}`:                    "8077366951669081316",
		`{"EventType":"A","EventHandle":"a\"b\u00e9\n"}`:                         "a\"b\u00e9\n",
		`{"EventType":"A","EventHandle":null}`:                                   "",
		`{"EventType":"A","EventHandle":"one","EventHandle":"two"}`:              "two",
		`{"EventType":"A","EventHandle":"` + strings.Repeat("x", 100_000) + `"}`: strings.Repeat("x", 100_000),
	} {
		e, handle, err := event.Decode([]byte(item), 0)
		require.NoError(t, err)
		require.Equal(t, want, handle)
		require.Equal(t, `{"EventType":"A"}`, string(e.Raw))
	}
}

func TestID(t *testing.T) {
	base := `{"EventType":"A","P":{"x":1,"y":[1,null],"z":"a/b"}}`
	id := func(s string) string {
		e, _, _ := event.Decode([]byte(s), 0)
		return e.ID
	}
	for _, same := range []string{
		`{"P":{"z":"a/b","y":[1,null],"x":1},"EventType":"A"}`,
		` { "EventType" : "A" , "P" : { "x" : 1 , "y" : [ 1 , null ] , "z" : "a\/b" } } `,
		`{"EventHandle":"other","EventType":"A","P":{"x":1,"y":[1,null],"z":"a/b"}}`,
		`{"EventType":"A","Q":null,"P":{"x":1,"y":[1,null],"z":"a/b","w":null}}`,
		`{"EventType":"A","P":{"x":1,"y":[1,null],"z":"a/b"},"Sign":"0123","T":1700000000}`,
		`{"EventType":"A","P":{"x":1,"y":[1,null],"z":"a/b"},"sign":"0123","t":1700000000}`,
		`{"EventType":"A","P":{"x":1,"y":[1,null],"z":"\u0061/b"}}`,
		`{"Event\u0054ype":"\u0041","P":{"\u0078":1,"y":[1,null],"z":"a\u002fb","\u0077":null}}`,
		`{"EventType":"A","P":null,"P":{"x":1,"y":[1,null],"z":null,"z":"a/b"}}`,
	} {
		require.Equal(t, id(base), id(same), same)
	}
	seen := map[string]string{id(base): base}
	for _, other := range []string{
		`{"EventType":"B","P":{"x":1,"y":[1,null],"z":"a/b"}}`,
		`{"EventType":"A","P":{"x":1.0,"y":[1,null],"z":"a/b"}}`,
		`{"EventType":"A","P":{"x":1,"y":[1],"z":"a/b"}}`,
		`{"EventType":"A","P":{"x":1,"y":[1,null],"z":"a/b","T":1}}`,
		`{"EventType":"A","P":{"x":9007199254740992}}`,
		`{"EventType":"A","P":{"x":9007199254740993}}`,
		`{"EventType":"A","P":{"x":"1","y":[1,null],"z":"a/b"}}`,
		`{"EventType":"A","P":{"a":1,"a":2}}`,
		`{"EventType":"A","P":{"a":2,"a":1}}`,
		`{"EventType":"A","P":{"a":1}}`, `{"EventType":"A","P":{"a":1,"a":null}}`,
		`{"EventType":"A","FileId":"\ud800"}`, `{"EventType":"A","FileId":"\udbff"}`, `{"EventType":"A","FileId":"\ufffd"}`, `{"EventType":"A","FileId":"\\ud800"}`,
		"{\"EventType\":\"A\",\"FileId\":\"\xff\\n\"}", "{\"EventType\":\"A\",\"FileId\":\"\xfe\\n\"}", `{"EventType":"A","FileId":"\ufffd\n"}`,
		`{"EventType":"A","\ud800":1}`, `{"EventType":"A","\udbff":1}`, `{"EventType":"A","\ud800":1,"\udbff":2}`, `{"EventType":"A","\udbff":1,"\ud800":2}`,
		`{"EventType":"A","P":0}`, `{"EventType":"A","P":-0}`, `{"EventType":"A\u0000","P":0}`, `{"EventType":"\ud800"}`, `{"EventType":"\udbff"}`,
		"<\xff>", "<\xfe>", "<\ufffd>", // no notifications
	} {
		require.NotContains(t, seen, id(other), other)
		seen[id(other)] = other
	}
}

// What cannot be parsed comes again, too: only its handle is another one.
func TestWhatCannotBeParsedIsOneEvent(t *testing.T) {
	one, first, err := event.Decode([]byte(`{"EventType":"A","B":tru,"EventHandle":"one"}`), 0)
	require.Error(t, err)
	again, second, err := event.Decode([]byte(` {"EventHandle":"two","EventType":"A","B":tru}`), 0)
	require.Error(t, err)
	require.Equal(t, []string{"one", "two"}, []string{first, second})
	require.Equal(t, one, again)
}

func TestDedupID(t *testing.T) {
	pushed, _, err := event.Decode(sample(t, "normal-callback.json"), 0)
	require.NoError(t, err)
	require.Equal(t, "52d05cd274e830c9a5025e72175b57de", pushed.DedupID())
	pulledOne, _, err := event.Decode(pulled(t), 1500000001)
	require.NoError(t, err)
	require.Equal(t, "1500000001-52d05cd274e830c9a5025e72175b57de", pulledOne.DedupID())
	pushed.SubAppID = 1500000001
	require.Equal(t, pulledOne.DedupID(), pushed.DedupID(), "a pushed copy whose application is configured")
	pushed.SubAppID = math.MaxUint64
	require.Len(t, pushed.DedupID(), 53)
}

func TestCallbackBodyLeavesOutNullFieldsAndChangesNothingElse(t *testing.T) {
	e, _, err := event.Decode([]byte(`{"EventHandle":"h","EventType":"A","Gone":null,
		"P":{"n":null,"big":12345678901234567891,"f":0.10,"s":"<\u003c>","list":[null,{"n":null}],"o":{}}}`), 0)
	require.NoError(t, err)
	body, err := e.CallbackBody()
	require.NoError(t, err)
	require.Equal(t, `{"EventType":"A","P":{"big":12345678901234567891,"f":0.10,"s":"<\u003c>","list":[null,{}],"o":{}}}`, string(body))
}

func TestPayloadAndSubject(t *testing.T) {
	for _, c := range []struct{ item, payload, subject string }{
		{`{"EventType":"NewFileUpload","X":{"FileId":"2"},"FileUploadEvent":{"FileId":"1","TaskId":"t"}}`, `{"FileId":"1","TaskId":"t"}`, "1"},
		{`{"EventType":"Newer","A":null,"B":1,"NewerEvent":{"TaskId":"t"}}`, `{"TaskId":"t"}`, "t"},
		{`{"EventType":"Newer","A":{},"B":{}}`, `null`, ""},
		{`{"EventType":"NewFileUpload","FileUploadEvent":null}`, `null`, ""},
		{`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":14508071098244959037}}`, `{"FileId":14508071098244959037}`, "14508071098244959037"},
		{`{"EventType":"RestoreMediaComplete","RestoreMediaCompleteEvent":{"FileId":"9","Status":0}}`, `{"FileId":"9","Status":0}`, "9"},
		{`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1"]}}`, `{"FileIdSet":["1"]}`, "1"},
		{`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[1]}}`, `{"FileIdSet":[1]}`, "1"},
		{`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["1","2"]}}`, `{"FileIdSet":["1","2"]}`, ""},
		{`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`, `{"FileIdSet":[]}`, ""},
		{`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":"1"}}`, `{"FileIdSet":"1"}`, ""},
		{`{"EventType":"FileDeleted","FileDeleteEvent":{"FileId":"3","FileIdSet":["1"]}}`, `{"FileId":"3","FileIdSet":["1"]}`, "3"},
		// older names of the fields
		{`{"EventType":"WechatPublishComplete","WechatPublishComplete":{"FileId":"4"},"X":{}}`, `{"FileId":"4"}`, "4"},
		{`{"EventType":"EditMediaComplete","EditMediaComplete":{"TaskId":"t"},"EditMediaCompleteEvent":null,"X":{}}`, `{"TaskId":"t"}`, "t"},
		{`{"EventType":"EditMediaComplete","EditMediaComplete":{"TaskId":"t"},"EditMediaCompleteEvent":{"TaskId":"u"}}`, `{"TaskId":"u"}`, "u"},
	} {
		e, _, err := event.Decode([]byte(c.item), 0)
		require.NoError(t, err)
		require.Equal(t, c.payload, string(e.Payload()), c.item)
		require.Equal(t, c.subject, e.Subject(), c.item)
	}
}

func TestEveryDocumentedTypeIsKnown(t *testing.T) {
	fields := event.PayloadFields()
	require.Len(t, fields, 36)
	for eventType, field := range fields {
		e, _, err := event.Decode([]byte(`{"EventType":"`+eventType+`","Other":{"a":1},"`+field+`":{"b":2}}`), 0)
		require.NoError(t, err)
		require.Equal(t, `{"b":2}`, string(e.Payload()), eventType)
		require.True(t, event.Known(eventType) && event.Documented(eventType), eventType)
	}
	require.True(t, event.Known(event.Unknown), "there is one of it, whatever comes from outside")
	require.False(t, event.Documented(event.Unknown))
	require.False(t, event.Known("Brand-New") || event.Documented("Brand-New"))
}

func TestCloudEvents(t *testing.T) {
	e, _, err := event.Decode(pulled(t), 1500000001)
	require.NoError(t, err)
	body, err := e.CallbackBody()
	require.NoError(t, err)

	structured, err := event.FormatCloudEvents.Encode(e)
	require.NoError(t, err)
	var ce cloudevents.Event
	require.NoError(t, json.Unmarshal(structured.Body, &ce))
	require.NoError(t, ce.Validate())
	require.Equal(t, e.ID, ce.ID())
	require.Equal(t, "//vod.tencentcloudapi.com/1500000001", ce.Source())
	require.Equal(t, "com.tencentcloud.vod.NewFileUpload", ce.Type())
	require.Equal(t, "5285890784273533167", ce.Subject())
	require.Equal(t, "application/json", ce.DataContentType())
	require.Equal(t, "application/cloudevents+json; charset=utf-8", structured.ContentType)
	require.Contains(t, string(structured.Body), string(body), "the data keeps its bytes")

	binary, err := event.FormatCloudEventsBinary.Encode(e)
	require.NoError(t, err)
	require.Equal(t, string(body), string(binary.Body))
	require.Equal(t, []event.Attribute{
		{Name: "specversion", Value: "1.0"}, {Name: "id", Value: e.ID}, {Name: "source", Value: "//vod.tencentcloudapi.com/1500000001"},
		{Name: "type", Value: "com.tencentcloud.vod.NewFileUpload"}, {Name: "subject", Value: "5285890784273533167"},
	}, binary.Attributes)
}

func TestFormats(t *testing.T) {
	e, _, err := event.Decode([]byte("{\"EventType\":\"A\",\"P\":{\n\"x\":\"\u2028<\",\"n\":1e21}}"), 0)
	require.NoError(t, err)
	for _, f := range []event.Format{"", event.FormatCallback, event.FormatCloudEvents, event.FormatCloudEventsBinary} {
		require.NoError(t, f.Validate())
		m, err := f.Encode(e)
		require.NoError(t, err)
		require.NotContains(t, string(m.Body), "\n")
		require.Contains(t, string(m.Body), "\"P\":{\"x\":\"\u2028<\",\"n\":1e21}")
	}
	require.ErrorContains(t, event.Format("xml").Validate(), `"xml"`)
	_, err = event.Format("xml").Encode(e)
	require.Error(t, err)
}

func FuzzDecode(f *testing.F) {
	f.Add(pulled(f))
	f.Add(sample(f, "normal-callback.json"))
	f.Add([]byte(`{"EventHandle":"h","EventType":"A","P":{"b":1,"a":null,"":[{},null]}}`))
	f.Add([]byte("{\"EventType\":\"\xff\",\"a\\u0062\":\"\\ud800\"}"))
	f.Fuzz(func(t *testing.T, item []byte) {
		e, _, err := event.Decode(item, 1)
		if !json.Valid(e.Raw) && !bytes.Contains(e.Raw, []byte{'\\'}) {
			t.Fatalf("Raw is not JSON: %q", e.Raw)
		}
		if len(e.ID) != 32 || e.Type == "" {
			t.Fatalf("no ID or no type: %+v", e)
		}
		again, _, _ := event.Decode(e.Raw, 2)
		if err == nil && (again.ID != e.ID || string(again.Raw) != string(e.Raw) || again.Type != e.Type) {
			t.Fatalf("not stable:\n%+v\n%+v", e, again)
		}
		if body, bodyErr := e.CallbackBody(); bodyErr != nil {
			t.Fatal(bodyErr)
		} else if err == nil {
			pushed, _, _ := event.Decode(body, 0)
			if pushed.ID != e.ID {
				t.Fatalf("the callback body %q has another ID than %q", body, e.Raw)
			}
		}
		_ = e.Payload()
		_ = e.Subject()
	})
}

func BenchmarkDecode(b *testing.B) {
	item := pulled(b)
	b.SetBytes(int64(len(item)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := event.Decode(item, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e, _, err := event.Decode(pulled(b), 1)
	require.NoError(b, err)
	for _, f := range []event.Format{event.FormatCallback, event.FormatCloudEvents} {
		b.Run(string(f), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Encode(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
