package event

import (
	"encoding/json"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// Payload is the part of Raw that describes what happened: the field documented for the event's type, or the one that is
// named like the type, as in older documentation, or the only field that is an object. It is `null` when there is none,
// and shares memory with Raw.
func (e Event) Payload() json.RawMessage {
	want := payloadFields[e.Type]
	var older, only jsontext.Value
	objects := 0
	for name, value := range members(e.Raw) {
		switch {
		case value.Kind() != '{':
			continue
		case want != "" && is(name, want):
			return json.RawMessage(value)
		case older == nil && is(name, e.Type):
			older = value
		}
		only = value
		objects++
	}
	switch {
	case older != nil:
		return json.RawMessage(older)
	case objects == 1:
		return json.RawMessage(only)
	}
	return json.RawMessage("null")
}

// FileUpload is the payload of NewFileUpload, as far as it is documented; the event's Raw has all of it.
// VOD may leave out or null any field, MetaData above all. IDs are decimal texts that can exceed an int64.
// Source: FileUploadTask in tencentcloud-sdk-go vod/v20180717 v1.3.166.
type FileUpload struct {
	FileId                 string //nolint:revive // the API's own name
	MediaBasicInfo         MediaBasicInfo
	ProcedureTaskId        string //nolint:revive // the API's own name
	ReviewAudioVideoTaskId string //nolint:revive // the API's own name
	MetaData               *MediaMetaData
}

// MediaBasicInfo describes an uploaded file. Times are ISO 8601; ExpireTime 9999-12-31T23:59:59Z is never.
type MediaBasicInfo struct {
	Name, Description          string
	CreateTime, UpdateTime     string
	ExpireTime                 string
	ClassId                    int64 //nolint:revive // the API's own name
	ClassName, ClassPath       string
	CoverUrl                   string //nolint:revive // the API's own name
	Type                       string // container, such as mp4
	MediaUrl                   string //nolint:revive // the API's own name
	SourceInfo                 *MediaSource
	StorageRegion, StoragePath string
	TagSet                     []string
	Vid                        string
	Category                   string // Video, Audio or Image
	Status                     string // Normal or Forbidden
	StorageClass               string // STANDARD, STANDARD_IA, ARCHIVE or DEEP_ARCHIVE
}

// MediaSource tells how a file came to VOD. SourceContext is what the uploader passed through.
type MediaSource struct {
	SourceType    string // Record, Upload, VideoProcessing, TrtcRecord, WebPageRecord or Unknown
	SourceContext string
}

// MediaMetaData is what VOD found in a file. Sizes are bytes, bit rates bit/s, durations seconds.
type MediaMetaData struct {
	Size                         int64
	Container                    string
	Bitrate                      int64
	Height, Width, Rotate        int64
	Duration                     float64
	VideoDuration, AudioDuration float64
	Md5                          string
}

// FileUpload is the typed view of a NewFileUpload event, decoded at each call. It fails for every other
// type, and for a payload that does not have the documented types.
func (e Event) FileUpload() (FileUpload, error) {
	var upload FileUpload
	if e.Type != NewFileUpload {
		return upload, fmt.Errorf("event %s is of type %s, not %s", e.ID, e.Type, NewFileUpload)
	}
	if err := json.Unmarshal(e.Payload(), &upload); err != nil {
		return upload, fmt.Errorf("event %s: FileUploadEvent is not as documented: %w", e.ID, err)
	}
	return upload, nil
}
