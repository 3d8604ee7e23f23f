package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/relay"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// TestDrainChaos drains over the SDK while pulls, confirms and counts go wrong in every way, after another
// consumer pulled some of the events and was killed. What it calls empty is empty, and it always gets there.
func TestDrainChaos(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				half := func() bool { return random.IntN(2) == 0 }
				opts := emulator.Options{
					Seed:    seed,
					Latency: time.Duration(random.IntN(100)) * time.Millisecond,
				}
				require.NoError(t, opts.Choose(dealt(seed+1)...))
				cloud, client := drainable(t, opts)
				cloud.Publish(chaosApp, emulator.GenerateUploads(1+random.IntN(400), seed)...)
				for range random.IntN(10) { // another consumer
					_, err := client.Queue(chaosApp).Pull(t.Context())
					require.NoError(t, err)
				}
				for _, kind := range emulator.FaultKinds() {
					f := emulator.Fault{Kind: kind, Rate: 0.04 * random.Float64(), After: half()}
					switch kind {
					case emulator.FaultClockSkew: // a refused key ends a drain
						continue
					case emulator.FaultOddItems, emulator.FaultDeep, emulator.FaultBig: // these are other events than were published
						continue
					case emulator.FaultExtraItems:
						f.Count = 5000
					case emulator.FaultLatency, emulator.FaultStall, emulator.FaultHang, emulator.FaultTooManyRequests:
						f.Delay = time.Duration(1+random.IntN(9)) * time.Second // less than the client waits: a lease begins before the poll ends
					default:
					}
					if f.Validate() != nil {
						f.After = false
					}
					_, err := cloud.AddFault(f)
					require.NoError(t, err, kind)
				}
				sum, err := drain(t, client, relay.DefaultDrain())
				require.NoError(t, err)
				require.Empty(t, cloud.Pending())
				require.True(t, sum.Empty, "%+v", sum)
			})
		})
	}
}

// What VOD counts lags, and may contain what others hold: a drain goes on for as long as that explains it.
func TestADrainGoesByWhatVODCounts(t *testing.T) {
	t.Run("late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cloud, client := drainable(t, emulator.Options{StateLag: 3 * time.Minute})
			cloud.Publish(chaosApp, emulator.GenerateUploads(200, 1)...)
			began := time.Now()
			sum, err := drain(t, client, relay.DefaultDrain())
			require.NoError(t, err)
			require.True(t, sum.Empty)
			require.InDelta(t, 185, time.Since(began).Seconds(), 8)
			require.Less(t, sum.Elapsed, 10*time.Second)
		})
	})
	t.Run("with what a living consumer holds again and again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cloud, client := drainable(t, emulator.Options{Variants: emulator.Variants{CountLeased: true}})
			cloud.Publish(chaosApp, emulator.GenerateUploads(16, 1)...)
			ctx, cancel := context.WithCancel(t.Context())
			hold := func() { _, _ = client.Queue(chaosApp).Pull(ctx) }
			hold()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for ctx.Err() == nil {
					hold() // before the drain, which polls once a few seconds
				}
			}()
			sum, err := drain(t, client, relay.DefaultDrain())
			cancel()
			<-ended
			require.NoError(t, err)
			require.Equal(t, len(cloud.Pending()), int(sum.Counted))
			require.Equal(t, len(cloud.Pending()) == 0, sum.Empty)
		})
	})
}

// drainable is an emulator over a network in memory, and a client of it.
func drainable(t *testing.T, opts emulator.Options) (*emulator.Server, *vod.Client) {
	cloud, network := emulator.New(opts), emulator.NewNetwork()
	serving := make(chan error, 1)
	go func() { serving <- cloud.Serve(network) }()
	client := clientOver(t, network)
	t.Cleanup(func() {
		client.Close()
		cloud.Close()
		require.NoError(t, <-serving)
		_ = network.Close()
	})
	return cloud, client
}

// clientOver is a client of the emulator that serves the network.
func clientOver(t *testing.T, network *emulator.Network) *vod.Client {
	cfg := vod.DefaultConfig()
	cfg.Endpoint = "http://emulator.test"
	cfg.Credentials.Provider = "static"
	cfg.Credentials.SecretID, cfg.Credentials.SecretKey = emulator.DefaultSecretID, emulator.DefaultSecretKey
	client, err := vod.New(cfg, vod.WithDialContext(network.DialContext))
	require.NoError(t, err)
	return client
}

// drain relays to a handler that accepts everything, and asks VOD for its count as the app does.
func drain(t *testing.T, client *vod.Client, opts relay.DrainOptions) (relay.Summary, error) {
	accept := relay.HandlerFunc(func(context.Context, event.Delivery) error { return nil })
	r, err := relay.New(relay.DefaultConfig(), nil, accept, client.Queue(chaosApp))
	require.NoError(t, err)
	opts.Depth = client.QueueDepth
	return r.Drain(t.Context(), opts)
}
