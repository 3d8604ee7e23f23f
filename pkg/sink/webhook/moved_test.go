package webhook

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/internal/conns"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// TestABusySinkFollowsAName that moves while the old address still accepts events.
func TestABusySinkFollowsAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dialled, late atomic.Int64
		start := time.Now()
		networks := []*emulator.Network{emulator.NewNetwork(), emulator.NewNetwork()}
		for i, network := range networks {
			server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				if i == 0 && time.Since(start) > conns.MaxAge {
					late.Add(1)
				}
			})}
			go func() { _ = server.Serve(network) }()
			defer func() { _ = server.Close() }()
		}
		cfg := DefaultConfig()
		cfg.URL, cfg.Proxy = "http://example.com/vod", "none"
		s, err := New(cfg, zap.NewNop())
		require.NoError(t, err)
		transport, err := newTransport(cfg)
		require.NoError(t, err)
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return networks[min(dialled.Add(1)-1, 1)].DialContext(ctx, network, address)
		}
		s.conns = conns.NewHTTP(transport)
		for i := 0; time.Since(start) < 2*conns.MaxAge; i++ {
			require.NoError(t, s.Send(t.Context(), sinktest.Upload(i)))
			time.Sleep(100 * time.Millisecond)
		}
		require.Zero(t, late.Load(), "events to the old address")
		require.LessOrEqual(t, dialled.Load(), int64(3), "connections are kept")
		require.NoError(t, s.Close(t.Context()))
	})
}
