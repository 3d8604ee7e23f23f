package vod_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/relay/relaytest"
	"github.com/vodrelay/vodrelay/pkg/vod"
)

// TestTheQueueKeepsTheContract runs the suite of every relay.Source over the emulator, once for each way in
// which the real service might answer that its queue is empty.
func TestTheQueueKeepsTheContract(t *testing.T) {
	const app = 1500000001
	for _, empty := range []emulator.EmptyAnswer{emulator.EmptyError, emulator.EmptyNull, emulator.EmptyArray, emulator.EmptyAbsent} {
		t.Run(string(empty), func(t *testing.T) {
			relaytest.RunSource(t, func(t *testing.T) relaytest.Harness {
				cloud := emulator.New(emulator.Options{Variants: emulator.Variants{Empty: empty}})
				network := emulator.NewNetwork()
				served := make(chan error, 1)
				go func() { served <- cloud.Serve(network) }()

				cfg := vod.DefaultConfig()
				cfg.Endpoint = "http://emulator.test"
				cfg.Credentials.Provider = "static"
				cfg.Credentials.SecretID, cfg.Credentials.SecretKey = emulator.DefaultSecretID, emulator.DefaultSecretKey
				client, err := vod.New(cfg, vod.WithDialContext(network.DialContext))
				require.NoError(t, err)
				return relaytest.Harness{
					Source: client.Queue(app),
					Publish: func(contents ...string) {
						for _, c := range contents {
							cloud.Publish(app, json.RawMessage(c))
						}
					},
					Unconfirmed: func() int { return len(cloud.Pending()) },
					Close: func() {
						client.Close()
						cloud.Close()
						require.NoError(t, <-served)
					},
				}
			})
		})
	}
}
