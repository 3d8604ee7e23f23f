//go:build unix

package redis

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest/wire"
)

func TestContract(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"xadd":          func(*Config) {},
		"deduplicating": func(c *Config) { c.DedupWindow = time.Hour },
		"lpush":         func(c *Config) { c.Command = commandLPush },
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, "--requirepass", "hunter2")
			other := startServer(t, "--requirepass", "hunter2", "--maxmemory", "1") // takes nothing
			reader := s.client(func(o *redis.Options) { o.Password = "hunter2" })
			sinktest.Run(t, func(t *testing.T) sinktest.Harness {
				do := func(args ...any) func(t *testing.T) {
					return func(t *testing.T) { t.Helper(); require.NoError(t, reader.Do(t.Context(), args...).Err()) }
				}
				mistake := func(name string, wrong, fix []any) sinktest.Mistake {
					return sinktest.Mistake{Name: name, Make: do(wrong...), Fix: do(fix...)}
				}
				do("flushall")(t)
				user := []any{"acl", "setuser", "vodrelay", "reset", "on", ">s3cret", "~*", "&*", "+@all"}
				do(user...)(t)
				require.NoError(t, other.client(func(o *redis.Options) { o.Password = "hunter2" }).Do(t.Context(), user...).Err())
				w := wire.New(t, s.address())
				harness := sinktest.Harness{
					Sink: open(t, w.Address(), change, func(c *Config) { c.Username, c.Password = "vodrelay", "s3cret" }),
					Mistakes: []sinktest.Mistake{
						mistake("right on the key withdrawn", []any{"acl", "setuser", "vodrelay", "resetkeys", "~other"}, []any{"acl", "setuser", "vodrelay", "allkeys"}),
						mistake("command forbidden", []any{"acl", "setuser", "vodrelay", "-@write", "-eval"}, []any{"acl", "setuser", "vodrelay", "+@all"}),
						mistake("another value in its place", []any{"set", stream, "x"}, []any{"del", stream}),
						mistake("out of memory", []any{"config", "set", "maxmemory", "1"}, []any{"config", "set", "maxmemory", "0"}),
						mistake("too few replicas", []any{"config", "set", "min-replicas-to-write", "9"}, []any{"config", "set", "min-replicas-to-write", "0"}),
						{
							Name: "password replaced",
							Make: func(t *testing.T) {
								do("acl", "setuser", "vodrelay", "resetpass", ">an0ther")(t)
								do("client", "kill", "user", "vodrelay")(t)
							},
							Fix: do("acl", "setuser", "vodrelay", "resetpass", ">s3cret"),
						},
						mistake("server made a replica", []any{"replicaof", "127.0.0.1", strconv.Itoa(other.port)}, []any{"replicaof", "no", "one"}),
						{
							Name: "name leads to another server",
							Make: func(*testing.T) { w.Lead(other.address()); w.Cut() },
							Fix:  func(*testing.T) { w.Lead(s.address()) }, // the connections that there are stay where they are
						},
					},
					Received: func(t *testing.T) [][]byte {
						if name != "lpush" {
							return bodies(entries(t, reader, stream))
						}
						var all [][]byte
						for _, body := range reader.LRange(t.Context(), stream, 0, -1).Val() {
							all = append(all, []byte(body))
						}
						return all
					},
					Break:   func(*testing.T) { w.Down() },
					Mend:    func(*testing.T) { w.Up() },
					Stall:   func(*testing.T) func() { return w.Stall() },
					Secrets: []string{"hunter2", "s3cret", "an0ther"},
				}
				if name != "lpush" {
					harness.IDs = func(t *testing.T) (ids []string) {
						for _, entry := range entries(t, reader, stream) {
							ids = append(ids, entry[FieldID].(string)) //nolint:forcetypeassert // redis has texts only
						}
						return ids
					}
				}
				harness.Deduplicates = name == "deduplicating"
				if name == "xadd" { // it takes seconds, and the others are no different in it
					harness.Strand = func(*testing.T) { w.Strand() }
				}
				return harness
			})
		})
	}
}

// TestEntry has every field of an entry, in each format.
func TestEntry(t *testing.T) {
	s := startServer(t)
	reader := s.client()
	e := sinktest.Upload(1)
	e.SubAppID = 1500000001
	for format, want := range map[event.Format]map[string]any{
		event.FormatCallback: {"content_type": "application/json"},
		event.FormatCloudEventsBinary: {
			"content_type": "application/json", "ce_specversion": "1.0", "ce_id": e.ID,
			"ce_source": "//vod.tencentcloudapi.com/1500000001", "ce_type": "com.tencentcloud.vod.NewFileUpload",
			"ce_subject": e.Subject(),
		},
		event.FormatCloudEvents: {"content_type": "application/cloudevents+json; charset=utf-8"},
	} {
		require.NoError(t, reader.FlushAll(t.Context()).Err())
		require.NoError(t, send(t, open(t, s.address(), func(c *Config) { c.Format = format }), e))
		message, err := format.Encode(e)
		require.NoError(t, err)
		want["id"], want["type"], want["data"] = e.DedupID(), "NewFileUpload", string(message.Body)
		require.Equal(t, []map[string]any{want}, entries(t, reader, stream))
	}
}

