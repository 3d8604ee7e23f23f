package expression

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func parse(t testing.TB, content string) event.Event {
	t.Helper()
	e, _, err := event.Decode([]byte(content), 1500000001)
	require.NoError(t, err)
	return e
}

const upload = `{"EventType":"NewFileUpload","EventHandle":"h","FileUploadEvent":{
	"FileId":"14508071098244959037",
	"MediaBasicInfo":{"Name":"a <b> 视频.mp4","ClassId":7,"Type":"mp4","TagSet":["news","sport"],"StoragePath":null,
		"SourceInfo":{"SourceType":"Record","SourceContext":"{\"tenant\":9007199254740993}","LiveRecordInfo":{"StreamId":"s1"}}},
	"MetaData":{"Size":9007199254740993,"Duration":61.5,"Height":1080,"Width":1920,
		"VideoStreamSet":[{"Codec":"h264","Height":1080,"Fps":25},{"Codec":"hevc","Height":null}],"AudioStreamSet":[]},
	"Exact":{"price":0.10,"big":1e21,"room":18446744073709551615,"neg":-9223372036854775808}}}`

const bare = `{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"1","MetaData":null}}`

func TestConditionMatch(t *testing.T) {
	const (
		yes   = 1
		no    = 0
		fails = -1
	)
	tests := []struct {
		src                         string
		onUpload, onBare, onUnknown int
	}{
		{`true`, yes, yes, yes},
		{`type == "NewFileUpload"`, yes, yes, no},
		{`type != "NewFileUpload"`, no, no, yes},
		{`id matches "^[0-9a-f]{32}$"`, yes, yes, yes},
		{`sub_app_id == 1500000001`, yes, yes, yes},
		{`sub_app_id in [1, 1500000001]`, yes, yes, yes},
		{`subject == "14508071098244959037"`, yes, no, no},
		{`type in ["NewFileUpload", "FileDeleted"]`, yes, yes, no},
		{`type not in ["NewFileUpload", "FileDeleted"]`, no, no, yes},

		// what is missing is null
		{`FileUploadEvent.MetaData.Duration > 60`, yes, no, no},
		{`FileUploadEvent.MetaData.Duration <= 60`, no, no, no},
		{`60 < FileUploadEvent.MetaData.Duration`, yes, no, no},
		{`not (FileUploadEvent.MetaData.Duration > 60)`, no, yes, yes},
		{`FileUploadEvent.MetaData == nil`, no, yes, yes},
		{`FileUploadEvent.MetaData != nil`, yes, no, no},
		{`FileUploadEvent == nil`, no, no, yes},
		{`FileUploadEvent.MetaData.Duration != 60`, yes, yes, yes},
		{`FileUploadEvent.MetaData.Duration + 1 > 60`, yes, no, no},
		{`FileUploadEvent.MetaData.Duration * 2 - 1 >= 122 && FileUploadEvent.MetaData.Duration / 2 < 31`, yes, no, no},
		{`FileUploadEvent.MetaData.Height % 2 == 0`, yes, no, no},
		{`-FileUploadEvent.MetaData.Height < -1000`, yes, no, no},
		{`FileUploadEvent.MetaData.Height ** 2 > 1`, yes, no, no},
		{`(FileUploadEvent.MetaData.Duration ?? 100) > 60`, yes, yes, yes},
		{`FileUploadEvent?.MetaData?.Duration > 60`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.SourceInfo.LiveRecordInfo.StreamId == "s1"`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.StoragePath == nil`, yes, yes, yes},
		{`FileUploadEvent.MediaBasicInfo.Name endsWith ".mp4"`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.Name contains "视频"`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.Name matches "<b>"`, yes, no, no},
		{`upper(FileUploadEvent.MediaBasicInfo.Type) == "MP4"`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.Type | upper() == "MP4"`, yes, no, no},
		{`FileUploadEvent.FileId[0:2] == "14"`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.Name[-4:] == ".mp4"`, yes, no, no},
		{`split(FileUploadEvent.MediaBasicInfo.Name, ".")[1] == "mp4"`, yes, no, no},
		{`int(FileUploadEvent.MediaBasicInfo.ClassId) == 7`, yes, no, no},

		// lists
		{`len(FileUploadEvent.MediaBasicInfo.TagSet) == 0`, no, yes, yes},
		{`"news" in FileUploadEvent.MediaBasicInfo.TagSet`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.TagSet[0] == "news"`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.TagSet[-1] == "sport"`, yes, no, no},
		{`FileUploadEvent.MediaBasicInfo.TagSet[9] == nil`, yes, yes, yes},
		{`any(FileUploadEvent.MetaData.VideoStreamSet, .Height > 720)`, yes, no, no},
		{`all(FileUploadEvent.MetaData.VideoStreamSet, .Height > 720)`, no, yes, yes},
		{`none(FileUploadEvent.MetaData.VideoStreamSet, .Height > 720)`, no, yes, yes},
		{`one(FileUploadEvent.MetaData.VideoStreamSet, {.Height > 720})`, yes, no, no},
		{`any(FileUploadEvent.MetaData.VideoStreamSet, .Codec)`, fails, fails, fails}, // at compile time
		{`count(FileUploadEvent.MetaData.VideoStreamSet, .Codec in ["h264", "hevc"]) == 2`, yes, no, no},
		{`sum(FileUploadEvent.MetaData.VideoStreamSet, .Height) == 1080`, yes, no, no},
		{`len(filter(FileUploadEvent.MetaData.VideoStreamSet, .Codec == "hevc")) == 1`, yes, no, no},
		{`find(FileUploadEvent.MetaData.VideoStreamSet, .Codec == "hevc").Codec == "hevc"`, yes, no, no},
		{`map(FileUploadEvent.MetaData.VideoStreamSet, .Codec) == ["h264", "hevc"]`, yes, no, no},
		{`any(payload.MetaData.VideoStreamSet, .missing)`, no, no, no},
		{`reduce(FileUploadEvent.MetaData.VideoStreamSet, #acc + 1, 0) == 2`, yes, no, no},
		{`groupBy(FileUploadEvent.MetaData.VideoStreamSet, .Codec)["hevc"][0].Codec == "hevc"`, yes, no, no},

		{`3 in 1..5 and not (9 in 1..5) and "b" in split("a,b", ",")`, yes, yes, yes},
		{`1 in sub_app_id`, fails, fails, fails},
		{`2..2 == [2] and 2..1 == []`, yes, yes, yes},
		{`FileUploadEvent.MediaBasicInfo.TagSet[2] == nil and FileUploadEvent.MediaBasicInfo.TagSet[-3] == nil`, yes, yes, yes},
		{`uniq([1, 1.0, "a", "a", nil, [1], [1.0]]) == [1, "a", nil, [1]]`, yes, yes, yes},
		{`flatten([[1, 2], [3, [4]]]) == [1, 2, 3, 4]`, yes, yes, yes},
		{`fromPairs([["a", sub_app_id]]).a == sub_app_id and fromPairs(toPairs(payload)).FileId == payload.FileId`, yes, yes, yes},
		{`let pairs = toPairs({"a": sub_app_id}); pairs == [["a", 1500000001.0]] and [["a", 1500000001.0]] == pairs`, yes, yes, yes},

		// objects and lists are equal when all that is in them is
		{`{"a": 1, "b": [sub_app_id]} == {"b": [1500000001.0], "a": 1.0}`, yes, yes, yes},
		{`{"a": 1} == {"a": 2} or {"a": 1} == {"a": 1, "b": 2} or {"a": 1} == {"b": 1}`, no, no, no},
		{`groupBy([1, 2], # % 2) == groupBy([1, 2], # % 2)`, yes, yes, yes},
		{`groupBy([1, 2], #) == groupBy([1, 3], #) or payload == groupBy([1], #) or [event][0] == groupBy([1], #)`, no, no, no},

		// what is not documented
		{`payload.MetaData.Duration > 60`, yes, no, no},
		{`payload.MetaData.No.Such[3].Thing == nil`, yes, yes, yes},
		{`event.EventType == "NewFileUpload"`, yes, yes, no},
		{`event.EventHandle == nil`, yes, yes, yes},
		{`event.FileUploadEvent.Exact != nil`, yes, no, no},
		{`"Exact" in payload`, yes, no, no},
		{`event["FileUploadEvent"].FileId == "1"`, no, yes, no},
		{`payload.What.Happened == 5`, no, no, yes},
		{`payload.flag`, no, no, yes},
		{`payload.flag ? payload.What.Happened > 4 : false`, no, no, yes},
		{`payload.flag and payload.What.Happened > 4 or payload.other`, no, no, yes},
		{`ClipCompleteEvent.TaskId == nil`, yes, yes, yes},
		{`let m = FileUploadEvent.MetaData; m.Width > m.Height`, yes, no, no},
		{`let list = payload.MetaData.VideoStreamSet; let text = "h264"; let truth = true; any(list, .Codec == text) and truth`, yes, no, no},
		{`fromJSON(FileUploadEvent.MediaBasicInfo.SourceInfo.SourceContext).tenant == 9007199254740993`, yes, no, no},
		{`fromJSON(FileUploadEvent.FileId + "{").x == nil`, yes, yes, yes},
		{`toJSON(payload.MediaBasicInfo.TagSet) == '["news","sport"]'`, yes, no, no},
		{`get(payload, "FileId") == "1"`, no, yes, no},
		{`now() - date(payload.At) > duration("24h")`, no, no, yes},

		{`"an MP4" matches upper(payload.MediaBasicInfo.Type)`, yes, no, no},
		{`not (payload.x ?? payload.y)`, yes, yes, yes},

		// numbers
		{`FileUploadEvent.MetaData.Height < 1080 or FileUploadEvent.MetaData.Height > 1080`, no, no, no},
		{`FileUploadEvent.MetaData.Height <= 1080 and FileUploadEvent.MetaData.Height >= 1080`, yes, no, no},
		{`FileUploadEvent.MetaData.Size == 9007199254740993`, yes, no, no},
		{`FileUploadEvent.MetaData.Size == 9007199254740992`, no, no, no},
		{`FileUploadEvent.MetaData.Size > 9007199254740992`, yes, no, no},
		{`payload.Exact.room > 5`, yes, no, no},
		{`payload.Exact.room > 9223372036854775807`, yes, no, no},
		{`payload.Exact.room == -1`, no, no, no},
		{`payload.Exact.room > payload.Exact.neg`, yes, no, no},
		{`payload.Exact.room - 1 > 9223372036854775807`, yes, no, no},
		{`payload.Exact.neg < 0`, yes, no, no},
		{`payload.Exact.price == 0.1`, yes, no, no},
		{`payload.Exact.big == 1e21`, yes, no, no},

		// a wrong type is not silently no
		{`payload.FileId > 5`, fails, fails, no},
		{`payload.FileId`, fails, fails, no},
		{`payload.FileId and true`, fails, fails, no},
		{`payload.FileId + 1 == 2`, fails, fails, no},
		{`payload.MetaData.Height contains "1"`, fails, no, no},
		{`payload.MetaData.Height matches "1"`, fails, no, no},
		{`payload.MetaData[1:2] == nil`, fails, yes, yes},
		{`date(payload.FileId) > now()`, fails, fails, no},
		{`any(payload.FileId, true)`, fails, fails, no},
		{`5 % (len(type) - len(type)) == 0`, fails, fails, fails},
		{`len(1..2000000) > 1`, fails, fails, fails},
	}
	unknown := parse(t, `{"EventType":"Brand<New","Any":{"What":{"Happened":5},"flag":true,"At":"2020-01-01T00:00:00Z"}}`)
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			cond, err := CompileCondition(tt.src)
			if err != nil {
				require.Equal(t, []int{fails, fails, fails}, []int{tt.onUpload, tt.onBare, tt.onUnknown}, err.Error())
				return
			}
			require.Equal(t, tt.src, cond.String())
			match := func(e event.Event) int {
				ok, err := cond.Match(t.Context(), e)
				switch {
				case err != nil:
					require.False(t, ok)
					require.True(t, retry.IsPermanent(err))
					require.True(t, strings.HasPrefix(err.Error(), "expression '"+tt.src+"'"), err.Error())
					require.NotContains(t, err.Error(), "\n")
					return fails
				case ok:
					return yes
				}
				return no
			}
			got := []int{match(parse(t, upload)), match(parse(t, bare)), match(unknown)}
			require.Equal(t, []int{tt.onUpload, tt.onBare, tt.onUnknown}, got)
		})
	}
}

