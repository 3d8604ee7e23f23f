package emulator

import (
	"bytes"
	"fmt"
	"time"
)

// padded are the free texts that grow when an event is to have a certain size.
var padded = [][]byte{[]byte(`"Description":"`), []byte(`"SessionContext":"`)}

// event makes one event with at least size bytes, if its type has a free text.
// Fields follow the API's data structures; all names and addresses are made up.
func (g *generator) event(t eventType, i, size int) []byte {
	b := make([]byte, 0, 1600)
	b = fmt.Appendf(b, `{"EventType":"%s","%s":`, t.name, t.field)
	b = append(g.payload(b, t, i), '}')
	if missing := size - len(b); missing > 0 {
		for _, field := range padded {
			if at := bytes.Index(b, field); at >= 0 {
				at += len(field)
				return append(append(append(make([]byte, 0, size), b[:at]...), bytes.Repeat([]byte{'x'}, missing)...), b[at:]...)
			}
		}
	}
	return b
}

func (g *generator) payload(b []byte, t eventType, i int) []byte {
	id := g.fileID(i)
	switch t.name {
	case "NewFileUpload":
		b = fmt.Appendf(b, `{"FileId":"%s",`, id)
		b = g.media(b, i, id)
		return append(b, `,"ProcedureTaskId":"","ReviewAudioVideoTaskId":""}`...)
	case "PullComplete":
		b = fmt.Appendf(b, `{"TaskId":"%s","Status":"FINISH","ErrCode":0,"Message":"SUCCESS","FileId":"%s",`, g.taskID("Pull", id), id)
		b = g.media(b, i, id)
		return fmt.Appendf(b, `,"FileUrl":"https://example.com/%s.mp4","ProcedureTaskId":"","ReviewAudioVideoTaskId":"","SessionContext":"","SessionId":"","Progress":100}`, g.hex(16))
	case "FileDeleted":
		return fmt.Appendf(b, `{"FileIdSet":["%s"],"FileDeleteResultInfo":[{"FileId":"%s","DeleteParts":[]}]}`, id, id)
	case "ProcedureStateChanged":
		return g.procedure(b, id)
	case "PersistenceComplete":
		return fmt.Appendf(b, `{"FileId":"%s"}`, id)
	case "RestoreMediaComplete": // its Status is a number, unlike all others
		return fmt.Appendf(b, `{"FileId":"%s","OriginalStorageClass":"ARCHIVE","TargetStorageClass":"STANDARD","RestoreTier":"Standard","RestoreDay":3,"Status":0,"Message":""}`, id)
	case "MediaCastStatusChanged":
		return fmt.Appendf(b, `{"CastId":"%s","Status":"%s"}`, g.hex(20), g.pick("Working", "Idle", "Stopped"))
	case "ProcessImageAsyncCompleteEvent": // nothing in it identifies it
		return append(b, `{"EncodeConfig":{"Format":"webp","Quality":80},"EnhanceConfig":null,"BeautyConfig":null}`...)
	case "TranscodeComplete":
		return fmt.Appendf(b, `{"TaskId":"%s","ErrCode":0,"Message":"SUCCESS","FileId":"%s","FileName":"clip-%05d","Duration":%d,"CoverUrl":"","PlayInfoSet":[]}`,
			g.taskID("Transcode", id), id, i, 1+g.random.IntN(3600))
	case TypeUnknown:
		return fmt.Appendf(b, `{"TaskId":"%s","FileId":"%s","Big":9007199254740993,"Bigger":12345678901234567891,"Exact":0.10,"Exponent":1e21,`+
			`"Text":"<b>&\u2028 `+"\u2028 \U0001F3AC"+`","Nested":{"List":[null,true,{}]},"SessionContext":""}`, g.taskID("Unknown", id), id)
	}
	return fmt.Appendf(b, `{"TaskId":"%s","Status":"FINISH","ErrCode":0,"ErrCodeExt":"","Message":"SUCCESS","FileId":"%s",`+
		`"Input":{"FileId":"%s"},"Output":{"FileType":"mp4","FileId":"%s","FileUrl":"https://example.com/%s/out.mp4"},"SessionId":"","SessionContext":""}`,
		g.taskID("Task", id), id, id, id, g.hex(32))
}

