//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// Events as VOD's documentation has them: one without EventType, one with an older name of its payload's field, and a
// delete of one file.
func TestEventsAsTheyReallyAre(t *testing.T) {
	t.Parallel()
	cloud, environ := startEmulator(t, emulator.Options{})
	out := filepath.Join(t.TempDir(), "events.jsonl")
	d := startDaemon(t, environ, fmt.Sprintf(`sinks:
  - {type: file, path: %s, format: cloudevents, when: 'type in ["ComposeMediaComplete", "WechatPublishComplete", "FileDeleted"] and (payload.Status == "FINISH" or subject == "7")'}
`, out))
	cloud.Publish(testApp,
		json.RawMessage(`{"ComposeMediaCompleteEvent":{"TaskId":"t1","Status":"FINISH"}}`),
		json.RawMessage(`{"EventType":"WechatPublishComplete","WechatPublishComplete":{"TaskId":"t2","FileId":"6","Status":"FINISH"},"FileUploadEvent":null}`),
		json.RawMessage(`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["7"]}}`))
	eventually(t, "all are written", func() bool { return count(out) == 3 })
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	subjects := map[string]string{}
	for line := range strings.Lines(string(data)) {
		var ce struct{ Type, Subject string }
		require.NoError(t, json.Unmarshal([]byte(line), &ce))
		subjects[strings.TrimPrefix(ce.Type, "com.tencentcloud.vod.")] = ce.Subject
	}
	require.Equal(t, map[string]string{"ComposeMediaComplete": "t1", "WechatPublishComplete": "6", "FileDeleted": "7"}, subjects)
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}
