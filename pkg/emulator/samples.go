package emulator

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

// The names of the documented notifications.
const (
	// SampleNormal is the body of a normal callback
	// (https://cloud.tencent.com/document/product/266/7830).
	SampleNormal = "normal-callback"
	// SampleReliable is the event of a PullEvents answer
	// (https://cloud.tencent.com/document/api/266/33433), without its handle.
	SampleReliable = "reliable-callback"
)

//go:embed samples/normal-callback.json
var normalCallback []byte

//go:embed samples/reliable-callback.json
var reliableCallback []byte

// Samples returns the names that Sample knows.
func Samples() []string { return []string{SampleNormal, SampleReliable} }

// Sample returns the content of a documented NewFileUpload event, every byte
// of its values as documented, ready for Publish.
func Sample(name string) (json.RawMessage, error) {
	switch name {
	case SampleNormal:
		return append(json.RawMessage(nil), normalCallback...), nil
	case SampleReliable:
		var answer struct {
			Response struct{ EventSet []json.RawMessage }
		}
		if err := json.Unmarshal(reliableCallback, &answer); err != nil {
			return nil, fmt.Errorf("sample %s: %w", name, err)
		}
		return withoutHandle(answer.Response.EventSet[0]), nil
	}
	return nil, fmt.Errorf("sample: %q, write one of %v", name, Samples())
}