// The built-in functions must take null for every argument.
func TestConditionFunctionsOfNull(t *testing.T) {
	for _, call := range []string{
		`abs(payload.x)`, `ceil(payload.x)`, `floor(payload.x)`, `round(payload.x)`, `int(payload.x)`, `float(payload.x)`,
		`string(payload.x)`, `trim(payload.x)`, `trimPrefix(payload.x, "a")`, `trimSuffix(payload.x, "a")`, `upper(payload.x)`,
		`lower(payload.x)`, `split(payload.x, ",")`, `splitAfter(payload.x, ",")`, `replace(payload.x, "a", "b")`,
		`replace("a", "a", payload.x)`, `join(payload.x, ",")`, `indexOf(payload.x, "a")`, `lastIndexOf(payload.x, "a")`,
		`hasPrefix(payload.x, "a")`, `hasSuffix("a", payload.x)`, `max(payload.x, 1)`, `min(1, payload.x)`, `mean(payload.x)`,
		`median(payload.x)`, `toJSON(payload.x)`, `fromJSON(payload.x)`, `toBase64(payload.x)`, `fromBase64(payload.x)`,
		`duration(payload.x)`, `date(payload.x)`, `timezone(payload.x)`, `first(payload.x)`, `last(payload.x)`, `get(payload.x, "a")`,
		`take(payload.x, 1)`, `keys(payload.x)`, `values(payload.x)`, `toPairs(payload.x)`, `fromPairs(payload.x)`, `reverse(payload.x)`,
		`uniq(payload.x)`, `concat(payload.x, [1])`, `flatten(payload.x)`, `sort(payload.x)`, `bitand(payload.x, 1)`, `bitnot(payload.x)`,
		`find(payload.x, true)`, `findLast(payload.x, true)`, `payload.x[1:2]`, `payload.x[payload.y]`, `-payload.x`,
		`payload.x ** payload.y`, `payload.x ? 1 : nil`,
	} {
		cond, err := CompileCondition("(" + call + ") == nil")
		require.NoError(t, err, call)
		ok, err := cond.Match(t.Context(), parse(t, bare))
		require.NoError(t, err, call)
		require.True(t, ok, call)
	}
	for _, call := range []string{
		`len(payload.x) == 0`, `len(filter(payload.x, .a)) == 0`, `len(map(payload.x, .a)) == 0`, `count(payload.x, .a) == 0`,
		`sum(payload.x, .a) == 0`, `len(groupBy(payload.x, .a)) == 0`, `len(sortBy(payload.x, .a)) == 0`, `reduce(payload.x, # + #acc, 3) == 3`,
		`findIndex(payload.x, .a) == nil`, `findLastIndex(payload.x, .a) == nil`, `not (payload.x in payload.y)`, `not (payload.x contains "a")`,
		`not (payload.x startsWith payload.y)`, `not ("a" matches payload.x)`, `not payload.x`, `not (payload.x and true)`, `payload.x or true`,
	} {
		cond, err := CompileCondition(call)
		require.NoError(t, err, call)
		ok, err := cond.Match(t.Context(), parse(t, bare))
		require.NoError(t, err, call)
		require.True(t, ok, call)
	}
}

