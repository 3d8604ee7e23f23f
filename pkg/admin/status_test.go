package admin

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func TestStatus(t *testing.T) {
	store := &fakeStore{parcels: []event.Parcel{
		parcel(1, "site", event.ParcelWaiting), parcel(2, "site", event.ParcelWaiting), parcel(3, "site", event.ParcelDead),
		parcel(4, "-", event.ParcelDead), parcel(5, "gone", event.ParcelWaiting), parcel(6, "gone too", event.ParcelDead),
	}}
	opts := someOptions(store)
	s := start(t, Config{}, opts, defaultLimits)
	require.Eventually(t, func() bool { _, known := s.depths.total(); return known }, 5*time.Second, time.Millisecond)
	opts.Observer.PullDone(time.Second, 3, nil)
	opts.Observer.Confirmed(time.Millisecond, 3, 29*time.Second, nil)
	opts.Observer.Sent("archive", time.Millisecond, nil)

	got := s.get("/status")
	require.Equal(t, 200, got.status)
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	var st Status
	got.json(t, &st)
	require.True(t, st.Ready)
	require.Empty(t, st.Reasons)
	require.Equal(t, "v1.2.3", st.Version)
	require.EqualValues(t, 3, *st.QueueDepth)
	require.Len(t, st.Queues, 2)
	require.EqualValues(t, 2, *st.Queues[1].Depth)
	require.EqualValues(t, 3, st.InHand)
	require.Equal(t, 512, st.MaxInHand)
	require.NotNil(t, st.LastPull)
	require.NotNil(t, st.LastConfirm)
	require.EqualValues(t, 9, st.Unrouted)
	require.Equal(t, map[string]uint64{"NewFileUpload": 4, "New<b>": 3, "other": 2}, st.UnroutedTypes)
	require.Nil(t, st.LastSettled)
	require.Equal(t, &ParcelsStatus{
		Waiting: 3, Dead: 3, Bytes: st.Parcels.Bytes, MaxParcels: 1000, MaxBytes: 1 << 30, MaxShare: 50, LogBytes: 4096, Oldest: st.Parcels.Oldest,
	}, st.Parcels)
	require.WithinDuration(t, time.Now().Add(-6*time.Minute), *st.Parcels.Oldest, time.Minute)

	names := []string{}
	for _, sink := range st.Sinks {
		names = append(names, sink.Name)
	}
	require.Equal(t, []string{"site", "archive", "plain", "-", "(removed)"}, names)
	require.Equal(t, "open", st.Sinks[0].Breaker)
	require.Equal(t, []string{"down", "refusing", "unknown"}, []string{st.Sinks[0].State, st.Sinks[1].State, st.Sinks[2].State})
	require.Equal(t, 2, st.Sinks[0].FailedInARow)
	require.WithinDuration(t, time.Now().Add(-time.Minute), *st.Sinks[0].FailingSince, 30*time.Second)
	require.WithinDuration(t, time.Now(), *st.Sinks[0].LastFailed, time.Minute)
	require.Equal(t, "http://***@h/*** answered 503: <busy>\\u001b", st.Sinks[0].LastError)
	require.Equal(t, "start <it>", st.Sinks[0].Hint)
	require.Nil(t, st.Queues[0].PullFailing)
	require.Nil(t, st.StoreFailing)
	require.Equal(t, &FailingStatus{Since: st.Queues[1].PullFailing.Since, LastFailed: st.Queues[1].PullFailing.LastFailed, FailedInARow: 3, LastError: "no <route>\\u001b", Hint: "check <it>"}, st.Queues[1].PullFailing)
	require.EqualValues(t, 2, st.Sinks[0].Waiting)
	require.EqualValues(t, 1, st.Sinks[0].Dead)
	require.WithinDuration(t, time.Now().Add(-2*time.Minute), *st.Sinks[0].OldestWaiting, time.Minute)
	require.NotNil(t, st.Sinks[1].LastAccepted)
	require.EqualValues(t, 9, st.Sinks[1].Refused)
	require.Equal(t, 7, st.Sinks[1].RefusedInARow)
	require.WithinDuration(t, time.Now().Add(-3*time.Minute), *st.Sinks[1].RefusingSince, time.Minute)
	require.WithinDuration(t, time.Now(), *st.Sinks[1].LastRefused, time.Minute)
	require.Equal(t, "422: <too> large\\u001b", st.Sinks[1].LastRefusal)
	require.Equal(t, "less of <it>", st.Sinks[1].RefusalHint)
	require.Nil(t, st.Sinks[0].RefusingSince)
	require.EqualValues(t, 1, st.Sinks[4].Waiting)
	require.EqualValues(t, 1, st.Sinks[4].Dead)
	require.Equal(t, 0.006, *st.Sinks[0].ShareUsed, "3 of half of 1000")
	require.Zero(t, *st.Sinks[2].ShareUsed)
	require.Nil(t, st.Sinks[4].ShareUsed, "it stands for many")

	// What an autoscaler reads is a plain number at the top.
	var plain map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.body), &plain))
	require.Equal(t, 3.0, plain["queue_depth"])
}

