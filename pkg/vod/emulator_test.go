package vod

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const testApp = 1500000001

// emulated is a client of an emulator; both share a synctest bubble.
func emulated(t *testing.T, opts emulator.Options, change ...func(*Config)) (*emulator.Server, *Client) {
	srv, network := emulator.New(opts), emulator.NewNetwork()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(network)
	}()
	t.Cleanup(func() { srv.Close(); <-ended })
	cfg := testConfig()
	cfg.Credentials.SecretID, cfg.Credentials.SecretKey, cfg.Credentials.Token = emulator.DefaultSecretID, emulator.DefaultSecretKey, ""
	for _, c := range change {
		c(&cfg)
	}
	c, err := New(cfg, WithDialContext(network.DialContext))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return srv, c
}

func handlesOf(deliveries []event.Delivery) []string {
	var handles []string
	for _, d := range deliveries {
		handles = append(handles, d.Handle)
	}
	return handles
}

func TestEmulatorRound(t *testing.T) {
	t.Parallel()
	for _, variants := range []emulator.Variants{
		{}, {Empty: emulator.EmptyNull, NullFields: emulator.NullsDocumented}, {Empty: emulator.EmptyArray, StableHandles: true}, {Empty: emulator.EmptyAbsent},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			srv, c := emulated(t, emulator.Options{Variants: variants})
			contents, err := emulator.Generate(emulator.Generation{Count: 40, Seed: 1, Types: []string{emulator.TypesAll}})
			require.NoError(t, err)
			srv.Publish(testApp, contents...)
			depth, err := c.QueueDepth(ctx, testApp)
			require.NoError(t, err)
			require.Equal(t, uint64(40), depth)

			q := c.Queue(testApp)
			ids := map[string]bool{}
			for _, want := range []int{16, 16, 8} {
				got, err := q.Pull(ctx)
				require.NoError(t, err)
				require.Len(t, got, want)
				for _, d := range got {
					require.NotEqual(t, event.Unknown, d.Type)
					ids[d.ID] = true
				}
				require.NoError(t, q.Confirm(ctx, handlesOf(got)))
			}
			require.Len(t, ids, 40)
			start := time.Now()
			got, err := q.Pull(ctx)
			require.NoError(t, err)
			require.Empty(t, got)
			require.Equal(t, 5*time.Second, time.Since(start))
			require.Equal(t, int64(40), srv.Counts().Confirmed)
			require.Empty(t, srv.Pending())
		})
	}
}

// Whatever goes wrong, a call ends with an error that may pass, or with what was asked for; and the event
// comes back with the same ID.
func TestEmulatorFaults(t *testing.T) {
	t.Parallel()
	for _, kind := range emulator.FaultKinds() {
		for _, after := range []bool{false, true} {
			t.Run(string(kind), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx := context.Background()
					srv, c := emulated(t, emulator.Options{})
					q := c.Queue(testApp)
					srv.Publish(testApp, emulator.GenerateUploads(1, 1)...)
					first, err := q.Pull(ctx) // so that the connection is a reused one
					require.NoError(t, err)
					require.Len(t, first, 1)
					time.Sleep(event.LeaseTime)

					_, err = srv.AddFault(emulator.Fault{Kind: kind, Action: emulator.ActionPullEvents, After: after, Times: 2, Delay: 7 * time.Second})
					if err != nil {
						t.Skip("not with After: " + err.Error())
					}
					for range 2 {
						start := time.Now()
						_, err := q.Pull(ctx)
						require.LessOrEqual(t, time.Since(start), 15*time.Second)
						if err != nil {
							require.False(t, retry.IsPermanent(err), err)
							require.NotErrorIs(t, err, context.Canceled)
						}
					}
					srv.ClearFaults()
					time.Sleep(event.LeaseTime)
					again, err := q.Pull(ctx)
					require.NoError(t, err)
					require.Len(t, again, 1)
					require.Equal(t, first[0].ID, again[0].ID)
					require.Equal(t, string(first[0].Raw), string(again[0].Raw))

					if _, err = srv.AddFault(emulator.Fault{Kind: kind, Action: emulator.ActionConfirmEvents, After: after, Delay: 2 * time.Second}); err == nil {
						if err := q.Confirm(ctx, handlesOf(again)); err == nil {
							require.Empty(t, srv.Pending(), "a confirm that was believed did not happen")
						}
					}
				})
			})
		}
	}
}

