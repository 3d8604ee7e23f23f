package callback

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// The samples follow https://www.tencentcloud.com/document/product/266/33962.
func TestLegacyIsTranslated(t *testing.T) {
	cfg := testConfig()
	cfg.Legacy = true
	h := &recorder{}
	s := receiver(t, cfg, nil, h)
	for _, c := range []struct{ eventType, data, want string }{
		{event.NewFileUpload,
			`{"fileId":"5285890784273533167","fileName":"Animal World","coverUrl":"http://x/c.jpg","fileUrl":"http://x/f0.flv","transcodeTaskId":"t","procedureTaskId":"p","sourceType":"ClientUpload","sourceContext":"<ctx>","author":"CCTV","streamId":"54xx_45","metaData":{"size":12345678901234567891,"duration":0.10,"videoStreamList":[{"bitrate":1}]}}`,
			`{"FileId":"5285890784273533167","MediaBasicInfo":{"Name":"Animal World","CoverUrl":"http://x/c.jpg","MediaUrl":"http://x/f0.flv","SourceInfo":{"SourceType":"Upload","SourceContext":"<ctx>","LiveRecordInfo":{"StreamId":"54xx_45"}}},"ProcedureTaskId":"p","MetaData":{"Size":12345678901234567891,"Duration":0.10,"VideoStreamSet":[{"Bitrate":1}]}}`},
		{"PullComplete",
			`{"status":0,"message":"","vodTaskId":"Pull-1","fileId":"145","fileUrl":"http://x/f0.flv","transcodeTaskId":"t"}`,
			`{"ErrCode":0,"Message":"","TaskId":"Pull-1","FileId":"145","FileUrl":"http://x/f0.flv","TranscodeTaskId":"t"}`},
		{"PullComplete", // as some pages of the documentation show it
			`{"TaskId":"Pull-1","ErrCode":0,"FileId":"145"}`, `{"TaskId":"Pull-1","ErrCode":0,"FileId":"145"}`},
		{event.FileDeleted, `{"status":0,"message":"","fileInfo":[{"fileId":"24961954183381008"},{"fileId":"2"}]}`, `{"FileIdSet":["24961954183381008","2"]}`},
		{event.ProcedureStateChanged,
			`{"vodTaskId":"1-x","status":"PROCESSING","message":"","errCode":0,"fileId":"145","metaData":{"audioStreamList":[{"codec":"aac"}]},
			"drm":{"definition":10},"contentReviewList":[{"taskType":"Porn","status":"SUCCESS","errCode":0,"output":{"confidence":98,"segments":[{"startTimeOffset":20}]}}],
			"processTaskList":[{"taskType":"Transcode","status":"SUCCESS","errCode":0,"input":{"definition":20},"output":{"url":"u","videoStreamList":[]}},
			{"taskType":"SampleSnapshot","status":"SUCCESS","output":{"imageUrls":["a"]}},{"taskType":"ImageSprites","output":{"urlList":["a"]}}]}`,
			`{"TaskId":"1-x","Status":"PROCESSING","Message":"","ErrCode":0,"FileId":"145","MetaData":{"AudioStreamSet":[{"Codec":"aac"}]},"Drm":{"Definition":10},
			"AiContentReviewResultSet":[{"Type":"Porn","PornTask":{"Status":"SUCCESS","ErrCode":0,"Output":{"Confidence":98,"SegmentSet":[{"StartTimeOffset":20}]}}}],"AiAnalysisResultSet":[],
			"MediaProcessResultSet":[{"Type":"Transcode","TranscodeTask":{"Status":"SUCCESS","ErrCode":0,"Input":{"Definition":20},"Output":{"Url":"u","VideoStreamSet":[]}}},
			{"Type":"SampleSnapshot","SampleSnapshotTask":{"Status":"SUCCESS","Output":{"ImageUrlSet":["a"]}}},{"Type":"ImageSprites","ImageSpriteTask":{"Output":{"ImageUrlSet":["a"]}}}]}`},
		{"TranscodeComplete",
			`{"status":0,"vodTaskId":"T-1","fileId":"145","playSet":[{"url":"u","definition":10,"vbitrate":149193,"vheight":240,"vwidth":320}]}`,
			`{"ErrCode":0,"TaskId":"T-1","FileId":"145","PlayInfoSet":[{"Url":"u","Definition":10,"Bitrate":149193,"Height":240,"Width":320}]}`},
		{"CreateSnapshotByTimeOffsetComplete",
			`{"vodTaskId":"C-1","fileId":"145","definition":10,"picInfo":[{"status":0,"timeOffset":10000,"url":"u"}]}`,
			`{"TaskId":"C-1","FileId":"145","Definition":10,"SnapshotInfoSet":[{"ErrCode":0,"TimeOffset":10000,"Url":"u"}]}`},
		{"CreateImageSpriteComplete",
			`{"status":0,"vodTaskId":"C-1","totalCount":106,"imageSpriteUrl":["u"],"webVttUrl":"v"}`,
			`{"ErrCode":0,"TaskId":"C-1","TotalCount":106,"ImageSpriteUrlSet":["u"],"WebVttUrl":"v"}`},
		{"ClipComplete",
			`{"vodTaskId":"C-1","srcFileId":"160","fileInfo":{"fileType":"mp4","status":0,"message":"","fileId":"145"}}`,
			`{"TaskId":"C-1","SrcFileId":"160","FileInfo":{"FileType":"mp4","ErrCode":0,"Message":"","FileId":"145"}}`},
		{"ConcatComplete",
			`{"vodTaskId":"C-1","fileInfo":[{"fileType":"m3u8","status":-1,"message":"bad","fileId":"145"}]}`,
			`{"TaskId":"C-1","FileInfoSet":[{"FileType":"m3u8","ErrCode":-1,"Message":"bad","FileId":"145"}]}`},
	} {
		for _, version := range []string{`"4.0"`, `4`} {
			original := `{"version":` + version + `,"eventType":"` + c.eventType + `","data":` + c.data + `}`
			status, text := ask(s, original)
			require.Equal(t, http.StatusOK, status, text)
			e := h.delivery().Event
			require.Equal(t, c.eventType, e.Type)
			require.JSONEq(t, c.want, string(e.Payload()), "%s", e.Raw)
			var all map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(e.Raw, &all))
			require.Equal(t, original, string(all[LegacyField]))
			require.Len(t, all, 3)
			if strings.Contains(c.want, "12345678901234567891") {
				require.Contains(t, string(e.Payload()), "12345678901234567891", "numbers keep their text")
				require.Contains(t, string(e.Payload()), "0.10")
				require.Contains(t, string(e.Payload()), "<ctx>")
			}
		}
	}
}

