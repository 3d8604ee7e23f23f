package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What the brokers have.
const (
	Stream     = "vod"        // of NATS, and its only subject
	Topic      = "vod-events" // of Kafka
	partitions = 3
	natsID     = jetstream.MsgIDHeader
	kafkaID    = "vodrelay-event-id"
	readyTime  = 30 * time.Second
	// duplicates is how long the stream remembers IDs: longer than any run.
	duplicates = 24 * time.Hour
)

// serveNATS runs a JetStream server whose files are synced before it answers.
func serveNATS(dir, listen string) error {
	host, port, err := split(listen)
	if err != nil {
		return err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{
		Host: host, Port: port, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true,
		JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 4 << 30, MaxPayload: 16 << 20, MaxPending: 64 << 20,
	})
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(readyTime) {
		return errors.New("the NATS server does not become ready")
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	if err := addStream(ctx, s); err != nil {
		return err
	}
	ready(s.Addr().String())
	select {} // until it is killed
}

func addStream(ctx context.Context, s *server.Server) error {
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: Stream, Subjects: []string{Stream}, Storage: jetstream.FileStorage, Duplicates: duplicates,
	})
	return err
}

// serveKafka runs a broker that keeps everything in memory: it can be frozen, and loses all when it is killed.
func serveKafka(listen string) error {
	_, port, err := split(listen)
	if err != nil {
		return err
	}
	options := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(partitions, Topic)}
	if port != 0 {
		options = append(options, kfake.Ports(port))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return err
	}
	ready(cluster.ListenAddrs()[0])
	select {} // until it is killed
}

func split(address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(text)
	return host, port, err
}

// natsReader reads the stream from where it stopped.
type natsReader struct{ last uint64 }

func (r *natsReader) next(ctx context.Context, address string) (events []Event, err error) {
	conn, err := nats.Connect(address, nats.Timeout(timeLeft(ctx)), nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, Stream)
	if err != nil {
		return nil, err
	}
	end := stream.CachedInfo().State.LastSeq
	last := r.last
	for last < end {
		m, err := stream.GetMsg(ctx, last+1)
		if err != nil {
			return nil, fmt.Errorf("message %d of %d: %w", last+1, end, err)
		}
		last = m.Sequence
		events = append(events, Event{At: m.Time, ID: m.Header.Get(natsID), Body: m.Data})
	}
	r.last = last
	return events, nil
}

// kafkaReader reads the topic from where it stopped.
type kafkaReader struct{ offsets map[int32]int64 }

func (r *kafkaReader) next(ctx context.Context, address string) (events []Event, err error) {
	from := map[int32]kgo.Offset{}
	for partition := range int32(partitions) {
		from[partition] = kgo.NewOffset().At(r.offsets[partition])
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{Topic: from}), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := highWatermarks(ctx, client)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for partition, end := range ends {
		if offsets[partition] = r.offsets[partition]; end < offsets[partition] {
			return nil, fmt.Errorf("partition %d ends at %d, and was read up to %d: the broker has lost records", partition, end, offsets[partition])
		}
	}
	missing := func() bool {
		for partition, end := range ends {
			if offsets[partition] < end {
				return true
			}
		}
		return false
	}
	for missing() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			e := Event{At: record.Timestamp, Body: record.Value}
			for _, h := range record.Headers {
				if h.Key == kafkaID {
					e.ID = string(h.Value)
				}
			}
			events = append(events, e)
			offsets[record.Partition] = record.Offset + 1
		})
	}
	r.offsets = offsets
	return events, nil
}

// highWatermarks are the ends of the topic's partitions.
func highWatermarks(ctx context.Context, client *kgo.Client) (map[int32]int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = Topic
	for partition := range int32(partitions) {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = partition, -1
		topic.Partitions = append(topic.Partitions, p)
	}
	request.Topics = append(request.Topics, topic)
	ends := map[int32]int64{}
	for _, shard := range client.RequestSharded(ctx, request) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, topic := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range topic.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, err
				}
				ends[p.Partition] = p.Offset
			}
		}
	}
	if len(ends) != partitions {
		return nil, fmt.Errorf("only %d of %d partitions answered", len(ends), partitions)
	}
	return ends, nil
}