// What targets answer is foreign text: where there is a token, it takes that to read it.
func TestStatusWithoutTheTokenHidesErrors(t *testing.T) {
	s := start(t, Config{Token: goodToken}, someOptions(nil), defaultLimits)
	foreign := []string{"busy", "start <it>", "too> large", "less of <it>", "no <route>", "check <it>", "New<b>"}
	hidden := s.get("/status")
	require.Equal(t, 200, hidden.status)
	all := s.get("/status", "Authorization", "Bearer "+goodToken)
	wrong := s.get("/status", "Authorization", "Bearer "+goodToken[1:])
	for _, text := range foreign {
		require.NotContains(t, hidden.body, text)
		require.NotContains(t, wrong.body, text)
		require.Contains(t, all.body, text)
	}
	var st Status
	hidden.json(t, &st)
	require.True(t, st.ErrorsHidden)
	require.Equal(t, map[string]uint64{"NewFileUpload": 4, "other": 5}, st.UnroutedTypes)
	require.Equal(t, 3, st.Queues[1].PullFailing.FailedInARow)
	require.NotNil(t, st.Sinks[0].FailingSince)
	require.NotContains(t, all.body, "errors_hidden")
}

// Digits that nobody can use say nothing.
func TestSharesAreRounded(t *testing.T) {
	opts := someOptions(&fakeStore{parcels: []event.Parcel{parcel(1, "site", event.ParcelWaiting)}})
	opts.MaxParcels, opts.MaxShare = 7, func() int { return 30 }
	s := start(t, Config{}, opts, defaultLimits)
	require.Contains(t, s.get("/status").body, "\"share_used\": 0.4762\n")
}

// A number that nobody knows is null, not 0: somebody scales by it.
func TestStatusOfWhatIsNotKnown(t *testing.T) {
	opts := someOptions(&fakeStore{err: errors.New("no connection")})
	opts.Depth = nil
	s := start(t, Config{}, opts, defaultLimits)
	var plain map[string]any
	require.NoError(t, json.Unmarshal([]byte(s.get("/status").body), &plain))
	require.Contains(t, plain, "queue_depth")
	require.Nil(t, plain["queue_depth"])
	require.Nil(t, plain["parcels"])
	require.Equal(t, false, plain["ready"])
	require.Equal(t, []any{"authenticated: no pull has succeeded yet: see the log, or run `vodrelay check`", "store: no connection"}, plain["reasons"])
}

func TestBySinkKeepsTheOldest(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	got := bySink([]Count{
		{"b", event.ParcelWaiting, 2, 20, at(50)}, {"x", event.ParcelDead, 1, 5, at(30)}, {"y", event.ParcelDead, 2, 6, at(20)},
	}, []SinkStats{{Name: "a"}, {Name: "b"}})
	require.Equal(t, []Count{
		{Sink: "a", State: event.ParcelWaiting}, {Sink: "a", State: event.ParcelDead},
		{"b", event.ParcelWaiting, 2, 20, at(50)}, {Sink: "b", State: event.ParcelDead},
		{Sink: "-", State: event.ParcelWaiting}, {Sink: "-", State: event.ParcelDead},
		{Sink: "(removed)", State: event.ParcelWaiting}, {"(removed)", event.ParcelDead, 3, 11, at(20)},
	}, got)
}

func TestCachedLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		c := cached[int]{look: func(ctx context.Context) (int, error) {
			looks++
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, lookTime, time.Until(deadline))
			require.NoError(t, ctx.Err(), "it is not only for the one who asked first")
			return looks, nil
		}}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 {
			v, err := c.get(canceled)
			require.NoError(t, err)
			require.Equal(t, 1, v)
		}
		time.Sleep(lookAge)
		v, _ := c.get(canceled)
		require.Equal(t, 2, v)
	})
}
