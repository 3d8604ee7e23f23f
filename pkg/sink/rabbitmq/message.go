package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// maxShort is the most bytes of a name and of most properties (shortstr). Source: section 4.2.5.3 of
// https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf.
const maxShort = 255

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
		if it.exchange, err = s.exchange.Text(ctx, e); err != nil {
			return nil, retry.WithHint(fmt.Errorf("exchange_expression: %w", err), "correct exchange_expression")
		}
		if it.exchange == "" {
			return nil, retry.Permanent(retry.WithHint(errors.New("exchange_expression: gives no exchange"), "let exchange_expression give an exchange for every event"))
		}
	}
	if s.routingKey != nil {
		if it.routingKey, err = s.routingKey.Text(ctx, e); err != nil {
			return nil, retry.WithHint(fmt.Errorf("routing_key_expression: %w", err), "correct routing_key_expression")
		}
	}
	// The client would end the connection on a longer one.
	for key, name := range map[string]string{"exchange_expression": it.exchange, "routing_key_expression": it.routingKey} {
		if len(name) > maxShort {
			return nil, retry.Permanent(retry.WithHint(fmt.Errorf("%s: gives %d bytes, and AMQP takes %d at most", key, len(name), maxShort), "correct "+key))
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
