package pipeline

import (
	"context"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestProject(t *testing.T) {
	e := parse(t, upload)
	tests := []struct {
		name   string
		fields []Field
		want   string
	}{
		{"the order is as given", []Field{{"b", "1"}, {"a", "true"}}, `{"b":1,"a":true}`},
		{"renamed, byte for byte", []Field{
			{"id", "payload.FileId"}, {"price", "payload.Exact.price"}, {"big", "event.FileUploadEvent.Exact.big"},
			{"room", `payload["Exact"]?.room`}, {"name", "payload.MediaBasicInfo.Name"}, {"codec", "payload.MetaData.VideoStreamSet[1].Codec"},
		}, `{"id":"14508071098244959037","price":0.10,"big":1e21,"room":18446744073709551615,"name":"a <b> 视频.mp4","codec":"hevc"}`},
		{"whole objects", []Field{{"all", "payload.Exact"}}, `{"all":{"price":0.10,"big":1e21,"room":18446744073709551615,"neg":-9223372036854775808}}`},
		{"missing and null are left out", []Field{{"a", "payload.Nothing.At[3].All"}, {"b", "payload.MediaBasicInfo.StoragePath"}, {"c", "nil"}, {"d", "payload.MetaData.VideoStreamSet[2]"}}, `{}`},
		{"an event's own fields", []Field{{"EventType", "type"}, {"App", "sub_app_id"}, {"Subject", "subject"}}, `{"EventType":"NewFileUpload","App":1500000001,"Subject":"14508071098244959037"}`},
		{"computed, without HTML escapes", []Field{
			{"title", `payload.MediaBasicInfo.Name + "&\u2028"`}, {"tall", "payload.MetaData.Height > 720"}, {"size", "payload.MetaData.Size + 0"},
			{"codecs", "map(payload.MetaData.VideoStreamSet, .Codec)"}, {"obj", `{"b": payload.Exact.room, "a": [nil]}`}, {"half", "payload.MetaData.Duration / 2"},
			{"group", "groupBy(payload.MetaData.VideoStreamSet, .Fps ?? 0)"}, {"age", `duration("90s")`}, {"range", "1..3"}, {"at", `date("2026-01-02T03:04:05Z")`},
		}, `{"title":"a <b> 视频.mp4&` + "\u2028" + `","tall":true,"size":9007199254740993,"codecs":["h264","hevc"],"obj":{"a":[null],"b":18446744073709551615},"half":30.75,` +
			`"group":{"0":[{"Codec":"hevc","Height":null}],"25":[{"Codec":"h264","Fps":25,"Height":1080}]},"age":"1m30s","range":[1,2,3],"at":"2026-01-02T03:04:05Z"}`},
		{"dotted keys make objects", []Field{{"file.id", "payload.FileId"}, {"type", "type"}, {"file.meta.md5", "payload.MetaData.Md5"}, {"file.h", "payload.MetaData.Height"}, {"x.y", "nil"}},
			`{"file":{"id":"14508071098244959037","h":1080},"type":"NewFileUpload"}`},
		{"odd names", []Field{{`a"b\`, "1"}, {"视频", "2"}}, `{"a\"b\\":1,"视频":2}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Project(tt.fields...)
			require.NoError(t, err)
			got, err := p.Process(t.Context(), e)
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got.Raw))
			require.Equal(t, []any{e.ID, e.Type, e.SubAppID}, []any{got.ID, got.Type, got.SubAppID})
			require.Equal(t, parse(t, upload), e, "the event itself must not change")
		})
	}
}