func TestOtherLegacyNotificationsStayAsTheyCame(t *testing.T) {
	cfg := testConfig()
	cfg.Legacy, cfg.SignKey = true, testKey
	h := &recorder{}
	s := receiver(t, cfg, nil, h)
	for _, body := range []string{
		`{"version":"4.0","eventType":"PornCheckComplete","data":{"status":0,"a":1}}`,
		`{"version":"4.0","eventType":"ClipComplete","data":["a"]}`,
		`{"version":"4.0","eventType":"ClipComplete","data":null}`,
		`{"version":"4.0","eventType":"ClipComplete"}`,
	} {
		eventType := strings.Split(body, `"`)[7]
		status, text := ask(s, signed(t, body, testKey, time.Minute))
		require.Equal(t, http.StatusOK, status, text)
		e := h.delivery().Event
		require.Equal(t, eventType, e.Type)
		require.Equal(t, `{"EventType":"`+eventType+`",`+body[1:], string(e.Raw))
	}
	// What is not v2.0 is not taken for it.
	status, _ := ask(s, signed(t, `{"version":"5","eventType":"ClipComplete","data":{}}`, testKey, time.Minute))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, event.Unknown, h.delivery().Type)
	// One event posted twice is one event.
	for range 2 {
		_, _ = ask(s, signed(t, `{"version":4,"eventType":"ClipComplete","data":{"vodTaskId":"x"}}`, testKey, time.Minute))
	}
	require.Equal(t, 2, h.handled[h.delivery().ID])
}
