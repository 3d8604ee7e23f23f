package nats

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Harness {
		users := func(password string, publish []string, subscribe ...string) []*server.User {
			return []*server.User{{Username: "admin", Password: "hunter2"}, {Username: "vod", Password: password, Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
			}}}
		}
		good := users("hunter2", []string{"vod.>", "$JS.>"}, "_INBOX.>")
		b := startServer(t, func(o *server.Options) { o.Users = good })
		login := nats.UserInfo("admin", "hunter2")
		b.addStream(t, login)
		s := open(t, b, func(cfg *Config) {
			cfg.Username, cfg.Password = "vod", "hunter2"
			cfg.Stream = stream
		})
		reload := func(name string, bad []*server.User) sinktest.Mistake {
			return sinktest.Mistake{
				Name: name,
				Make: func(t *testing.T) { b.reload(t, bad) },
				Fix:  func(t *testing.T) { b.reload(t, good) },
			}
		}
		update := func(name string, change func(*jetstream.StreamConfig)) sinktest.Mistake {
			return sinktest.Mistake{
				Name: name,
				Make: func(t *testing.T) { b.updateStream(t, change, login) },
				Fix:  func(t *testing.T) { b.updateStream(t, func(*jetstream.StreamConfig) {}, login) },
			}
		}
		return sinktest.Harness{
			Sink:     s,
			Received: func(t *testing.T) [][]byte { return b.bodies(t, login) },
			IDs: func(t *testing.T) (ids []string) {
				for _, m := range b.messages(t, login) {
					ids = append(ids, m.Headers().Get("Nats-Msg-Id"))
				}
				return ids
			},
			Deduplicates: true,
			Break:        func(t *testing.T) { b.stop(t) },
			Mend:         func(t *testing.T) { b.start(t) },
			Stall:        func(*testing.T) func() { return b.wire.Stall() },
			Strand:       func(*testing.T) { b.wire.Strand() },
			Mistakes: []sinktest.Mistake{
				reload("right to publish withdrawn", users("hunter2", []string{"$JS.>"}, "_INBOX.>")),
				reload("right to the answers withdrawn", users("hunter2", []string{"vod.>", "$JS.>"}, "other.>")),
				reload("password replaced", users("an0ther", []string{"vod.>", "$JS.>"}, "_INBOX.>")),
				update("stream for other subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"other"} }),
				update("stream full", func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 1, jetstream.DiscardNew }),
				{
					Name: "stream missing",
					Make: func(t *testing.T) { require.NoError(t, b.connect(t, login).DeleteStream(t.Context(), stream)) },
					Fix:  func(t *testing.T) { b.addStream(t, login) },
				},
			},
			MaxBody: largest(t, s),
			Secrets: []string{"hunter2", "an0ther"},
		}
	})
}

// largest is the most bytes of a body that a server takes beside the headers of a message.
func largest(t *testing.T, s *Sink) int {
	m, err := s.message(t.Context(), sinktest.Upload(0))
	require.NoError(t, err)
	m.Header.Set(jetstream.ExpectedStreamHeader, stream)
	size := len("NATS/1.0\r\n\r\n")
	for name, values := range m.Header {
		size += len(name) + len(values[0]) + len(": \r\n")
	}
	return server.MAX_PAYLOAD_SIZE - size
}

func TestMessage(t *testing.T) {
	b := startServer(t)
	b.addStream(t)
	s := open(t, b, func(cfg *Config) {
		cfg.Subject, cfg.SubjectExpression = "", `"vod." + type`
		cfg.Headers = map[string]string{"tenant": "7"}
	})
	e := sinktest.Upload(1)
	require.NoError(t, send(t, s, e))
	require.NoError(t, send(t, s, e), "the stream has it already")
	all := b.messages(t)
	require.Len(t, all, 1)
	require.Equal(t, "vod.NewFileUpload", all[0].Subject())
	require.Equal(t, string(sinktest.Body(t, e)), string(all[0].Data()))
	require.Equal(t, nats.Header{
		"Nats-Msg-Id": {e.DedupID()}, "Content-Type": {"application/json"}, "tenant": {"7"},
	}, all[0].Headers())

	err := send(t, s, sinktest.OddEvents()["odd type"])
	require.ErrorContains(t, err, "subject_expression: ")
	require.ErrorContains(t, err, "characters that cannot be seen")
	require.True(t, retry.IsPermanent(err))
	require.NotEmpty(t, retry.Hint(err))
	require.True(t, retry.IsPermanent(send(t, s, event.Event{Raw: json.RawMessage("{")})), "not JSON")
	require.NoError(t, s.Check(t.Context()), "with no subject to look up")
}

func TestFormats(t *testing.T) {
	b := startServer(t)
	b.addStream(t)
	binary := open(t, b, func(cfg *Config) { cfg.Format = event.FormatCloudEventsBinary })
	structured := open(t, b, func(cfg *Config) { cfg.Format = event.FormatCloudEvents; cfg.Stream = "" })
	odd := sinktest.OddEvents()
	for name, e := range odd {
		require.NoError(t, send(t, binary, e), name)
	}
	bodies := make(map[string]string)
	for _, e := range odd {
		bodies[e.DedupID()] = string(sinktest.Body(t, e))
	}
	all := b.messages(t)
	require.Len(t, all, len(odd))
	for _, m := range all {
		id := m.Headers().Get("Nats-Msg-Id")
		require.Equal(t, bodies[id], string(m.Data()))
		require.Equal(t, id, "1500000001-"+m.Headers().Get("ce-id"))
		require.Equal(t, "1.0", m.Headers().Get("ce-specversion"))
		require.Equal(t, "//vod.tencentcloudapi.com/1500000001", m.Headers().Get("ce-source"))
		require.Equal(t, "application/json", m.Headers().Get("Content-Type"))
		if id == odd["odd type"].DedupID() {
			require.Equal(t, `com.tencentcloud.vod.%E7%B1%BB%E5%9E%8B%20%22%25%0D%0Ax:%20y`, m.Headers().Get("ce-type"))
			require.Equal(t, "251000-a", m.Headers().Get("ce-subject"))
		}
	}
	e := sinktest.Upload(5)
	require.NoError(t, send(t, structured, e))
	last := b.messages(t)[len(odd)]
	require.Equal(t, "application/cloudevents+json; charset=utf-8", last.Headers().Get("Content-Type"))
	var envelope struct{ Data json.RawMessage }
	require.NoError(t, json.Unmarshal(last.Data(), &envelope))
	require.Equal(t, string(sinktest.Body(t, e)), string(envelope.Data))
}
