package event

// Unknown is the Type of a notification that names none, and whose payload does not tell it either.
const Unknown = "unknown"

// The event types that vodrelay's own code names. Every other type travels the same way; see PayloadFields.
const (
	NewFileUpload         = "NewFileUpload"
	ProcedureStateChanged = "ProcedureStateChanged"
	FileDeleted           = "FileDeleted"
)

// payloadFields maps each documented EventType to the field of EventContent that holds its payload. The
// names are irregular, so none can be derived from the other. Source: the field comments of EventContent
// in tencentcloud-sdk-go vod/v20180717 v1.3.166. The list is never complete: new types appear every few
// weeks, and nothing may depend on finding a type here.
var payloadFields = map[string]string{
	NewFileUpload:                                  "FileUploadEvent",
	ProcedureStateChanged:                          "ProcedureStateChangeEvent",
	FileDeleted:                                    "FileDeleteEvent",
	"PullComplete":                                 "PullCompleteEvent",
	"EditMediaComplete":                            "EditMediaCompleteEvent",
	"SplitMediaComplete":                           "SplitMediaCompleteEvent",
	"ComposeMediaComplete":                         "ComposeMediaCompleteEvent",
	"ClipComplete":                                 "ClipCompleteEvent",
	"TranscodeComplete":                            "TranscodeCompleteEvent",
	"CreateImageSpriteComplete":                    "CreateImageSpriteCompleteEvent",
	"ConcatComplete":                               "ConcatCompleteEvent",
	"CreateSnapshotByTimeOffsetComplete":           "SnapshotByTimeOffsetCompleteEvent",
	"WechatPublishComplete":                        "WechatPublishCompleteEvent",
	"WechatMiniProgramPublishComplete":             "WechatMiniProgramPublishCompleteEvent",
	"RemoveWatermark":                              "RemoveWatermarkCompleteEvent",
	"RestoreMediaComplete":                         "RestoreMediaCompleteEvent",
	"RebuildMediaComplete":                         "RebuildMediaCompleteEvent",
	"ExtractTraceWatermarkComplete":                "ExtractTraceWatermarkCompleteEvent",
	"ExtractCopyRightWatermarkComplete":            "ExtractCopyRightWatermarkCompleteEvent",
	"ReviewAudioVideoComplete":                     "ReviewAudioVideoCompleteEvent",
	"ReduceMediaBitrateComplete":                   "ReduceMediaBitrateCompleteEvent",
	"DescribeFileAttributesComplete":               "DescribeFileAttributesCompleteEvent",
	"QualityInspectComplete":                       "QualityInspectCompleteEvent",
	"QualityEnhanceComplete":                       "QualityEnhanceCompleteEvent",
	"MediaCastStatusChanged":                       "MediaCastStatusChangedEvent",
	"PersistenceComplete":                          "PersistenceCompleteEvent",
	"ComplexAdaptiveDynamicStreamingComplete":      "ComplexAdaptiveDynamicStreamingCompleteEvent",
	"ProcessMediaByMPSComplete":                    "ProcessMediaByMPSCompleteEvent",
	"AigcImageTaskComplete":                        "AigcImageCompleteEvent",
	"AigcVideoTaskComplete":                        "AigcVideoCompleteEvent",
	"ExtractBlindWatermarkComplete":                "ExtractBlindWatermarkComplete",
	"SceneAigcImageCompleteEvent":                  "SceneAigcImageCompleteEvent",
	"ProcessImageAsyncCompleteEvent":               "ProcessImageAsyncCompleteEvent",
	"CreateAigcAdvancedCustomElementCompleteEvent": "CreateAigcAdvancedCustomElementCompleteEvent",
	"CreateAigcCustomVoiceCompleteEvent":           "CreateAigcCustomVoiceCompleteEvent",
	"DescribeAigcFaceInfoAsyncComplete":            "DescribeAigcFaceInfoAsyncCompleteEvent",
}

// payloadTypes maps each field that holds a payload to its EventType, under the name of the SDK and under the older one
// that several pages of VOD's documentation have, which is the type itself: WechatPublishComplete in
// https://intl.cloud.tencent.com/document/product/266/33955, EditMediaComplete in .../266/33958.
var payloadTypes = func() map[string]string {
	types := make(map[string]string, 2*len(payloadFields))
	for eventType := range payloadFields {
		types[eventType] = eventType
	}
	for eventType, field := range payloadFields {
		types[field] = eventType
	}
	return types
}()

// PayloadFields returns the documented event types, each with the field of EventContent that holds its
// payload. The map is the caller's own.
func PayloadFields() map[string]string {
	fields := make(map[string]string, len(payloadFields))
	for eventType, field := range payloadFields {
		fields[eventType] = field
	}
	return fields
}

// Known reports whether the event type is documented, or Unknown. The others come from outside: whatever tells them
// apart needs a bound.
func Known(eventType string) bool { return eventType == Unknown || Documented(eventType) }

// Documented reports whether the event type is one of PayloadFields.
func Documented(eventType string) bool {
	_, ok := payloadFields[eventType]
	return ok
}
