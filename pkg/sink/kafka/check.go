package kafka

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// Check connects, logs in, and looks up the topic if it is the same for all events: that it exists, has a
// leader for each partition, and can be written to as far as the brokers tell. It goes to where the events go: to the
// leaders, or to all brokers of the cluster where each event has a topic of its own.
func (s *Sink) Check(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	client, err := s.batches.get()
	if err != nil {
		return err
	}
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	req.Topics = []kmsg.MetadataRequestTopic{} // none, where nil is all
	if s.cfg.Topic != "" {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(s.cfg.Topic)
		req.Topics = append(req.Topics, topic)
	}
	res, err := req.RequestWith(ctx, client)
	if err != nil {
		return s.judge(err, s.cfg.Topic)
	}
	for _, topic := range res.Topics {
		if err := s.checkTopic(topic); err != nil {
			return err
		}
	}
	if err := s.checkBrokers(ctx, client, res); err != nil {
		return err
	}
	if s.cfg.Idempotent {
		if _, _, err := client.ProducerID(ctx); err != nil {
			s.batches.replace(ctx, client, err, false)
			return s.judge(err, s.cfg.Topic)
		}
	}
	return nil
}

func (s *Sink) checkTopic(topic kmsg.MetadataResponseTopic) error {
	if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
		return s.judge(err, s.cfg.Topic)
	}
	const unknown = -1 << 31 // from brokers before Kafka 2.3, and those that check nothing
	if operations := topic.AuthorizedOperations; operations != unknown && operations&(1<<kmsg.ACLOperationWrite) == 0 {
		return s.judge(kerr.TopicAuthorizationFailed, s.cfg.Topic)
	}
	for _, partition := range topic.Partitions {
		if partition.Leader < 0 {
			return retry.WithHint(fmt.Errorf("%s: topic %q: partition %d has no leader", s.brokers, s.cfg.Topic, partition.Partition),
				"start the brokers that hold the partition")
		}
	}
	return nil
}

// checkBrokers connects to the brokers under the addresses that they advertise.
func (s *Sink) checkBrokers(ctx context.Context, client *kgo.Client, cluster *kmsg.MetadataResponse) error {
	leads := make(map[int32]bool)
	for _, topic := range cluster.Topics {
		for _, partition := range topic.Partitions {
			leads[partition.Leader] = true
		}
	}
	for _, broker := range cluster.Brokers {
		if s.cfg.Topic != "" && !leads[broker.NodeID] {
			continue
		}
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{} // none: the way there is what counts
		if _, err := client.Broker(int(broker.NodeID)).Request(ctx, req); err != nil {
			address := net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port)))
			return s.judge(s.health.addresses.Failed(address, err), s.cfg.Topic)
		}
	}
	return nil
}
