package relay_test

import (
	"testing"
	"time"

	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
)

func TestTheQueueInMemoryKeepsTheContract(t *testing.T) {
	relaytest.RunSource(t, func(*testing.T) relaytest.Harness {
		q := &relaytest.Queue{Hold: 5 * time.Second}
		return relaytest.Harness{Source: q, Publish: q.Publish, Unconfirmed: q.Unconfirmed, Close: func() {}}
	})
}
