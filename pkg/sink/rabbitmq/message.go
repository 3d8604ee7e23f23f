package rabbitmq

import (
	"context"
	"strings"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/eventname"
)

// maxShort is the most bytes of a name and of most properties (shortstr). Source: section 4.2.5.3 of
// https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf.
const maxShort = 255

// The rules for names that events decide: the exchanges that come with the broker, and the queues that it makes itself,
// begin with amq. (amq.rabbitmq.trace, amq.rabbitmq.reply-to). The client would end the connection on a name that is
// too long. An exchange that an event decides is never the default one, which reaches every queue there is. Source:
// https://www.rabbitmq.com/docs/exchanges.
var (
	exchanges   = eventname.Rule{Key: "exchange_expression", What: "exchange", MaxBytes: maxShort, Reserved: []string{"amq."}, By: "RabbitMQ"}
	routingKeys = eventname.Rule{Key: "routing_key_expression", What: "routing key", MaxBytes: maxShort, Reserved: []string{"amq."}, By: "RabbitMQ"}
)

// cePrefix is the preferred one of the two that the CloudEvents binding for AMQP 1.0 has; RabbitMQ hands
// headers on as the application properties of 1.0. Source: section 3.1.3.1 of
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md.
const cePrefix = "cloudEvents_"

// message is e as it is published.
func (s *Sink) message(ctx context.Context, e event.Event) (*item, error) {
	encoded, err := s.cfg.Format.Encode(e)
	if err != nil {
		return nil, retry.Permanent(retry.WithHint(err, "the event cannot be written as JSON; look at it as a dead letter"))
	}
	it := &item{exchange: s.cfg.Exchange, routingKey: s.cfg.RoutingKey, outcome: make(chan struct{})}
	if s.exchange != nil {
		if it.exchange, err = exchanges.Of(ctx, s.exchange, e); err != nil {
			return nil, err
		}
	}
	if s.routingKey != nil {
		rule := routingKeys
		rule.MayLack = it.exchange != "" // the default exchange takes it as the name of a queue
		if it.routingKey, err = rule.Of(ctx, s.routingKey, e); err != nil {
			return nil, err
		}
	}
	headers := make(amqp.Table, len(s.cfg.Headers)+len(encoded.Attributes))
	for name, value := range s.cfg.Headers {
		headers[name] = value
	}
	for _, attribute := range encoded.Attributes {
		headers[cePrefix+attribute.Name] = attribute.Value
	}
	it.publishing = amqp.Publishing{
		Headers:      headers,
		ContentType:  encoded.ContentType,
		DeliveryMode: amqp.Persistent,
		MessageId:    e.DedupID(),
		Type:         shorten(e.Type),
		AppId:        "vodrelay",
		Body:         encoded.Body,
	}
	return it, nil
}

// shorten is text as a property takes it: valid UTF-8, without what does not fit.
func shorten(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxShort {
		return text
	}
	end := maxShort
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
