//go:build unix

package mistakes

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// number tells the queues, keys and users of the entries apart.
var number atomic.Int64

func own(name string) string { return name + strconv.FormatInt(number.Add(1), 10) }

// idOf is the ID of the event in a body.
func (w *world) idOf(body []byte) string {
	e, _, err := event.Decode(body, app)
	require.NoError(w.t, err)
	return e.ID
}

// toKafka is a world with a cluster of its own; toNATS, toRedis and toRabbitMQ likewise.
func toKafka(w *world) {
	const topic = "vod-events"
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	require.NoError(w.t, err)
	w.t.Cleanup(cluster.Close)
	w.kafka = cluster
	address := cluster.ListenAddrs()[0]
	w.add("stream", fmt.Sprintf("type: kafka, brokers: [%q], topic: %s, timeout: 2s, connect_timeout: 1s", address, topic), func() map[string]bool {
		all := map[string]bool{}
		total := int64(0)
		for _, p := range cluster.PartitionInfos(topic) {
			total += p.HighWatermark
		}
		if total == 0 {
			return all
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		require.NoError(w.t, err)
		defer client.Close()
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		for total > 0 && ctx.Err() == nil {
			for _, r := range client.PollFetches(ctx).Records() {
				all[w.idOf(r.Value)] = true
				total--
			}
		}
		return all
	})
}

var streamOfEvents = jetstream.StreamConfig{Name: "VOD", Subjects: []string{"vod.>"}}

func toNATS(w *world) {
	broker, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: w.path("nats"), NoLog: true, NoSigs: true,
		Users: []*server.User{{Username: "vod", Password: "hunter2"}},
	})
	require.NoError(w.t, err)
	broker.Start()
	require.True(w.t, broker.ReadyForConnections(patient))
	conn, err := nats.Connect(broker.ClientURL(), nats.UserInfo("vod", "hunter2"))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { conn.Close(); broker.Shutdown(); broker.WaitForShutdown() })
	w.jetstream, err = jetstream.New(conn)
	require.NoError(w.t, err)
	stream, err := w.jetstream.CreateStream(w.t.Context(), streamOfEvents)
	require.NoError(w.t, err)
	keys := fmt.Sprintf("type: nats, servers: [%q], subject: vod.events, username: vod, password: hunter2, timeout: 2s", "nats://"+broker.Addr().String())
	w.add("subject", keys, func() map[string]bool {
		all := map[string]bool{}
		info, err := stream.Info(w.t.Context())
		if err != nil {
			return all
		}
		for n := info.State.FirstSeq; n > 0 && n <= info.State.LastSeq; n++ {
			if m, err := stream.GetMsg(w.t.Context(), n); err == nil {
				all[w.idOf(m.Data)] = true
			}
		}
		return all
	})
}

func toRedis(w *world) {
	client, key, user := w.servers.redis(), own("vod-events"), own("vod")
	require.NoError(w.t, client.ACLSetUser(w.t.Context(), user, "on", ">hunter2", "~*", "+@all").Err())
	w.key, w.user = key, user
	keys := fmt.Sprintf("type: redis, addresses: [%q], key: %s, username: %s, password: hunter2, timeout: 2s", client.Options().Addr, key, user)
	w.add("entries", keys, func() map[string]bool {
		all := map[string]bool{}
		entries, _ := client.XRange(w.t.Context(), key, "-", "+").Result()
		for _, e := range entries {
			all[w.idOf([]byte(e.Values["data"].(string)))] = true
		}
		return all
	})
}

func toRabbitMQ(w *world) {
	address, queue := w.servers.rabbitmq(), own("vod-events")
	conn, err := amqp.Dial("amqp://" + address)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	w.amqp, err = conn.Channel()
	require.NoError(w.t, err)
	w.key = queue
	w.declare()
	keys := fmt.Sprintf("type: rabbitmq, addresses: [%q], username: guest, password: guest, routing_key: %s, timeout: 5s, connect_timeout: 5s", address, queue)
	w.add("queue", keys, func() map[string]bool {
		all := map[string]bool{}
		for {
			d, ok, err := w.amqp.Get(queue, true)
			if err != nil || !ok {
				return all
			}
			all[w.idOf(d.Body)] = true
		}
	})
}

// declare makes the world's queue.
func (w *world) declare() {
	_, err := w.amqp.QueueDeclare(w.key, true, false, false, false, nil)
	require.NoError(w.t, err)
}

// acl changes the rights of the world's user of Redis.
func acl(rules ...string) action {
	return func(w *world) {
		require.NoError(w.t, w.servers.redis().ACLSetUser(w.t.Context(), w.user, rules...).Err())
		require.NoError(w.t, w.servers.redis().ClientKillByFilter(w.t.Context(), "USER", w.user).Err())
	}
}

