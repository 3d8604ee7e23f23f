//go:build unix

package rabbitmq

import (
	"net"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

// TestReturnBeforeConfirm has the broker's return and confirm of a message come at the same time: it is never
// taken for accepted.
func TestReturnBeforeConfirm(t *testing.T) {
	for range 100 {
		near, far := net.Pipe()
		c := &connection{
			wire:     &socket{Conn: near, raw: near},
			returns:  make(chan amqp.Return, 1),
			confirms: make(chan amqp.Confirmation, 2),
			closes:   make(chan *amqp.Error, 1),
			slots:    make(chan struct{}, 2),
			dying:    make(chan struct{}),
			finished: make(chan struct{}),
			pending:  make(map[uint64]*item),
		}
		var items []*item
		for tag, id := range []string{"a", "b"} {
			it := &item{exchange: "x", publishing: amqp.Publishing{MessageId: id}, outcome: make(chan struct{})}
			items = append(items, it)
			c.pending[uint64(tag+1)] = it
			c.slots <- struct{}{}
			c.confirms <- amqp.Confirmation{DeliveryTag: uint64(tag + 1), Ack: true}
		}
		c.returns <- amqp.Return{MessageId: "b", Exchange: "x", ReplyCode: amqp.NoRoute}
		close(c.confirms)
		c.settleAll()
		<-items[0].outcome
		<-items[1].outcome
		require.NoError(t, items[0].err)
		require.IsType(t, &returnedError{}, items[1].err)
		require.NoError(t, far.Close())
	}
}

// TestBlame has what the broker says when it closes a channel, and which message is meant.
func TestBlame(t *testing.T) {
	for reason, want := range map[string]map[string]bool{
		"NOT_FOUND - no exchange 'x' in vhost '/'":                                                  {"x": true, "y": false, "": false},
		"ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'u'":           {"x": true, "y": false},
		"ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'u'": {"": true, "x": false},
		"PRECONDITION_FAILED - message size 3 is larger than configured max size 2":                 {"x": true},
		"PRECONDITION_FAILED - message size 4 is larger than configured max size 2":                 {"x": false},
		"CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'":               {"x": false},
	} {
		for exchange, blame := range want {
			it := &item{exchange: exchange, publishing: amqp.Publishing{Body: []byte("abc")}}
			require.Equal(t, blame, it.blameable(&amqp.Error{Reason: reason, Server: true}), reason)
		}
	}
}
