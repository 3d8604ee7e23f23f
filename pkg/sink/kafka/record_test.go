package kafka

import (
	"encoding/json"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestRecord(t *testing.T) {
	c := startCluster(t, kfake.SeedTopics(1, "uploads", "others"))
	s := open(t, c, func(cfg *Config) {
		cfg.Topic, cfg.TopicExpression = "", `type == "NewFileUpload" ? "uploads" : type == "Bad" ? "a b" : "others"`
		cfg.Headers = map[string]string{"tenant": "7"}
		cfg.Compression = "zstd"
	})
	e := sinktest.Upload(1)
	require.NoError(t, send(t, s, e))
	records := c.records(t, "uploads")
	require.Len(t, records, 1)
	require.Equal(t, "5285890784273533168", string(records[0].Key), "the FileId")
	require.Equal(t, string(sinktest.Body(t, e)), string(records[0].Value))
	require.Equal(t, []kgo.RecordHeader{
		{Key: HeaderEventID, Value: []byte(e.DedupID())}, {Key: "content-type", Value: []byte("application/json")}, {Key: "tenant", Value: []byte("7")},
	}, records[0].Headers)

	other := sinktest.OddEvents()["no type"]
	require.NoError(t, send(t, s, other))
	records = c.records(t, "others")
	require.Len(t, records, 1)

	bad, _, err := event.Decode([]byte(`{"EventType":"Bad"}`), 0)
	require.NoError(t, err)
	err = send(t, s, bad)
	require.EqualError(t, err, `topic_expression: "a b": is not a topic: it has 1 to 249 letters, digits, dots, dashes and underscores`)
	require.True(t, retry.IsPermanent(err))
	require.NotEmpty(t, retry.Hint(err))
	require.True(t, retry.IsPermanent(send(t, s, event.Event{Raw: json.RawMessage("{")})), "not JSON")
	require.NoError(t, s.Check(t.Context()), "with no topic to look up")
}

func TestKey(t *testing.T) {
	c := startCluster(t)
	task := sinktest.OddEvents()["odd type"]
	none := sinktest.OddEvents()["empty"]
	for _, test := range []struct {
		key  string
		e    event.Event
		want string
	}{
		{DefaultConfig().Key, task, "251000-a"},
		{DefaultConfig().Key, none, none.ID},
		{"", task, ""},
		{"payload.FileId", task, ""},
		{"payload.FileId ?? id", none, none.ID},
		{"type", sinktest.Upload(0), "NewFileUpload"},
	} {
		s := open(t, c, func(cfg *Config) { cfg.Key = test.key })
		record, err := s.record(t.Context(), test.e)
		require.NoError(t, err)
		require.Equal(t, test.want, string(record.Key), test.key)
		require.Equal(t, test.want == "", record.Key == nil)
	}
}

func TestFormats(t *testing.T) {
	c := startCluster(t)
	binary := open(t, c, func(cfg *Config) { cfg.Format = event.FormatCloudEventsBinary })
	structured := open(t, c, func(cfg *Config) { cfg.Format = event.FormatCloudEvents })
	odd := sinktest.OddEvents()
	bodies := make(map[string]string)
	for name, e := range odd {
		bodies[e.DedupID()] = string(sinktest.Body(t, e))
		require.NoError(t, send(t, binary, e), name)
		require.NoError(t, send(t, structured, e), name)
	}
	records := c.records(t, topic)
	require.Len(t, records, 2*len(odd))
	for _, r := range records {
		id := header(r, HeaderEventID)
		if header(r, "ce_id") == "" {
			require.Equal(t, "application/cloudevents+json; charset=utf-8", header(r, "content-type"))
			var ce cloudevents.Event
			if id != odd["same name"].DedupID() && id != odd["broken text"].DedupID() { // which the SDK itself does not read
				require.NoError(t, json.Unmarshal(r.Value, &ce))
				require.Equal(t, id, "1500000001-"+ce.ID())
			}
			var envelope struct{ Data json.RawMessage }
			require.NoError(t, json.Unmarshal(r.Value, &envelope))
			require.Equal(t, bodies[id], string(envelope.Data))
			continue
		}
		require.Equal(t, bodies[id], string(r.Value))
		require.Equal(t, id, "1500000001-"+header(r, "ce_id"))
		require.Equal(t, "1.0", header(r, "ce_specversion"))
		require.Equal(t, "//vod.tencentcloudapi.com/1500000001", header(r, "ce_source"))
		require.Equal(t, "application/json", header(r, "content-type"))
		if id == odd["odd type"].DedupID() {
			require.Equal(t, "com.tencentcloud.vod.类型 \"%\r\nx: y", header(r, "ce_type"), "as UTF-8, not escaped")
			require.Equal(t, "251000-a", header(r, "ce_subject"))
		}
	}
}
