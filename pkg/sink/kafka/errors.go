package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

var broker = neterr.Target{Name: "broker", Key: "brokers", NoTLS: "write PLAINTEXT or SASL_PLAINTEXT in security_protocol"}

// judge says what is wrong, what to do about it, and whether another attempt can help.
func (s *Sink) judge(err error, topic string) error {
	var code *kerr.Error
	switch {
	case err == nil, errors.Is(err, errClosed):
		return err
	case errors.Is(err, kgo.ErrClientClosed):
		if s.closed.Load() {
			return errClosed
		}
		return s.fail("the client was started anew", err, "nothing: the event is sent again")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrRecordTimeout):
		return s.late(err)
	case errors.Is(err, kgo.ErrMaxBuffered):
		if trouble := s.health.trouble(); trouble != nil {
			return s.disconnected(trouble, err)
		}
		return s.fail("the client's buffer is full of records that wait for an acknowledgement", err,
			"the brokers take less than comes in: see their load, or lower the sink's concurrency")
	case errors.As(err, &code):
		return s.refused(code, err, topic)
	}
	return s.disconnected(err, err)
}

func (s *Sink) fail(text string, err error, hint string) error {
	return neterr.Fail(neterr.At(s.brokers, err)+": "+text, err, hint)
}

// late is a record without an outcome when its time was over.
func (s *Sink) late(err error) error {
	if trouble := s.health.trouble(); trouble != nil {
		return s.disconnected(trouble, err)
	}
	return s.fail("no acknowledgement in time", err,
		"see the brokers' logs: are enough replicas in sync (min.insync.replicas)? Or make the sink's timeout longer")
}

// disconnected is a failure to connect for the reason that trouble tells.
func (s *Sink) disconnected(trouble, err error) error {
	both := errors.Join(err, trouble)
	var code *kerr.Error
	if errors.As(trouble, &code) {
		return s.refused(code, both, "")
	}
	if first := (*kgo.ErrFirstReadEOF)(nil); errors.As(trouble, &first) || neterr.IsClosed(trouble) {
		return s.fail("it closed the connection during the first exchange", both,
			"check security_protocol (TLS, SASL or neither) and the section sasl, the port in "+broker.For(trouble).Key+", and see the broker's log")
	}
	if file := (*fileError)(nil); errors.As(trouble, &file) {
		return file
	}
	text, hint := broker.Explain(trouble)
	return s.fail(text, both, hint)
}

// refused is an answer of a broker. Only the size and the content of a record, and a topic that topic_expression chose for
// it, are the event's own fault. What concerns the topic, a right or the login is corrected while the event waits.
func (s *Sink) refused(code *kerr.Error, err error, topic string) error {
	about := fmt.Sprintf("topic %q: ", topic)
	switch code {
	case kerr.MessageTooLarge:
		return retry.Permanent(s.fail(about+"the event is too large", err,
			"raise max_message_bytes here and max.message.bytes of the topic"))
	case kerr.InvalidRecord:
		refused := s.fail(about+"the record is refused ("+code.Message+")", err,
			"see the topic's settings, such as cleanup.policy=compact, which needs a key")
		if s.key == nil { // no record has a key, whatever its event is
			return refused
		}
		return retry.Permanent(refused)
	case kerr.InvalidTopicException:
		refused := s.fail(about+"is not a topic that can be written to", err, "correct topic or topic_expression")
		if s.topic == nil {
			return refused
		}
		return retry.Permanent(refused)
	}
	text, hint := s.transient(code, about)
	return s.fail(text, err, hint)
}

func (s *Sink) transient(code *kerr.Error, about string) (text, hint string) {
	switch code {
	case kerr.UnknownTopicOrPartition, kerr.UnknownTopicID:
		return about + "does not exist", "create the topic, or correct topic or topic_expression"
	case kerr.TopicAuthorizationFailed:
		return about + "the user may not write to it", "grant the user of sasl.username Write and Describe on the topic"
	case kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed:
		return "the user may not write with idempotence",
			"grant the user of sasl.username IdempotentWrite on the cluster, or set idempotent to false"
	case kerr.InvalidTimestamp, kerr.UnsupportedForMessageFormat, kerr.PolicyViolation:
		return about + "the record is refused (" + code.Message + ")",
			"see the topic's settings, such as message.timestamp.type, and this machine's clock"
	case kerr.SaslAuthenticationFailed:
		return "the login is refused", "check sasl.mechanism, sasl.username and the password or token; for CKafka the name is instance-id#user"
	case kerr.UnsupportedSaslMechanism:
		return "the brokers do not offer " + s.cfg.SASL.Mechanism, "correct sasl.mechanism"
	case kerr.IllegalSaslState:
		return "the brokers do not expect a login", "write PLAINTEXT or SSL in security_protocol, or correct the port in brokers"
	case kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend:
		return about + "not enough replicas are in sync", "start the brokers that hold the topic (min.insync.replicas)"
	}
	return about + code.Message, "see the brokers' logs (" + code.Description + ")"
}