func TestKeyExpression(t *testing.T) {
	s := startServer(t)
	sink := open(t, s.socket, func(c *Config) { c.Key, c.KeyExpression = "", `"vod:" + type` })
	require.NoError(t, send(t, sink, sinktest.Upload(1)))
	require.Len(t, entries(t, s.client(), "vod:NewFileUpload"), 1)
	require.NoError(t, sink.Check(t.Context()))
}

func TestMaxLength(t *testing.T) {
	s := startServer(t, "--stream-node-max-entries", "10")
	sink := open(t, s.address(), func(c *Config) { c.MaxLength = 50 })
	for i := range 200 {
		require.NoError(t, send(t, sink, sinktest.Upload(i)))
	}
	n := s.client().XLen(t.Context(), stream).Val()
	require.GreaterOrEqual(t, n, int64(50))
	require.Less(t, n, int64(100))
}

func TestPublish(t *testing.T) {
	s := startServer(t)
	sub := s.client().Subscribe(t.Context(), stream)
	t.Cleanup(func() { _ = sub.Close() })
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	for _, window := range []time.Duration{0, time.Minute} {
		sink := open(t, s.address(), func(c *Config) { c.Command, c.DedupWindow = commandPublish, window })
		require.NoError(t, sink.Check(t.Context()))
		require.NoError(t, send(t, sink, sinktest.Upload(1)))
		message, err := sub.ReceiveMessage(t.Context())
		require.NoError(t, err)
		require.Equal(t, string(sinktest.Body(t, sinktest.Upload(1))), message.Payload)
	}
}

// TestDedup has a mark that ends, one that is kept alive, and one key beside another.
func TestDedup(t *testing.T) {
	s := startServer(t)
	reader := s.client()
	sink := open(t, s.address(), func(c *Config) { c.DedupWindow = time.Second })
	e := sinktest.Upload(1)
	length := func() int64 { return reader.XLen(t.Context(), stream).Val() }
	require.NoError(t, send(t, sink, e))
	for range 4 { // each time it counts from anew
		time.Sleep(400 * time.Millisecond)
		require.NoError(t, send(t, sink, e))
	}
	require.EqualValues(t, 1, length())
	require.Equal(t, []string{"vodrelay:seen:{vod-events}:" + e.DedupID()}, reader.Keys(t.Context(), "vodrelay:*").Val())
	time.Sleep(1200 * time.Millisecond)
	require.NoError(t, send(t, sink, e))
	require.EqualValues(t, 2, length())

	other := open(t, s.address(), func(c *Config) { c.Key, c.DedupWindow = "other", time.Minute })
	require.NoError(t, send(t, other, e))
	require.EqualValues(t, 1, reader.XLen(t.Context(), "other").Val())
}

func TestMarkPrefix(t *testing.T) {
	for key, want := range map[string]string{
		"vod-events":  "vodrelay:seen:{vod-events}:",
		"{vod}:a":     "vodrelay:seen:{vod}:{vod}:a:",
		"a{vod}b{c}":  "vodrelay:seen:{vod}:a{vod}b{c}:",
		"a{b":         "vodrelay:seen:{a{b}:",
		"a}b":         "",
		"{}a":         "",
		"x{}":         "",
		"a}b{c}":      "vodrelay:seen:{c}:a}b{c}:",
		"spaces and…": "vodrelay:seen:{spaces and…}:",
	} {
		cfg := Config{Mode: modeCluster, DedupWindow: time.Hour}
		got, err := cfg.markPrefix(key)
		require.Equal(t, want, got, key)
		require.Equal(t, want == "", err != nil, key)
		cfg.Mode = modeSingle
		_, err = cfg.markPrefix(key)
		require.NoError(t, err)
	}
}

// TestPipelining has Sends that come together share round trips.
func TestPipelining(t *testing.T) {
	s := startServer(t)
	w := wire.New(t, s.address())
	sink := open(t, w.Address())
	require.NoError(t, send(t, sink, sinktest.Upload(0)))
	reads := func() int {
		_, rest, _ := strings.Cut(s.client().Info(t.Context(), "stats").Val(), "total_reads_processed:")
		n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
		require.NoError(t, err)
		return n
	}
	before := reads()
	resume := w.Stall()
	const waiting = 500
	const n = pipelines*batchLength + waiting // however full the pipelines are that began before the rest came
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- send(t, sink, sinktest.Upload(i+1)) }()
	}
	require.Eventually(t, func() bool { return sink.batches.Waiting() >= waiting }, 5*time.Second, time.Millisecond)
	resume()
	for range n {
		require.NoError(t, <-errs)
	}
	require.Less(t, reads()-before, n/4)
	require.Len(t, entries(t, s.client(), stream), n+1)
	connections := strings.Count(s.client().ClientList(t.Context()).Val(), "name=vodrelay")
	require.LessOrEqual(t, connections, pipelines)
}
