package nats

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

var serverWords = neterr.Target{Name: "server", Key: "servers", NoTLS: "write nats:// in servers and remove tls"}

// Codes of a server's refusals that the client does not name. Source: server/errors.json of nats-server.
const (
	errStreamNotMatch       jetstream.ErrorCode = 10060
	errStreamStoreFailed    jetstream.ErrorCode = 10077
	errStreamSealed         jetstream.ErrorCode = 10109
	errHeaderExceedsMaximum jetstream.ErrorCode = 10097
)

// noStreamError is a subject that no stream takes, as JetStream itself says.
type noStreamError struct{ subject string }

func (n *noStreamError) Error() string {
	return fmt.Sprintf("no stream takes the subject %q", n.subject)
}

// createError is a stream that cannot be created.
type createError struct{ err error }

func (c *createError) Error() string { return c.err.Error() }
func (c *createError) Unwrap() error { return c.err }

func (s *Sink) fail(text string, err error, hint string) error {
	return neterr.Fail(neterr.At(s.servers, err)+": "+text, err, hint)
}

// judge says what is wrong, what to do about it, and whether another attempt can help. Only the size of an event is its
// own fault: a stream, a right or the login is corrected while the event waits.
func (s *Sink) judge(err error, subject string) error {
	var (
		code     *jetstream.APIError
		denied   *deniedError
		noStream *noStreamError
		file     *fileError
		creating *createError
	)
	about := fmt.Sprintf("subject %q: ", subject)
	switch {
	case err == nil, errors.Is(err, errClosed):
		return err
	case s.closed.Load():
		return errClosed
	case errors.As(err, &file):
		return retry.WithHint(file, "let the user that runs vodrelay read the file, and put a good secret in it")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return s.fail("no acknowledgement in time", err, "see the server's log, and the stream's replicas (nats stream info); or make the sink's timeout longer")
	case errors.As(err, &denied):
		return s.fail(denied.Error(), err,
			"allow the user to publish to the subject and to $JS.API.STREAM.*, and to subscribe to inbox_prefix")
	case errors.As(err, &noStream):
		return s.fail(noStream.Error(), err,
			"create a stream for it, correct subject or subject_expression, or set create_stream")
	case errors.Is(err, nats.ErrMaxPayload):
		return retry.Permanent(s.fail(about+"the event is too large for the server", err, "raise max_payload in the server's configuration"))
	case errors.As(err, &creating) && errors.As(err, &code):
		return s.fail(fmt.Sprintf("stream %q cannot be created: %s", s.cfg.Stream, neterr.Steady(code.Description)), err,
			"correct create_stream, or create the stream yourself")
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return s.fail("JetStream does not answer", err, "enable JetStream on the server and for the user's account, and set domain if it is another one's")
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return s.fail(about+"the stream does not answer", err, "see whether the stream has a leader (nats stream info)")
	case errors.As(err, &code):
		return s.refused(code, err, about)
	}
	return s.disconnected(err)
}

// refused is an answer of the stream.
func (s *Sink) refused(code *jetstream.APIError, err error, about string) error {
	switch code.ErrorCode { //nolint:exhaustive // the others are told apart by nothing
	case jetstream.JSErrCodeStreamMessageExceedsMaximum, errHeaderExceedsMaximum:
		return retry.Permanent(s.fail(about+"the event is too large for the stream", err, "raise max_msg_size of the stream"))
	case errStreamNotMatch:
		return s.fail(about+fmt.Sprintf("is not taken by the stream %q", s.cfg.Stream), err, "correct subject or stream")
	case errStreamSealed:
		return s.fail(about+"the stream is sealed", err, "write to another stream")
	case errStreamStoreFailed:
		return s.fail(about+"the stream stores nothing more: "+neterr.Steady(code.Description), err,
			"let its consumers catch up, raise its limits, or let it discard the oldest messages")
	}
	return s.fail(about+neterr.Steady(code.Description), err, "see the server's log, and the stream (nats stream info)")
}

// disconnected is a connection that was lost, or could not be made.
func (s *Sink) disconnected(err error) error {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrNkeysNotSupported):
		return s.fail("the login is refused", err, "check credentials_file, nkey_file, username and password, or token")
	case errors.Is(err, nats.ErrSecureConnWanted):
		return s.fail("it does not offer TLS", err, serverWords.NoTLS+", or enable TLS on the server")
	case isBroken(err):
		return s.fail("the connection was lost", err, "see the server's log; the event is sent again over a new connection")
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoServers):
		return s.fail("no connection in time", err, "check the host and port in servers, and the firewalls on the way")
	}
	text, hint := serverWords.Explain(err)
	return s.fail(text, err, hint)
}

// isBroken reports an error after which the connection is of no more use, that of a write included: how much
// of the message is on the way nobody knows.
func isBroken(err error) bool {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "write" {
		return true
	}
	for _, way := range []error{
		nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrStaleConnection, nats.ErrBadHeaderMsg,
		nats.ErrReconnectBufExceeded, nats.ErrInvalidConnection,
	} {
		if errors.Is(err, way) {
			return true
		}
	}
	return false
}