func TestCompileConditionErrors(t *testing.T) {
	tests := []struct{ src, want string }{
		{`FileUploadEvent.MetaData.Duraton > 60`,
			`expression 'FileUploadEvent.MetaData.Duraton > 60', column 26: unknown field Duraton: did you mean Duration? (what is not documented can be read through event, as event.FileUploadEvent.MetaData.Duraton)`},
		{`FileUploadEvent.metadata.Duration > 60`, `unknown field metadata: did you mean MetaData?`},
		{`PullCompleteEvent.MediaBasicInfo.SourceInfo.TrtcRecordInfo.SdkAppID > 60`, `did you mean SdkAppId?`},
		{`any(FileUploadEvent.MetaData.VideoStreamSet, .Codecs == "h264")`, `unknown field Codecs: did you mean Codec?`},
		{`FileDeleteEvent.FileDeleteResultInfo[0].DeleteParts[0].Definitions == 1`, `did you mean Definition?`},
		{`ProcedureStateChangeEvent.MediaProcessResultSet[0].Whatever.x == 1 and ProcedureStateChangeEvent.State == "FINISH"`, `unknown field State: `},
		{`typ == "NewFileUpload"`, `expression 'typ == "NewFileUpload"', column 1: unknown name typ: did you mean type?`},
		{`FileUploadEvnt.FileId == "1"`, `did you mean FileUploadEvent?`},
		{`uper(type) == "X"`, `did you mean upper?`},
		{`completelyElse == "X"`, `there are type, id, sub_app_id, subject, payload, event`},
		{`type = "NewFileUpload"`, `write == to compare`},
		{`FileUploadEvent.FileId == 1`, `a text is compared with a text`},
		{`FileUploadEvent.FileId`, `the result must be true or false, not string: compare it with something`},
		{`FileUploadEvent`, `the result must be true or false, not object`},
		{`1 + 2`, `the result must be true or false, not int`},
		{"type ==\n  \"x\" and typ", "expression 'type == \"x\" and typ', line 2, column 11: unknown name typ"},
		{`$env.type == "x"`, `$env is not available: use event`},
		{`type.upper() == "x"`, `upper`},
		{`payload.upper() == "x"`, `only the built-in functions can be called`},
		{`payload("x") == "x"`, `only the built-in functions can be called`},
		{`type("x") == "string"`, `string is not callable`},
		{`type matches "("`, `missing closing )`},
		{``, `the expression is empty`},
		{"\n ", `the expression is empty`},
		{`type == "x`, `literal not terminated`},
		{`(type == "x"`, `unexpected token EOF`},
		{"true" + strings.Repeat(" ", maxSource-3), `8193 bytes: shorten it to 8192`},
		{strings.Repeat("(", 9000), `9000 bytes: shorten it`},
		{"true" + strings.Repeat(" and true", 600), `exceeds maximum allowed nodes`},
	}
	for _, tt := range tests {
		_, err := CompileCondition(tt.src)
		require.ErrorContains(t, err, tt.want, tt.src)
		require.NotContains(t, err.Error(), "\n")
	}
}

