package emulator

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGenerateUploads(t *testing.T) {
	const n = 3000
	ids := make(map[string]bool)
	above := 0
	for _, raw := range GenerateUploads(n, 1) {
		require.InDelta(t, 1500, len(raw), 250)
		var e struct {
			EventType       string
			FileUploadEvent struct {
				FileId         string
				MediaBasicInfo struct{ Name, MediaUrl string }
				MetaData       struct{ Duration float64 }
			}
		}
		require.NoError(t, json.Unmarshal(raw, &e))
		require.Equal(t, "NewFileUpload", e.EventType)
		id := e.FileUploadEvent.FileId
		require.True(t, len(id) == 19 || len(id) == 20, id)
		_, err := strconv.ParseUint(id, 10, 64)
		require.NoError(t, err)
		if _, err := strconv.ParseInt(id, 10, 64); err != nil {
			above++
		}
		ids[id] = true
		require.NotEmpty(t, e.FileUploadEvent.MediaBasicInfo.Name)
		require.Contains(t, e.FileUploadEvent.MediaBasicInfo.MediaUrl, id)
		require.NotZero(t, e.FileUploadEvent.MetaData.Duration)
	}
	require.Len(t, ids, n)
	require.Equal(t, n/3, above)
	require.Equal(t, GenerateUploads(5, 2), GenerateUploads(5, 2))
	for _, raw := range GenerateUploads(n, 2) {
		var e struct{ FileUploadEvent struct{ FileId string } }
		require.NoError(t, json.Unmarshal(raw, &e))
		require.False(t, ids[e.FileUploadEvent.FileId])
	}
}

func TestGenerateAllTypes(t *testing.T) {
	list, err := Generate(Generation{Count: 74, Seed: 1, Types: []string{TypesAll}})
	require.NoError(t, err)
	seen := make(map[string]int)
	for _, raw := range list {
		var e map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &e), string(raw))
		require.Len(t, e, 2)
		var name string
		require.NoError(t, json.Unmarshal(e["EventType"], &name))
		seen[name]++
		_, err := prepare(raw, NullsAbsent)
		require.NoError(t, err)
	}
	for _, name := range append(EventTypes(), TypeUnknown) {
		require.Equal(t, 2, seen[name], name)
	}
	require.Len(t, EventTypes(), 36)
}

func TestGenerateSize(t *testing.T) {
	for _, name := range []string{"NewFileUpload", "EditMediaComplete", TypeUnknown} {
		list, err := Generate(Generation{Count: 2, Size: 9000, Types: []string{name}})
		require.NoError(t, err)
		for _, raw := range list {
			require.Len(t, raw, 9000)
			require.True(t, json.Valid(raw))
		}
	}
	for _, g := range []Generation{{Count: -1}, {Count: MaxGenerated + 1}, {Size: -1}, {Count: MaxGenerated, Size: MaxGeneratedSize}, {Types: []string{"x"}}} {
		_, err := Generate(g)
		require.ErrorContains(t, err, "generate")
	}
	require.Panics(t, func() { GenerateUploads(-1, 0) })
}

func TestSamples(t *testing.T) {
	for _, name := range Samples() {
		content, err := Sample(name)
		require.NoError(t, err)
		require.NotContains(t, string(content), "EventHandle")
		file, err := os.ReadFile("samples/" + name + ".json")
		require.NoError(t, err)
		i := strings.Index(string(file), `"EventType"`)
		require.Contains(t, string(file[i:]), strings.TrimRight(string(content[strings.Index(string(content), `"FileUploadEvent"`):]), "\n}"))
		var e struct{ FileUploadEvent struct{ FileId string } }
		require.NoError(t, json.Unmarshal(content, &e))
		require.Equal(t, "5285890784273533167", e.FileUploadEvent.FileId)
	}
	_, err := Sample("x")
	require.ErrorContains(t, err, SampleNormal)
}
