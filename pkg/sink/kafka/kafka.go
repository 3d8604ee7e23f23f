// Package kafka is the sink that writes each event as a record to a topic of Kafka, or of what speaks its
// protocol, such as CKafka. A record counts when all in-sync replicas of its partition hold it (acks=all).
//
// The header vodrelay-event-id of each record is the event's DedupID, in every format, so that a consumer can
// tell an event that was sent again. Kafka itself deduplicates only what its client repeats; what the
// client still has in hand when an event is sent again is not written twice either.
package kafka

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/renew"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// HeaderEventID is the header with event.Event.DedupID.
const HeaderEventID = "vodrelay-event-id"

// Headers of the CloudEvents binding. Source:
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md.
const (
	contentType = "content-type"
	cePrefix    = "ce_"
)

var errClosed = errors.New("the sink is closed")

// Sink writes to one cluster.
type Sink struct {
	cfg     Config
	brokers string // as errors name them
	expressions
	headers []kgo.RecordHeader // what is the same for all events
	log     *zap.Logger
	health  *health
	batches producer
	alone   producer // never has two records to put into one batch
	flights *flights
	watch   renew.Watch
	closed  atomic.Bool
}

// New makes the sink. It reads the files but does not connect.
func New(cfg Config, log *zap.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sink{cfg: cfg, brokers: redact.Addresses(cfg.Brokers), log: log, health: &health{connectTimeout: cfg.ConnectTimeout, addresses: cfg.addresses()}, flights: newFlights()}
	var err error
	if s.expressions, err = cfg.expressions(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Headers)) {
		s.headers = append(s.headers, kgo.RecordHeader{Key: name, Value: []byte(cfg.Headers[name])})
	}
	opts, err := cfg.options(s.health, log)
	if err != nil {
		return nil, err
	}
	s.batches.opts = append(slices.Clone(opts), kgo.MaxBufferedRecords(maxBufferedRecords), kgo.ProducerLinger(cfg.Linger))
	s.alone.opts = append(slices.Clone(opts), kgo.MaxBufferedRecords(1), kgo.ProducerLinger(0))
	if err := kgo.ValidateOpts(s.batches.opts...); err != nil {
		return nil, err
	}
	if cfg.usesTLS() && cfg.TLS.InsecureSkipVerify {
		log.Warn(tlsconf.InsecureWarning)
	}
	return s, nil
}

// Send returns nil when the record is acknowledged.
func (s *Sink) Send(ctx context.Context, e event.Event) error {
	if s.closed.Load() {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return s.judge(err, "")
	}
	record, err := s.record(ctx, e)
	if err != nil {
		return err
	}
	client, err := s.batches.get()
	if err != nil {
		return err
	}
	err = s.flights.send(ctx, fingerprintOf(e, record), func(landed func(error)) {
		// Not under ctx: a record that waits with others in a batch cannot be taken out of it.
		client.TryProduce(context.Background(), record, func(_ *kgo.Record, err error) { landed(err) })
	})
	if errors.Is(err, kerr.MessageTooLarge) {
		err = s.sendAlone(ctx, record)
	}
	s.batches.replace(ctx, client, err, s.lasts(err))
	return s.judge(err, record.Topic)
}

// lasts reports whether the client is to be replaced since it has failed for long. While brokers cannot be reached, or do
// not answer, it is not to blame, and it has records in hand that the next attempts would write a second time.
func (s *Sink) lasts(err error) bool {
	if s.health.trouble() != nil {
		return false
	}
	for _, innocent := range []error{context.DeadlineExceeded, kgo.ErrRecordTimeout, kgo.ErrMaxBuffered, kerr.MessageTooLarge} {
		if errors.Is(err, innocent) {
			return false
		}
	}
	return s.watch.Lasts(err)
}

// record is e as it is written.
func (s *Sink) record(ctx context.Context, e event.Event) (*kgo.Record, error) {
	message, err := s.cfg.Format.Encode(e)
	if err != nil {
		return nil, retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	record := &kgo.Record{Topic: s.cfg.Topic, Value: message.Body}
	if s.topic != nil {
		if record.Topic, err = topics.Of(ctx, s.topic, e); err != nil {
			return nil, err
		}
	}
	if s.key != nil {
		key, err := s.key.Text(ctx, e)
		if err != nil {
			return nil, retry.WithHint(fmt.Errorf("key: %w", err), "correct key")
		}
		if key != "" {
			record.Key = []byte(key)
		}
	}
	record.Headers = make([]kgo.RecordHeader, 0, len(s.headers)+len(message.Attributes)+2)
	add := func(name, value string) {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	add(HeaderEventID, e.DedupID())
	add(contentType, message.ContentType)
	for _, attribute := range message.Attributes {
		add(cePrefix+attribute.Name, attribute.Value)
	}
	record.Headers = append(record.Headers, s.headers...)
	if size := sizeOf(record); size > s.cfg.MaxMessageBytes {
		return nil, s.judge(kerr.MessageTooLarge, record.Topic)
	}
	return record, nil
}

// sizeOf is at least what a record takes in a batch of its own, before compression.
func sizeOf(record *kgo.Record) int {
	const batch, header = 128, 10 // the batch and the record around it; the lengths of a header
	size := batch + len(record.Key) + len(record.Value)
	for _, h := range record.Headers {
		size += header + len(h.Key) + len(h.Value)
	}
	return size
}

// fingerprintOf covers the application too: what two of them report is never one event.
func fingerprintOf(e event.Event, record *kgo.Record) fingerprint {
	h := sha256.New()
	write := func(part []byte) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	write([]byte(e.DedupID()))
	write([]byte(record.Topic))
	write(record.Key)
	write(record.Value)
	return fingerprint(h.Sum(nil))
}

// sendAlone sends a record in a batch of its own. A topic can take less than max_message_bytes, and then
// refuses a whole batch for its size, of records that may all be small.
func (s *Sink) sendAlone(ctx context.Context, record *kgo.Record) error {
	client, err := s.alone.get()
	if err != nil {
		return err
	}
	outcome := make(chan error, 1)
	again := &kgo.Record{Topic: record.Topic, Key: record.Key, Value: record.Value, Headers: record.Headers}
	client.Produce(ctx, again, func(_ *kgo.Record, err error) { outcome <- err })
	select {
	case err := <-outcome:
		if err == nil {
			s.log.Debug("a batch was too large for the topic; its records are sent one by one: set max_message_bytes to the topic's max.message.bytes",
				zap.String("topic", record.Topic))
		}
		s.alone.replace(ctx, client, err, false)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Untested is what Check cannot know.
func (s *Sink) Untested() string {
	if s.cfg.Topic == "" {
		return "whether the topics that events name exist and take records from this user"
	}
	return "whether a record is taken: brokers before Kafka 2.3 do not say what a user may do, and each has a limit of size"
}

// Close waits until the records that were left behind are acknowledged or failed, and ends the connections.
// When ctx is done first it gives the rest up, which is an error.
func (s *Sink) Close(ctx context.Context) error {
	if s.closed.Swap(true) {
		return nil
	}
	left := s.batches.close(ctx) + s.alone.close(ctx)
	if left > 0 {
		return fmt.Errorf("%s: %s not acknowledged before the end: %w", s.brokers, safetext.Count(left, "record was", "records were"), ctx.Err())
	}
	return nil
}