// The documented fields must be what the real notification has.
func TestDocumentedFieldsOfTheSample(t *testing.T) {
	sample, err := os.ReadFile("../event/testdata/normal-callback.json")
	require.NoError(t, err)
	var content map[string]any
	require.NoError(t, json.Unmarshal(sample, &content))
	var visit func(path string, v any)
	visit = func(path string, v any) {
		_, err := CompileCondition(path + " != nil")
		require.NoError(t, err)
		if object, ok := v.(map[string]any); ok {
			for name, field := range object {
				visit(path+"."+name, field)
			}
		}
	}
	visit("FileUploadEvent", content["FileUploadEvent"])
	for eventType, field := range event.PayloadFields() {
		cond, err := CompileCondition(field + ".TaskId == '1'")
		if field == "FileUploadEvent" || field == "FileDeleteEvent" {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		ok, err := cond.Match(t.Context(), parse(t, `{"EventType":"`+eventType+`","`+field+`":{"TaskId":"1"}}`))
		require.NoError(t, err)
		require.True(t, ok)
	}
}

// A condition on the type alone must not look at the content: here there is none that could be decoded.
func TestConditionDecodesOnlyWhatItNames(t *testing.T) {
	broken := event.Event{ID: "1", Type: "NewFileUpload", Raw: json.RawMessage(`{"FileUploadEvent":{"a":`)}
	cond, err := CompileCondition(`type == "NewFileUpload" and id == "1" and sub_app_id == 0`)
	require.NoError(t, err)
	ok, err := cond.Match(t.Context(), broken)
	require.NoError(t, err)
	require.True(t, ok)

	cond, err = CompileCondition(`event.FileUploadEvent.a == 1`)
	require.NoError(t, err)
	_, err = cond.Match(t.Context(), broken)
	require.ErrorContains(t, err, "event cannot be read")
	require.True(t, retry.IsPermanent(err))
}

func TestConditionOnWhatIsNoObject(t *testing.T) {
	e, _, err := event.Decode([]byte(`not json`), 0)
	require.Error(t, err)
	for src, want := range map[string]bool{
		`type == "unknown"`: true, `event == "not json"`: true, `payload == nil`: true, `FileUploadEvent.FileId == nil`: true,
	} {
		cond, err := CompileCondition(src)
		require.NoError(t, err)
		ok, err := cond.Match(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, want, ok, src)
	}
}

func TestNearest(t *testing.T) {
	require.Equal(t, 3, distance("kitten", "sitting"))
	require.Equal(t, "Codec", nearest("codek", []string{"Container", "Codec", "CodecTag"}))
	for range 20 {
		require.Equal(t, "Codea", nearest("Code", []string{"Codec", "Codea", "Codeb"}), "the same one every time")
	}
	require.Empty(t, nearest("Zzzzzz", []string{"Container", "Codec"}))
}

func FuzzCompileCondition(f *testing.F) {
	for _, src := range []string{
		`type == "NewFileUpload"`, `FileUploadEvent.MetaData.Duration > 60`, `any(payload.x, .y?.z[0] in [1, "a", nil])`,
		`let a = payload; a.b ?? 1 ? {"k": [1..3]} : -a[1:]`, "\x00'\xff", `((((`, `$env`, `payload | filter(# > 1) | len() == 1.5e3`,
		`type matches "(" or sum(payload.x, .y) not in event`, `len(1..1e9) > 1`, `len(reduce(1..40, #acc + #acc, payload.s)) > 1`,
	} {
		f.Add(src)
	}
	e := event.Event{ID: "1", Type: "t", Raw: json.RawMessage(`{"EventType":"t","P":{"x":[1,{"y":2.5}],"s":"text"}}`)}
	f.Fuzz(func(t *testing.T, src string) {
		cond, err := CompileCondition(src)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		if _, err = cond.Match(t.Context(), e); err != nil {
			require.NotContains(t, err.Error(), "\n")
		}
	})
}

func FuzzConditionMatch(f *testing.F) {
	var conditions []*Condition
	for _, src := range []string{
		`type == "NewFileUpload"`,
		`FileUploadEvent.MetaData.Duration > 60`,
		`FileUploadEvent.MediaBasicInfo.SourceInfo.LiveRecordInfo.StreamId startsWith "a"`,
		`any(FileUploadEvent.MetaData.VideoStreamSet, .Height > 720)`,
		`payload.a.b[0].c in event.d or len(payload.a) + 1 == 2`,
		`sum(payload.list, .n) >= 1`,
	} {
		cond, err := CompileCondition(src)
		require.NoError(f, err)
		conditions = append(conditions, cond)
	}
	for _, content := range []string{upload, bare, `{"EventType":"x","A":{"a":{"b":[{"c":1}]}},"d":[1]}`, `null`, `[1]`, "{\"EventType\":\"\xff\"}", `{"a":1e999}`} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		e, _, _ := event.Decode(content, 1)
		for _, cond := range conditions {
			ok, err := cond.Match(t.Context(), e)
			if err != nil {
				require.False(t, ok)
				require.NotContains(t, err.Error(), "\n")
			}
			again, errAgain := cond.Match(t.Context(), e)
			require.Equal(t, ok, again)
			require.Equal(t, err == nil, errAgain == nil)
		}
	})
}

