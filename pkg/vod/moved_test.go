package vod

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/internal/conns"
)

// TestPollsFollowANameThatMoves: a poller is never idle, so its connection has to end by its age.
func TestPollsFollowANameThatMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := emulator.NewNetwork()
		second := emulator.NewNetwork()
		server := emulator.New(emulator.Options{})
		ended := make(chan error, 2)
		for _, network := range []*emulator.Network{first, second} {
			go func() { ended <- server.Serve(network) }()
		}
		var moved atomic.Int64
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			if moved.Add(1) > 1 {
				return second.DialContext(ctx, network, address)
			}
			return first.DialContext(ctx, network, address)
		}
		cfg := testConfig()
		cfg.Credentials.SecretID, cfg.Credentials.SecretKey, cfg.Credentials.Token = emulator.DefaultSecretID, emulator.DefaultSecretKey, ""
		c, err := New(cfg, WithDialContext(dial))
		require.NoError(t, err)
		queue := c.Queue(testApp)
		for start := time.Now(); time.Since(start) < conns.MaxAge+time.Second; {
			_, err := queue.Pull(t.Context())
			require.NoError(t, err)
		}
		require.EqualValues(t, 2, moved.Load(), "connections of one poller")
		c.Close()
		server.Close()
		<-ended
		<-ended
	})
}
