//go:build linux

package hostile

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// Work in hand is bounded in bytes: a target that does not answer keeps a queue of huge events from being pulled, or
// claimed from the store, into memory.
func TestHugeEventsInHandAreBounded(t *testing.T) {
	t.Parallel()
	const events, most = 32, 450 // MiB; without the bound they take three times that, and 1,024 of them 15 GiB
	for _, config := range []string{
		"store: {driver: none}\n",
		"relay: {confirm: stored}\n",
	} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{MaxBatch: 1})
			_, err := w.cloud.AddFault(emulator.Fault{Kind: emulator.FaultBig, Count: 8 << 20, Rate: 1, Action: emulator.ActionPullEvents})
			require.NoError(t, err)
			w.cloud.Publish(testApp, emulator.GenerateUploads(events, 1)...)
			release := make(chan struct{})
			var taken atomic.Int64
			target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-release:
				case <-r.Context().Done():
				}
				if n, err := io.Copy(io.Discard, r.Body); err == nil && n > 8<<20 {
					taken.Add(1)
				}
			}))
			defer target.Close()
			open := func() { close(release) }
			defer func() { open() }()
			p := w.run(config + fmt.Sprintf("sinks: [{type: webhook, url: %q, timeout: 20s}]\n", target.URL))
			full := int64(6)
			if config != "store: {driver: none}\n" {
				full = events
			}
			p.eventually("there is no room for more", func() bool { return w.cloud.Counts().Delivered >= full })
			time.Sleep(3 * time.Second) // in which many would come
			open()
			open = func() {}
			p.eventually("all are confirmed", func() bool { return w.cloud.Counts().Confirmed == events })
			p.eventually("all are sent", func() bool { return taken.Load() >= events })
			t.Logf("peak %d MiB", p.peak())
			require.Less(t, p.peak(), most)
			p.stop()
		})
	}
}