var brokers = []mistake{
	{name: "Kafka: the topic is deleted", shows: `topic "vod-events": does not exist: create the topic, or correct topic`, world: toKafka,
		make: func(w *world) { require.NoError(w.t, w.kafka.DeleteTopic("vod-events")) },
		fix:  func(w *world) { require.NoError(w.t, w.kafka.CreateTopic("vod-events", 1, nil)) }},
	{name: "Kafka: a topic that is not there", shows: `topic "vod-evnts": does not exist: create the topic, or correct topic`, world: toKafka, make: edit("topic: vod-events", "topic: vod-evnts")},
	{name: "Kafka: TLS where there is none", world: toKafka, make: edit("type: kafka", "type: kafka, security_protocol: SSL")},
	{name: "Kafka: a login where none is expected", world: toKafka, make: edit("type: kafka", "type: kafka, security_protocol: SASL_PLAINTEXT, sasl: {mechanism: PLAIN, username: a, password: b}")},
	{name: "Kafka: the port of an HTTP server", world: toKafka, make: toHTTP(`brokers: ["`)},
	{name: "NATS: the stream is deleted", shows: `no stream takes the subject "vod.events": create a stream for it`, world: toNATS,
		make: func(w *world) { require.NoError(w.t, w.jetstream.DeleteStream(w.t.Context(), "VOD")) },
		fix: func(w *world) {
			_, err := w.jetstream.CreateStream(w.t.Context(), streamOfEvents)
			require.NoError(w.t, err)
		}},
	{name: "NATS: a subject that no stream takes", shows: `no stream takes the subject "video.events": create a stream for it, correct subject`, world: toNATS, make: edit("subject: vod.events", "subject: video.events")},
	{name: "NATS: the password is changed on one side", shows: `the login is refused: check credentials_file, nkey_file, username and password`, world: toNATS, make: edit("password: hunter2", "password: hunter3")},
	{name: "NATS: TLS where there is none", shows: `it does not offer TLS: write nats:// in servers`, world: toNATS, make: edit("nats://", "tls://")},
	{name: "NATS: the port of an HTTP server", world: toNATS, make: toHTTP(`servers: ["nats://`)},
	{name: "Redis: the password is changed on one side", shows: `the login is refused: check username and the password`, world: toRedis, make: acl("resetpass", ">another"), fix: acl("resetpass", ">hunter2")},
	{name: "Redis: the right to write is withdrawn", shows: `the user may not write to it: grant the user the command and the key`, world: toRedis, make: acl("-xadd"), fix: acl("+xadd")},
	{name: "Redis: the user is disabled", shows: `the login is refused: check username and the password`, world: toRedis, make: acl("off"), fix: acl("on")},
	{name: "Redis: the key holds something else", shows: `holds another type of value: delete the key, or choose another in key`, world: toRedis,
		make: func(w *world) { require.NoError(w.t, w.servers.redis().Set(w.t.Context(), w.key, "x", 0).Err()) },
		fix:  func(w *world) { require.NoError(w.t, w.servers.redis().Del(w.t.Context(), w.key).Err()) }},
	{name: "Redis: a database that is not there", shows: `the database does not exist: correct db`, world: toRedis, make: edit("type: redis", "type: redis, db: 9")},
	{name: "Redis: TLS where there is none", world: toRedis, make: edit("type: redis", "type: redis, use_tls: true")},
	{name: "Redis: the port of an HTTP server", shows: `it does not speak Redis's protocol: correct the port in addresses`, world: toRedis, make: toHTTP(`addresses: ["`)},
	{name: "RabbitMQ: the queue is deleted", shows: `no queue takes the message: bind a queue to the exchange for this routing key, or correct routing_key`, world: toRabbitMQ,
		make: func(w *world) { _, err := w.amqp.QueueDelete(w.key, false, false, false); require.NoError(w.t, err) },
		fix:  func(w *world) { w.declare() }},
	{name: "RabbitMQ: an exchange that is not there", shows: `exchange "vods" does not exist: create it, or correct exchange`, world: toRabbitMQ, make: edit("type: rabbitmq", "type: rabbitmq, exchange: vods")},
	{name: "RabbitMQ: a vhost that is not there", shows: `vhost "vod": cannot be opened … create the vhost and give the user permissions in it`, world: toRabbitMQ, make: edit("type: rabbitmq", "type: rabbitmq, vhost: vod")},
	{name: "RabbitMQ: a wrong password", world: toRabbitMQ, make: edit("password: guest", "password: guset")},
	{name: "RabbitMQ: TLS where there is none", shows: `it does not speak TLS: set use_tls to false, or correct the port`, world: toRabbitMQ, make: edit("type: rabbitmq", "type: rabbitmq, use_tls: true")},
	{name: "RabbitMQ: the port of an HTTP server", world: toRabbitMQ, make: toHTTP(`addresses: ["`)},
}

// toHTTP has the sink go to a port where HTTP is spoken, by what stands before the address in the configuration.
func toHTTP(before string) action {
	return func(w *world) {
		_, rest, _ := strings.Cut(w.text, before)
		address, _, _ := strings.Cut(rest, `"`)
		w.site()
		edit(before+address, before+w.endpoint.Listener.Addr().String())(w)
	}
}