// media appends MediaBasicInfo and MetaData.
func (g *generator) media(b []byte, i int, id string) []byte {
	created := g.start.Add(time.Duration(i) * time.Second)
	host := fmt.Sprintf("%010d.vod2.example.com", 1_250_000_000+g.random.IntN(1_000_000))
	path := g.hex(32) + "/" + id + "/" + g.hex(12)
	kind := g.pick("mp4", "mp4", "mov", "flv", "mkv")
	b = fmt.Appendf(b, `"MediaBasicInfo":{"Name":"%s %05d","Description":"","CreateTime":"%s","UpdateTime":"%s","ExpireTime":"9999-12-31T23:59:59Z",`+
		`"ClassId":0,"ClassName":"Other","ClassPath":"Other","CoverUrl":"http://%s/%s_cover.jpg","Type":"%s","MediaUrl":"http://%s/%s.%s",`,
		g.pick("Animal World", "Morning News", "Lesson", "Launch & Demo", "\u4f1a\u8bae\u5f55\u50cf", "caf\u00e9 \U0001F3AC"), i,
		created.Format(time.RFC3339), created.Add(2*time.Second).Format(time.RFC3339), host, path, kind, host, path, kind)
	b = fmt.Appendf(b, `"SourceInfo":{"SourceType":"Upload","SourceContext":"{\"user\":%d,\"trace\":\"%s\"}","LiveRecordInfo":null,"TrtcRecordInfo":null,"WebPageRecordInfo":null},`,
		g.random.IntN(1_000_000), g.hex(32))
	b = fmt.Appendf(b, `"StorageRegion":"%s","StoragePath":"/","TagSet":["emulator","%s"],"Vid":"","Category":"Video","Status":"Normal","StorageClass":"STANDARD"},`,
		g.pick("ap-guangzhou-2", "ap-chongqing", "ap-singapore"), g.pick("draft", "public", "archive"))
	seconds := 1 + g.random.IntN(7200)
	video, audio := 800_000+g.random.IntN(4_000_000), 128_000
	return fmt.Appendf(b, `"MetaData":{"Size":%d,"Container":"mov,mp4,m4a,3gp,3g2,mj2","Bitrate":%d,"Height":1080,"Width":1920,"Duration":%d.%02d,"Rotate":0,`+
		`"VideoStreamSet":[{"Bitrate":%d,"Height":1080,"Width":1920,"Codec":"h264","Fps":25,"CodecTag":"avc1","DynamicRangeInfo":{"Type":"SDR","HDRType":""}}],`+
		`"AudioStreamSet":[{"Bitrate":%d,"SamplingRate":48000,"Codec":"aac"}],"VideoDuration":%d.0,"AudioDuration":%d.0,"Md5":"%s"}`,
		int64(seconds)*int64(video+audio)/8, video+audio, seconds, g.random.IntN(100), video, audio, seconds, seconds, g.hex(32))
}

// procedure appends a finished task flow, whose single tasks may have failed.
func (g *generator) procedure(b []byte, id string) []byte {
	task := g.taskID("Procedure", id)
	status, code, message := "SUCCESS", 0, "SUCCESS"
	if g.random.IntN(10) == 0 {
		status, code, message = "FAIL", 60000, "Source file is damaged."
	}
	return fmt.Appendf(b, `{"TaskId":"%s","Status":"FINISH","ErrCode":0,"Message":"SUCCESS","FileId":"%s","FileName":"clip","FileUrl":"http://example.com/%s.mp4","MetaData":null,`+
		`"MediaProcessResultSet":[{"Type":"Transcode","TranscodeTask":{"Status":"%s","ErrCode":%d,"ErrCodeExt":"","Message":"%s","Progress":100,`+
		`"Input":{"Definition":100030},"Output":{"Url":"http://example.com/%s/v.f100030.mp4","Size":%d,"Container":"mp4","Definition":100030,"Duration":%d.5}}}],`+
		`"AiContentReviewResultSet":[],"AiAnalysisResultSet":[],"AiRecognitionResultSet":[],"TasksPriority":0,"TasksNotifyMode":"Finish","SessionContext":"","SessionId":"","Operator":"","OperationType":""}`,
		task, id, g.hex(32), status, code, message, g.hex(32), 1_000_000+g.random.IntN(100_000_000), 1+g.random.IntN(3600))
}
