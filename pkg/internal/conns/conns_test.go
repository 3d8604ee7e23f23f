package conns

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// host answers with its name, after the time in the query, and counts its connections.
type host struct {
	*httptest.Server
	network *emulator.Network
	open    atomic.Int64
	made    atomic.Int64
}

func newHost(t *testing.T, name string, http2 bool) *host {
	h := &host{network: emulator.NewNetwork()}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		time.Sleep(wait)
		_, _ = io.WriteString(w, name+" "+r.Proto)
	}))
	require.NoError(t, h.Listener.Close())
	h.Listener = h.network
	h.EnableHTTP2 = http2
	h.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			h.made.Add(1)
			h.open.Add(1)
		case http.StateClosed:
			h.open.Add(-1)
		default:
		}
	}
	h.StartTLS()
	return h
}

// TestABusyConnectionFollowsAName that moves, within MaxAge, and no request in flight fails for it.
func TestABusyConnectionFollowsAName(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
		t.Run(proto, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before, after := newHost(t, "before", http2), newHost(t, "after", http2)
				var moved atomic.Bool
				transport := before.Client().Transport.(*http.Transport).Clone()
				transport.TLSClientConfig.InsecureSkipVerify = true
				transport.ForceAttemptHTTP2, transport.MaxIdleConnsPerHost = http2, 16
				transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					if moved.Load() {
						return after.network.DialContext(ctx, network, address)
					}
					return before.network.DialContext(ctx, network, address)
				}
				h := NewHTTP(transport)
				get := func(wait string) string {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/?wait="+wait, nil)
					require.NoError(t, err)
					res, err := h.RoundTrip(req)
					require.NoError(t, err)
					text, err := io.ReadAll(res.Body)
					require.NoError(t, err)
					require.NoError(t, res.Body.Close())
					name, got, _ := strings.Cut(string(text), " ")
					require.Equal(t, proto, got)
					return name
				}
				start := time.Now()
				var busy sync.WaitGroup
				busy.Go(func() { require.Equal(t, "before", get("330s")) }) // is under way when the connections are replaced
				synctest.Wait()
				moved.Store(true)
				for range 8 {
					busy.Go(func() {
						for time.Since(start) < 2*MaxAge {
							sent := time.Now()
							if name := get("700ms"); sent.Sub(start) > MaxAge {
								require.Equal(t, "after", name, "sent after %s", sent.Sub(start))
							}
						}
					})
				}
				busy.Wait()
				synctest.Wait()
				require.Zero(t, before.open.Load(), "connections to the old address")
				require.NotZero(t, after.made.Load())
				require.LessOrEqual(t, after.made.Load(), int64(3*8), "a connection serves many requests")

				h.Renew()
				require.Equal(t, "after", get("0s"))
				h.CloseIdleConnections()
				synctest.Wait()
				require.Zero(t, after.open.Load(), "connections at the end")
				before.Close()
				after.Close()
			})
		})
	}
}
