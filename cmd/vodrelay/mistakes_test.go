//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// An operator's mistakes at three targets at once: a path that is not there, a topic that is deleted and created again, a
// right that is withdrawn. No event dies of them, and all are delivered within 30 s of the correction.
func TestAnOperatorsMistakesCostNoEvent(t *testing.T) {
	t.Parallel()
	const topic, table = "vod-events", "vodrelay_events"
	ctx := t.Context()
	site := newTarget(t, http.StatusOK)
	brokers, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topic))
	require.NoError(t, err)
	defer brokers.Close()
	server := pgtest.Start(t)
	database := server.Database()
	admin, err := pgx.Connect(ctx, database)
	require.NoError(t, err)
	defer func() { _ = admin.Close(context.Background()) }()
	run := func(sql string) { t.Helper(); _, err := admin.Exec(ctx, sql); require.NoError(t, err, sql) }
	run(`CREATE TABLE ` + table + ` (event_id text PRIMARY KEY)`)
	run(`CREATE ROLE writer LOGIN`)
	run(`GRANT INSERT, SELECT ON ` + table + ` TO writer`)

	cloud, environ := startEmulator(t, emulator.Options{})
	d := startDaemon(t, environ, fmt.Sprintf(`store: {path: %s}
sinks:
  - {name: site, type: webhook, url: %q}
  - {name: stream, type: kafka, brokers: [%q], topic: %s}
  - {name: rows, type: postgres, url: %q, table: %s, sub_app_id_column: "", columns: {event_id: id}}
`, filepath.Join(t.TempDir(), "s.db"), site.URL, brokers.ListenAddrs()[0], topic, strings.Replace(database, "//postgres", "//writer", 1), table))
	publish := func(n, seed int) map[string]bool {
		contents := emulator.GenerateUploads(n, uint64(seed))
		cloud.Publish(testApp, contents...)
		return ids(t, contents)
	}
	rows := func() int {
		var n int
		require.NoError(t, admin.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n))
		return n
	}
	publish(50, 1)
	eventually(t, "all targets have the first events", func() bool {
		st := d.status(t)
		return len(st.Sinks) == 3 && st.Sinks[0].Accepted >= 50 && st.Sinks[1].Accepted >= 50 && st.Sinks[2].Accepted >= 50
	})

	site.answer(http.StatusNotFound)
	require.NoError(t, brokers.DeleteTopic(topic))
	run(`REVOKE INSERT ON ` + table + ` FROM writer`)
	late := publish(300, 2)
	eventually(t, "all sinks count as down", func() bool {
		for _, s := range d.status(t).Sinks {
			if s.Breaker == "closed" || s.Waiting == 0 {
				return false
			}
		}
		return true
	})
	site.answer(http.StatusOK)
	require.NoError(t, brokers.CreateTopic(topic, 3, nil))
	run(`GRANT INSERT ON ` + table + ` TO writer`)
	corrected := time.Now()
	eventually(t, "nothing waits", func() bool { return d.status(t).Parcels.Waiting == 0 && cloud.Counts().Confirmed == 350 })
	t.Logf("all is delivered %s after the correction", time.Since(corrected).Round(time.Millisecond))
	require.Zero(t, d.status(t).Parcels.Dead)
	require.Len(t, site.accepted(), 350)
	require.Equal(t, 350, rows())
	require.Equal(t, late, idsInTopic(t, brokers, topic))
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait())
}

// idsInTopic are those of all events that the topic holds.
func idsInTopic(t *testing.T, c *kfake.Cluster, topic string) map[string]bool {
	t.Helper()
	total := 0
	for _, p := range c.PartitionInfos(topic) {
		total += int(p.HighWatermark)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	var contents []json.RawMessage
	for len(contents) < total {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		for _, r := range fetches.Records() {
			contents = append(contents, r.Value)
		}
	}
	return ids(t, contents)
}
