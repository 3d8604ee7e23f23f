package kafka

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// By default the delete of a file goes to the partition of its upload, so that it cannot overtake it there.
func TestADeleteFollowsItsUpload(t *testing.T) {
	c := startCluster(t, kfake.SeedTopics(16, "files"))
	s := open(t, c, func(cfg *Config) { cfg.Topic = "files" })
	const files = 20
	for i := range files {
		for _, content := range []string{
			`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"file-%d"}}`,
			`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":["file-%d"]}}`,
		} {
			e, _, err := event.Decode(fmt.Appendf(nil, content, i), 1)
			require.NoError(t, err)
			require.NoError(t, send(t, s, e))
		}
	}
	partitions, used := map[string]int32{}, map[int32]bool{}
	records := c.records(t, "files")
	require.Len(t, records, 2*files)
	for _, r := range records {
		used[r.Partition] = true
		if before, ok := partitions[string(r.Key)]; ok {
			require.Equal(t, before, r.Partition)
		}
		partitions[string(r.Key)] = r.Partition
	}
	require.Len(t, partitions, files)
	require.Greater(t, len(used), 1)
}
