package pipeline

import (
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// lenient is how events are read, see package event.
var lenient = []jsonv2.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

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