func TestEmulatorRefusals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) { // a handle whose lease ran out
		srv, c := emulated(t, emulator.Options{})
		srv.Publish(testApp, emulator.GenerateUploads(2, 1)...)
		got, err := c.Queue(testApp).Pull(ctx)
		require.NoError(t, err)
		time.Sleep(event.LeaseTime + time.Second)
		err = c.Queue(testApp).Confirm(ctx, handlesOf(got))
		require.ErrorIs(t, err, event.ErrStaleHandle)
		require.False(t, retry.IsPermanent(err))
	})
	synctest.Test(t, func(t *testing.T) { // another SecretKey
		_, c := emulated(t, emulator.Options{}, func(cfg *Config) { cfg.Credentials.SecretKey = testKey })
		_, err := c.Queue(testApp).Pull(ctx)
		require.ErrorContains(t, err, "AuthFailure.SignatureFailure")
		require.True(t, retry.IsPermanent(err))
	})
	synctest.Test(t, func(t *testing.T) { // a wrong clock
		srv, c := emulated(t, emulator.Options{ClockSkew: time.Hour})
		_, err := c.Queue(testApp).Pull(ctx)
		require.ErrorContains(t, err, "AuthFailure.SignatureExpire")
		require.Contains(t, retry.Hint(err), "this machine's clock is 1h0m0s behind the server's")
		srv.SetClockSkew(4 * time.Minute)
		_, err = c.Queue(testApp).Pull(ctx)
		require.NoError(t, err)
	})
	synctest.Test(t, func(t *testing.T) { // another application
		_, c := emulated(t, emulator.Options{SubAppIDs: []uint64{testApp}})
		_, err := c.Queue(testApp + 1).Pull(ctx)
		require.True(t, retry.IsPermanent(err))
		require.Contains(t, retry.Hint(err), "vod.sub_app_ids")
		err = c.Queue(testApp+1).Confirm(ctx, []string{"x"})
		require.True(t, retry.IsPermanent(err))
		require.NotErrorIs(t, err, event.ErrStaleHandle)
	})
	synctest.Test(t, func(t *testing.T) { // over the quota
		_, c := emulated(t, emulator.Options{Quotas: map[string]int{emulator.ActionDescribeEventsState: 1}})
		_, err := c.QueueDepth(ctx, testApp)
		require.NoError(t, err)
		_, err = c.QueueDepth(ctx, testApp)
		require.EqualError(t, err, "DescribeEventsState: RequestLimitExceeded")
		require.NoError(t, retry.Sleep(ctx, retry.Delay(err)))
		_, err = c.QueueDepth(ctx, testApp)
		require.NoError(t, err)
	})
}

// Whether an attempt that failed may have been carried out is what a drain and the memory of events rest on:
// where the emulator leased the event, the error must leave it open.
func TestWhatAFailedPullLeavesOpen(t *testing.T) {
	t.Parallel()
	for _, kind := range emulator.FaultKinds() {
		for _, after := range []bool{false, true} {
			fault := emulator.Fault{Kind: kind, Action: emulator.ActionPullEvents, After: after, Delay: time.Hour}
			if fault.Validate() != nil {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				srv, c := emulated(t, emulator.Options{})
				srv.Publish(testApp, emulator.GenerateUploads(1, 1)...)
				_, err := srv.AddFault(fault)
				require.NoError(t, err)
				got, err := c.Queue(testApp).Pull(context.Background())
				leased := srv.Counts().Delivered > 0
				require.False(t, leased && len(got) == 0 && retry.HadNoEffect(err), "%s, after %v: %v", kind, after, err)
				srv.ReleaseHung()
			})
		}
	}
	refused := client(t, answer(emptyReply), WithDialContext(func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed}
	}))
	_, err := refused.Queue(testApp).Pull(t.Context())
	require.Error(t, err)
	require.True(t, retry.HadNoEffect(err), "never sent")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = refused.Queue(testApp).Pull(cancelled)
	require.True(t, retry.HadNoEffect(err), "never sent")
}

