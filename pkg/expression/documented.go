package expression

import (
	"github.com/expr-lang/expr/types"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// The payloads that expressions are checked against, as far as they are documented.
// Source: the structures of the same names in tencentcloud-sdk-go vod/v20180717 v1.3.166.
var (
	fileUpload = types.Map{
		"FileId":                 types.String,
		"MediaBasicInfo":         mediaBasicInfo,
		"ProcedureTaskId":        types.String,
		"ReviewAudioVideoTaskId": types.String,
		"MetaData":               mediaMetaData,
	}
	mediaBasicInfo = types.Map{
		"Name":          types.String,
		"Description":   types.String,
		"CreateTime":    types.String,
		"UpdateTime":    types.String,
		"ExpireTime":    types.String,
		"ClassId":       types.Int,
		"ClassName":     types.String,
		"ClassPath":     types.String,
		"CoverUrl":      types.String,
		"Type":          types.String,
		"MediaUrl":      types.String,
		"SourceInfo":    mediaSource,
		"StorageRegion": types.String,
		"StoragePath":   types.String,
		"TagSet":        types.Array(types.String),
		"Vid":           types.String,
		"Category":      types.String,
		"Status":        types.String,
		"StorageClass":  types.String,
	}
	mediaSource = types.Map{
		"SourceType":    types.String,
		"SourceContext": types.String,
		"LiveRecordInfo": types.Map{
			"Domain":          types.String,
			"Path":            types.String,
			"StreamId":        types.String,
			"RecordStartTime": types.String,
			"RecordEndTime":   types.String,
		},
		"TrtcRecordInfo": types.Map{
			"SdkAppId": types.Int,
			"RoomId":   types.String,
			"TaskId":   types.String,
			"UserIds":  types.Array(types.String),
		},
		"WebPageRecordInfo": types.Map{
			"RecordUrl":    types.String,
			"RecordTaskId": types.String,
		},
	}
	mediaMetaData = types.Map{
		"Size":      types.Int,
		"Container": types.String,
		"Bitrate":   types.Int,
		"Height":    types.Int,
		"Width":     types.Int,
		"Duration":  types.Float64,
		"Rotate":    types.Int,
		"VideoStreamSet": types.Array(types.Map{
			"Bitrate":  types.Int,
			"Height":   types.Int,
			"Width":    types.Int,
			"Codec":    types.String,
			"Fps":      types.Int,
			"CodecTag": types.String,
			"DynamicRangeInfo": types.Map{
				"Type":    types.String,
				"HDRType": types.String,
			},
		}),
		"AudioStreamSet": types.Array(types.Map{
			"Bitrate":      types.Int,
			"SamplingRate": types.Int,
			"Codec":        types.String,
		}),
		"VideoDuration": types.Float64,
		"AudioDuration": types.Float64,
		"Md5":           types.String,
	}
	fileDelete = types.Map{
		"FileIdSet": types.Array(types.String),
		"FileDeleteResultInfo": types.Array(types.Map{
			"FileId": types.String,
			"DeleteParts": types.Array(types.Map{
				"Type":       types.String,
				"Definition": types.Int,
			}),
		}),
	}
	procedureStateChange = types.Map{
		"TaskId":                   types.String,
		"Status":                   types.String,
		"ErrCode":                  types.Int,
		"Message":                  types.String,
		"FileId":                   types.String,
		"FileName":                 types.String,
		"FileUrl":                  types.String,
		"MetaData":                 mediaMetaData,
		"MediaProcessResultSet":    types.Array(types.Any),
		"AiContentReviewResultSet": types.Array(types.Any),
		"AiAnalysisResultSet":      types.Array(types.Any),
		"AiRecognitionResultSet":   types.Array(types.Any),
		"TasksPriority":            types.Int,
		"TasksNotifyMode":          types.String,
		"SessionContext":           types.String,
		"SessionId":                types.String,
		"Operator":                 types.String,
		"OperationType":            types.String,
	}
	pullComplete = types.Map{
		"TaskId":                 types.String,
		"Status":                 types.String,
		"ErrCode":                types.Int,
		"Message":                types.String,
		"FileId":                 types.String,
		"MediaBasicInfo":         mediaBasicInfo,
		"MetaData":               mediaMetaData,
		"FileUrl":                types.String,
		"ProcedureTaskId":        types.String,
		"ReviewAudioVideoTaskId": types.String,
		"SessionContext":         types.String,
		"SessionId":              types.String,
		"Progress":               types.Int,
	}
)

// documented is what an expression can name, with the types that VOD documents.
var documented = func() types.Map {
	names := types.Map{
		"type":       types.String,
		"id":         types.String,
		"sub_app_id": types.Int,
		"subject":    types.String,
		"payload":    types.Any,
		"event":      types.Any,
	}
	for _, field := range event.PayloadFields() {
		names[field] = types.Any
	}
	names["FileUploadEvent"] = fileUpload
	names["FileDeleteEvent"] = fileDelete
	names["ProcedureStateChangeEvent"] = procedureStateChange
	names["PullCompleteEvent"] = pullComplete
	return names
}()

// undocumented has the same names without types: what is checked against the documentation must still run
// on whatever VOD sends.
var undocumented = func() types.Map {
	names := make(types.Map, len(documented)+1)
	for name := range documented {
		names[name] = types.Any
	}
	names[meterName] = types.Any
	return names
}()