func TestText(t *testing.T) {
	e := parse(t, upload)
	for src, want := range map[string]string{
		`FileUploadEvent.FileId`:                          "14508071098244959037",
		`payload.Exact.price`:                             "0.10",
		`payload.Exact.room`:                              "18446744073709551615",
		`payload.MediaBasicInfo.Name`:                     "a <b> 视频.mp4",
		`payload.MediaBasicInfo.TagSet`:                   `["news","sport"]`,
		`"vod." + type`:                                   "vod.NewFileUpload",
		`payload.Nothing`:                                 "",
		`payload.Nothing ?? id`:                           e.ID,
		`sub_app_id`:                                      "1500000001",
		`payload.MediaBasicInfo.StoragePath`:              "",
		`FileUploadEvent.MetaData.Duration > 60`:          "true",
		`payload.MediaBasicInfo.SourceInfo.SourceContext`: `{"tenant":9007199254740993}`,
	} {
		x, err := Compile(src)
		require.NoError(t, err, src)
		got, err := x.Text(t.Context(), e)
		require.NoError(t, err, src)
		require.Equal(t, want, got, src)
		require.Equal(t, src, x.String())
	}
	broken := event.Event{Raw: json.RawMessage("{\"A\":{\"x\":\"\xff\\n\",\"y\":\"\\ud800\"}}")}
	for src, want := range map[string]string{`payload.x`: "\ufffd\n", `payload.y`: "\ufffd"} {
		x, err := Compile(src)
		require.NoError(t, err)
		got, err := x.Text(t.Context(), broken)
		require.NoError(t, err)
		require.Equal(t, want, got, "what is no Unicode costs nothing else")
	}
	x, err := Compile(`payload.MediaBasicInfo.Name + 1`)
	require.NoError(t, err)
	_, err = x.Text(t.Context(), e)
	require.True(t, retry.IsPermanent(err), err)
}