func TestSet(t *testing.T) {
	const content = `{"EventType":"X", "P" : {"a": 0.10, "b":{"c":1e21},"n":null}, "z":[1, 2],"dup":1,"dup":2}`
	e := parse(t, content)
	require.Equal(t, `{"EventType":"X","P":{"a": 0.10, "b":{"c":1e21},"n":null},"z":[1, 2],"dup":1,"dup":2}`, string(e.Raw))
	tests := []struct {
		name   string
		fields []Field
		want   string
	}{
		{"add", []Field{{"new", "event.P.a"}}, `{"EventType":"X","P":{"a": 0.10, "b":{"c":1e21},"n":null},"z":[1, 2],"dup":1,"dup":2,"new":0.10}`},
		{"replace in place", []Field{{"P", "1"}, {"EventType", `"Y"`}}, `{"EventType":"Y","P":1,"z":[1, 2],"dup":1,"dup":2}`},
		{"remove", []Field{{"P", "nil"}, {"missing", "nil"}, {"dup", "nil"}}, `{"EventType":"X","z":[1, 2]}`},
		{"remove the first", []Field{{"EventType", "nil"}, {"P", "nil"}, {"z", "nil"}}, `{"dup":1,"dup":2}`},
		{"remove all", []Field{{"EventType", "nil"}, {"P", "nil"}, {"z", "nil"}, {"dup", "nil"}}, `{}`},
		{"dotted", []Field{{"P.b.c", "2"}, {"P.a", "nil"}, {"P.x", "3"}, {"P.n", "4"}}, `{"EventType":"X","P":{"b":{"c":2},"n":4,"x":3},"z":[1, 2],"dup":1,"dup":2}`},
		{"dotted into what is missing or null", []Field{{"Q.r.s", "1"}, {"P.n.m", "2"}, {"R.s", "nil"}}, `{"EventType":"X","P":{"a":0.10,"b":{"c":1e21},"n":{"m":2}},"z":[1, 2],"dup":1,"dup":2,"Q":{"r":{"s":1}}}`},
		{"every expression sees the event as it came", []Field{{"a", "event.P.a"}, {"P.a", "event.P.b.c"}}, `{"EventType":"X","P":{"a":1e21,"b":{"c":1e21},"n":null},"z":[1, 2],"dup":1,"dup":2,"a":0.10}`},
		{"a repeated name", []Field{{"dup", "3"}}, `{"EventType":"X","P":{"a": 0.10, "b":{"c":1e21},"n":null},"z":[1, 2],"dup":3,"dup":3}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Set(tt.fields...)
			require.NoError(t, err)
			got, err := p.Process(t.Context(), e)
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got.Raw))
		})
	}
	p, err := Set(Field{"n", "1"})
	require.NoError(t, err)
	got, err := p.Process(t.Context(), event.Event{Raw: []byte(`{"n":null,"z":2}`)})
	require.NoError(t, err)
	require.Equal(t, `{"n":1,"z":2}`, string(got.Raw), "a null has its place, too")

	for _, tt := range []struct {
		field Field
		want  string
	}{
		{Field{"z.a", "1"}, "z is not an object: nothing can be set in it"},
		{Field{"P.a.b.c", "1"}, "P.a is not an object"},
		{Field{"x", "0.0/0.0"}, "the result cannot be written as JSON"},
		{Field{"x", "event.z + 1"}, "expression 'event.z + 1', column 9: "},
	} {
		p, err := Set(tt.field)
		require.NoError(t, err)
		got, err := p.Process(t.Context(), e)
		require.ErrorContains(t, err, tt.want)
		require.True(t, retry.IsPermanent(err))
		require.Equal(t, e, got)
	}
	unknown, _, _ := event.Decode([]byte("not json"), 0)
	p, err = Set(Field{"a", "1"})
	require.NoError(t, err)
	_, err = p.Process(t.Context(), unknown)
	require.ErrorContains(t, err, "the event's content is not an object")
}

func TestTemplateErrors(t *testing.T) {
	for _, tt := range []struct {
		fields []Field
		want   string
	}{
		{nil, "no fields"},
		{[]Field{{"", "1"}}, "a part of the key is empty"},
		{[]Field{{"a..b", "1"}}, "a part of the key is empty"},
		{[]Field{{"a", "1"}, {"a.b", "1"}}, "a.b: overlaps with a: keep one of them"},
		{[]Field{{"a.b", "1"}, {"a", "1"}}, "a: overlaps with a: keep one of them"},
		{[]Field{{"a", "1"}, {"a", "2"}}, "a: overlaps with a"},
		{[]Field{{"a\xff", "1"}}, "not valid UTF-8"},
		{[]Field{{"x", "payload."}, {"y", "typ"}}, "y: expression 'typ', column 1: unknown name typ"},
	} {
		_, err := Project(tt.fields...)
		require.ErrorContains(t, err, tt.want)
		_, err = Set(tt.fields...)
		require.ErrorContains(t, err, tt.want)
	}
}

func FuzzSet(f *testing.F) {
	p, err := Set(Field{"a.b", "event.x"}, Field{"c", "event.c + 1"}, Field{"d", "nil"})
	require.NoError(f, err)
	for _, content := range []string{upload, bare, `{"EventType":"x","a":{"b":1},"c":1,"d":2,"x":1e999}`, `{"a":null,"c":"t"}`, `[]`} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		e, _, _ := event.Decode(content, 1)
		before := string(e.Raw)
		got, err := p.Process(context.Background(), e)
		require.Equal(t, before, string(e.Raw))
		if err != nil {
			require.True(t, retry.IsPermanent(err))
			return
		}
		var object, was map[string]jsontext.Value
		require.NoError(t, jsonv2.Unmarshal(got.Raw, &object, lenient...), "%q", got.Raw)
		require.NotContains(t, object, "d")
		require.NoError(t, jsonv2.Unmarshal(e.Raw, &was, lenient...))
		for name, value := range was {
			if name != "a" && name != "c" && name != "d" {
				require.Equal(t, value, object[name])
			}
		}
	})
}
