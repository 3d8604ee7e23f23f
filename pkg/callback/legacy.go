package callback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// LegacyField is the field of a translated notification that holds the original, every byte of its values.
const LegacyField = "LegacyNotification"

// legacy is a notification in the v2.0 format: version "4.0" (or 4), eventType and data.
// Source: https://www.tencentcloud.com/document/product/266/33962.
type legacy struct {
	eventType string
	data      []byte // JSON, nil if there is none
	original  []byte
}

// readLegacy returns nil for anything else.
func readLegacy(members []field, original []byte) *legacy {
	l := &legacy{original: original}
	versioned := false
	for _, f := range members {
		switch f.name {
		case "version":
			v := f.text()
			versioned = v == "4.0" || v == "4"
		case "eventType":
			l.eventType = f.text()
		case "data":
			l.data = f.value
		}
	}
	if !versioned || l.eventType == "" {
		return nil
	}
	return l
}

// content is the notification in the v3.0 format. One of a type that is not documented for v2.0, or whose
// data is no object, stays as it came, with EventType before it.
func (l *legacy) content() ([]byte, error) {
	eventType, err := json.Marshal(l.eventType)
	if err != nil {
		return nil, err
	}
	translate, documented := legacyTypes[l.eventType]
	var data map[string]any
	if documented {
		dec := json.NewDecoder(bytes.NewReader(l.data))
		dec.UseNumber() // a number keeps its text
		documented = dec.Decode(&data) == nil && data != nil
	}
	if !documented {
		return append(fmt.Appendf(nil, `{"EventType":%s,`, eventType), bytes.TrimSpace(l.original)[1:]...), nil
	}
	payload, err := marshal(translate(data))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"EventType":%s,"%s":%s,"%s":%s}`, eventType, event.PayloadFields()[l.eventType], payload, LegacyField, l.original), nil
}

func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(out.Bytes()), err
}

// object is a JSON object; names that are absent read as nil, which is left out of the translation.
type object = map[string]any

// legacyTypes translate the data of each documented type. The results follow FileUploadTask, ProcedureTask
// and so on in tencentcloud-sdk-go vod/v20180717.
var legacyTypes = map[string]func(data object) object{
	event.NewFileUpload: func(d object) object {
		upload := object{"FileId": d["fileId"], "ProcedureTaskId": d["procedureTaskId"]}
		source := object{"SourceType": d["sourceType"], "SourceContext": d["sourceContext"]}
		if t := d["sourceType"]; t == "ClientUpload" || t == "ServerUpload" {
			source["SourceType"] = "Upload"
		}
		if d["streamId"] != nil && d["streamId"] != "" {
			source["LiveRecordInfo"] = object{"StreamId": d["streamId"]}
		}
		upload["MediaBasicInfo"] = object{"Name": d["fileName"], "CoverUrl": d["coverUrl"], "MediaUrl": d["fileUrl"], "SourceInfo": source}
		if d["metaData"] != nil {
			upload["MetaData"] = rename(d["metaData"], nil)
		}
		return upload
	},
	event.FileDeleted: func(d object) object {
		ids := []any{}
		files, _ := d["fileInfo"].([]any)
		for _, f := range files {
			if file, ok := f.(object); ok && file["fileId"] != nil {
				ids = append(ids, file["fileId"])
			}
		}
		return object{"FileIdSet": ids}
	},
	event.ProcedureStateChanged: func(d object) object {
		task := plain(nil)(without(d, "processTaskList", "contentReviewList", "aIAnalysisList"))
		task["MediaProcessResultSet"] = results(d["processTaskList"])
		task["AiContentReviewResultSet"] = results(d["contentReviewList"])
		task["AiAnalysisResultSet"] = results(d["aIAnalysisList"])
		return task
	},
	"PullComplete":                       plain(nil),
	"ClipComplete":                       plain(nil),
	"TranscodeComplete":                  plain(names{"playSet": "PlayInfoSet", "vbitrate": "Bitrate", "vheight": "Height", "vwidth": "Width"}),
	"CreateSnapshotByTimeOffsetComplete": plain(names{"picInfo": "SnapshotInfoSet"}),
	"CreateImageSpriteComplete":          plain(names{"imageSpriteUrl": "ImageSpriteUrlSet"}),
	"ConcatComplete":                     plain(names{"fileInfo": "FileInfoSet"}),
}

// names are those of v3.0 that are not the v2.0 name with a capital letter.
type names map[string]string

// commonNames are the same wherever they stand.
var commonNames = names{"vodTaskId": "TaskId", "videoStreamList": "VideoStreamSet", "audioStreamList": "AudioStreamSet"}

// plain translates names only.
func plain(special names) func(object) object {
	return func(d object) object {
		renamed, _ := rename(d, special).(object)
		return renamed
	}
}

// rename gives every field below v its v3.0 name. A status that is a number is what v3.0 calls ErrCode.
func rename(v any, special names) any {
	switch v := v.(type) {
	case object:
		renamed := make(object, len(v))
		for name, value := range v {
			if value == nil {
				continue
			}
			to, ok := special[name]
			if !ok {
				to, ok = commonNames[name]
			}
			if _, number := value.(json.Number); !ok && number && name == "status" {
				to, ok = "ErrCode", true
			}
			if !ok {
				to = capital(name)
			}
			renamed[to] = rename(value, special)
		}
		return renamed
	case []any:
		for i := range v {
			v[i] = rename(v[i], special)
		}
	}
	return v
}

func capital(name string) string {
	first, size := utf8.DecodeRuneInString(name)
	if !unicode.IsLower(first) {
		return name
	}
	return string(unicode.ToUpper(first)) + name[size:]
}

func without(d object, drop ...string) object {
	rest := make(object, len(d))
	for name, value := range d {
		rest[name] = value
	}
	for _, name := range drop {
		delete(rest, name)
	}
	return rest
}

// results wraps each result of a task flow into its type, as v3.0 has it: {"Type":"Transcode",
// "TranscodeTask":{...}}.
func results(list any) []any {
	wrapped := []any{}
	items, _ := list.([]any)
	for _, item := range items {
		task, ok := item.(object)
		kind, _ := task["taskType"].(string)
		if !ok || kind == "" {
			continue // it is in the original
		}
		name := kind
		switch kind { // their lists are plural in v2.0
		case "AnimatedGraphics", "ImageSprites":
			name = strings.TrimSuffix(kind, "s")
		}
		wrapped = append(wrapped, object{"Type": kind, name + "Task": rename(without(task, "taskType"), outputNames)})
	}
	return wrapped
}

// outputNames are those in the results of a task flow.
var outputNames = names{
	"imageUrls": "ImageUrlSet", "urlList": "ImageUrlSet", "imgInfo": "PicInfoSet",
	"segments": "SegmentSet", "classifications": "ClassificationSet", "tags": "TagSet",
}
