package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

var broker = neterr.Target{Name: "broker", Key: "addresses", NoTLS: "set use_tls to false"}

var (
	errClosed       = errors.New("the sink is closed")
	errDisconnected = errors.New("the connection was closed before the event was confirmed")
	errRejected     = errors.New("the broker rejected the message")
)

// returnedError is a message that the broker could not bring to any queue.
type returnedError struct {
	exchange, routingKey string
	code                 uint16
}

func (r *returnedError) Error() string {
	return fmt.Sprintf("exchange %q, routing key %.100q: no queue takes the message", r.exchange, r.routingKey)
}

func (s *Sink) fail(text string, err error, hint string) error {
	return neterr.Fail(neterr.At(s.brokers, err)+": "+text, err, hint)
}

// judge says what is wrong, what to do about it, and whether another attempt can help. blocked is why the
// broker takes nothing, if it does so.
//
// What is missing in the topology is transient, as is a right: an operator can bind a queue, create an exchange or grant
// the right, and the event is to wait for that. Only its size is the event's own fault.
func (s *Sink) judge(err error, blocked *string) error {
	var (
		file     *fileError
		missing  *missingError
		returned *returnedError
		connect  *connectError
		answer   *amqp.Error
	)
	switch {
	case err == nil, errors.Is(err, errClosed):
		return err
	case errors.As(err, &file):
		return file
	case errors.As(err, &missing):
		return s.fail(missing.Error(), err, "create it, or correct exchange or routing_key; what is in another vhost does not count")
	case errors.As(err, &returned):
		return s.fail(returned.Error(), err, "bind a queue to the exchange for this routing key, or correct routing_key")
	case errors.Is(err, errRejected):
		return s.fail(errRejected.Error(), err, "see the limits of the queues (max-length with overflow reject-publish), and the broker's log")
	case errors.As(err, &connect):
		return s.fail("no connection in time", err, "check the host and port in addresses, the firewalls on the way, and use_tls")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		if blocked != nil {
			return s.fail("the broker takes no messages: "+neterr.Steady(*blocked), err, "free memory or disk space on the broker (rabbitmq-diagnostics alarms)")
		}
		return s.fail("no confirm in time", err, "see the broker's load and log, or make the sink's timeout longer")
	case errors.Is(err, errDisconnected):
		return s.fail(errDisconnected.Error(), err, "nothing, if it happens seldom: the event is sent again; see the broker's log otherwise")
	case errors.As(err, &answer):
		return s.refused(answer, err)
	}
	text, hint := broker.Explain(err)
	if neterr.IsClosed(err) {
		hint = "see the broker's log; is it RabbitMQ that listens there, and is use_tls right?"
	}
	return s.fail(text, err, hint)
}

var (
	named   = regexp.MustCompile(`exchange '([^']*)' in vhost`)
	tooBig  = regexp.MustCompile(`^PRECONDITION_FAILED - message size (\d+) `)
	located = regexp.MustCompile(`'[^']*'`)
)

// blameable reports whether the broker may have closed the channel because of it. The answer names an exchange
// or a size, but no message.
func (it *item) blameable(reason *amqp.Error) bool {
	if size := tooBig.FindStringSubmatch(reason.Reason); size != nil {
		return size[1] == strconv.Itoa(len(it.publishing.Body))
	}
	if exchange := named.FindStringSubmatch(reason.Reason); exchange != nil {
		return exchange[1] == it.exchange || it.exchange == "" && exchange[1] == "amq.default"
	}
	return false
}

// refused is an answer of the broker. What concerns the login is transient: a password is replaced on both
// sides, but never at the same moment.
func (s *Sink) refused(answer *amqp.Error, err error) error {
	exchange := ""
	if found := named.FindStringSubmatch(answer.Reason); found != nil {
		exchange = found[1]
	}
	switch {
	case answer == amqp.ErrCredentials:
		return s.fail("the login is refused", err, "check username and the password; guest may only come from the broker's own machine")
	case answer == amqp.ErrSASL:
		return s.fail("the broker does not offer "+s.cfg.Mechanism, err, "correct mechanism, or enable it on the broker (auth_mechanisms)")
	case answer == amqp.ErrVhost || answer.Code == amqp.NotAllowed || answer.Code == amqp.InvalidPath:
		return s.fail(fmt.Sprintf("vhost %q: cannot be opened: %s", s.cfg.VHost, s.plainly(answer)), err,
			"create the vhost and give the user permissions in it (rabbitmqctl set_permissions), or correct vhost")
	case !answer.Server:
		return s.fail("it does not speak AMQP: "+s.plainly(answer), err, "correct the port in addresses: RabbitMQ has another for TLS (use_tls) and for its web page")
	case tooBig.MatchString(answer.Reason):
		return retry.Permanent(s.fail("the event is too large", err, "raise max_message_size of the broker"))
	case answer.Code == amqp.AccessRefused && exchange != "":
		return s.fail(fmt.Sprintf("exchange %q: the user may not write to it", exchange), err,
			"grant the user the permission write on the exchange (rabbitmqctl set_permissions)")
	case answer.Code == amqp.NotFound && exchange != "":
		return s.fail(fmt.Sprintf("exchange %q does not exist", exchange), err, "create it, or correct exchange or exchange_expression")
	}
	return s.fail("the broker answers "+s.plainly(answer), err, "see the broker's log")
}

// plainly is the broker's text without what changes from one time to the next.
func (s *Sink) plainly(answer *amqp.Error) string {
	return neterr.Steady(located.ReplaceAllString(answer.Reason, `"..."`))
}