// Keys are rotated at the server and in the file; the relay goes on.
func TestEmulatorRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		path := file(t, filepath.Join(t.TempDir(), "key"), "secret_id=old\nsecret_key=k1\n")
		srv, c := emulated(t, emulator.Options{Credentials: map[string]emulator.Credential{"old": {SecretKey: "k1"}}},
			func(cfg *Config) { cfg.Credentials = with("file", func(c *CredentialsConfig) { c.File = path }) })
		_, err := c.Queue(testApp).Pull(ctx)
		require.NoError(t, err)
		srv.SetCredentials(map[string]emulator.Credential{"new": {SecretKey: "k2", Token: "t"}})
		_, err = c.Queue(testApp).Pull(ctx)
		require.ErrorContains(t, err, "AuthFailure.")
		require.False(t, retry.IsPermanent(err))
		file(t, path, "secret_id=new\nsecret_key=k2\ntoken=t\n")
		time.Sleep(retry.Delay(err))
		_, _ = c.Queue(testApp).Pull(ctx) // notices
		synctest.Wait()
		_, err = c.Queue(testApp).Pull(ctx)
		require.NoError(t, err)
	})
}

func TestEmulatorEventConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		_, c := emulated(t, emulator.Options{Mode: emulator.ModePush})
		before, err := c.EventConfig(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, EventConfig{Mode: ModePush, UploadMediaComplete: On, DeleteMediaComplete: On, PersistenceComplete: On}, before)
		address := "https://example.com/vod"
		change := before.Change()
		change.NotificationURL = &address
		require.NoError(t, c.SetEventConfig(ctx, testApp, change))
		change = before.Change()
		change.Mode, change.DeleteMediaComplete = ModePull, Off
		require.NoError(t, c.SetEventConfig(ctx, testApp, change))
		after, err := c.EventConfig(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, EventConfig{Mode: ModePull, NotificationURL: address, UploadMediaComplete: On, DeleteMediaComplete: Off, PersistenceComplete: On}, after)
	})
}

func TestEmulatorKeepsBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		content := `{"EventType":"New","P":{"a":9007199254740993,"b":0.10,"c":1e21,"d":"<\u003c` + "\u2028" + `😀"},"Q":null}`
		srv, c := emulated(t, emulator.Options{})
		srv.Publish(testApp, json.RawMessage(content))
		got, err := c.Queue(testApp).Pull(context.Background())
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, content, string(got[0].Raw))
	})
}

// An application in PUSH mode is waited for, whatever PullEvents answers then, until a change of mode has effect; one
// that does not exist is not.
func TestAnApplicationInPushModeIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, v := range emulator.AllVariants() {
		if v.Question != emulator.AskPushMode {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				opts := emulator.Options{Mode: emulator.ModePush, ModeDelay: 10 * time.Minute, SubAppIDs: []uint64{testApp}}
				require.NoError(t, opts.Choose(v.Name))
				srv, c := emulated(t, opts)
				ctx := context.Background()
				const inPush = "vodrelay mode pull"
				refused := func(hint string) {
					t.Helper()
					_, err := c.Queue(testApp).Pull(ctx)
					require.False(t, retry.IsPermanent(err), err)
					require.Equal(t, err != nil, retry.HadNoEffect(err) || v.Name == "push-mode-failed-operation")
					if err != nil && (hint == inPush || v.Name != "push-mode-failed-operation") {
						require.Contains(t, retry.Hint(err), hint)
						require.Equal(t, modeDelay, retry.Delay(err))
						require.ErrorIs(t, err, event.ErrQueueClosed)
					}
				}
				refused(inPush)
				settings, err := c.EventConfig(ctx, testApp)
				require.NoError(t, err)
				change := settings.Change()
				change.Mode = ModePull
				require.NoError(t, c.SetEventConfig(ctx, testApp, change))
				refused("up to 10 minutes")
				time.Sleep(10 * time.Minute)
				srv.Publish(testApp, emulator.GenerateUploads(1, 1)...)
				got, err := c.Queue(testApp).Pull(ctx)
				require.NoError(t, err)
				require.Len(t, got, 1)
				_, err = c.Queue(7).Pull(ctx)
				require.True(t, retry.IsPermanent(err), err)
			})
		})
	}
}
