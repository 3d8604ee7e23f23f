package admin

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// client asks s with its own token.
func (r *running) client() *Client {
	r.t.Helper()
	cfg := r.cfg
	cfg.Listen = r.Addr().String()
	c, err := NewClient(cfg)
	require.NoError(r.t, err)
	return c
}

func TestClient(t *testing.T) {
	store := &fakeStore{changed: 3}
	for n := range 5 {
		store.parcels = append(store.parcels, parcel(n, "site & co", event.ParcelDead))
	}
	c := start(t, Config{Token: goodToken}, someOptions(store), defaultLimits).client()
	ctx := t.Context()

	st, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, "v1.2.3", st.Version)

	filter := Filter{State: event.ParcelDead, Sink: "site & co", Type: "T+", EventID: "00000000", Error: "50% of #1",
		OlderThan: time.Now().Add(-time.Minute).UTC(), NewerThan: time.Now().Add(-time.Hour).UTC()}
	page, err := c.List(ctx, filter, "", 3)
	require.NoError(t, err)
	require.Len(t, page.Parcels, 3)
	require.Equal(t, filter, store.filters[0])
	page, err = c.List(ctx, Filter{}, page.Next, 3)
	require.NoError(t, err)
	require.Len(t, page.Parcels, 2)
	require.Empty(t, page.Next)
	_, err = c.List(ctx, Filter{}, "", 1_000_000)
	require.NoError(t, err)

	found, err := c.Get(ctx, store.parcels[1].ID, "site & co")
	require.NoError(t, err)
	require.JSONEq(t, string(store.parcels[1].Raw), string(found[0].Content))

	found, err = c.Get(ctx, store.parcels[1].ID[:31], "")
	var ambiguous *selection.AmbiguousError
	require.ErrorAs(t, err, &ambiguous)
	require.Empty(t, found)
	require.Len(t, ambiguous.Matches, 5)
	require.Equal(t, []string{"ids"}, ambiguous.Narrow())

	store.filters = nil
	sink := "site & co"
	plan, err := c.Plan(ctx, selection.Selection{Sink: &sink, NewerThan: new("1h")})
	require.NoError(t, err)
	require.Equal(t, []selection.Group{{Sink: sink, State: event.ParcelDead, Parcels: 5}}, plan.Groups)
	require.Len(t, plan.Few, 5)
	require.Empty(t, store.filters, "nothing was changed")
	n, err := c.Replay(ctx, plan.Selection)
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	n, err = c.Drop(ctx, selection.Selection{All: true})
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	require.Len(t, store.filters, 2)
	require.WithinDuration(t, time.Now().Add(-time.Hour), store.filters[0].NewerThan, time.Minute)
	store.filters[0].NewerThan = time.Time{}
	require.Equal(t, []Filter{{Sink: sink, Before: 77}, {}}, store.filters)

	plan, err = c.PlanMove(ctx, selection.Move{From: sink, To: "site"})
	require.NoError(t, err)
	require.EqualValues(t, 5, plan.Parcels)
	require.EqualValues(t, 77, plan.Selection.Before)
	require.Empty(t, store.moves)
	_, err = c.PlanMove(ctx, selection.Move{From: sink, To: "sit"})
	require.EqualError(t, err, "there is no such sink")
	require.Equal(t, "did you mean site?", retry.Hint(err))
	moved, err := c.Move(ctx, selection.Move{From: sink, To: "site", Before: 77})
	require.NoError(t, err)
	require.Equal(t, selection.Moved{Parcels: 3, Collisions: 2}, moved)
	require.Equal(t, []selection.Move{{From: sink, To: "site", Before: 77}}, store.moves)
}

func TestClientErrors(t *testing.T) {
	store := &fakeStore{changed: 2}
	s := start(t, Config{Token: goodToken}, someOptions(store), defaultLimits)
	c := s.client()
	_, err := c.Get(t.Context(), "abcdabcd", "")
	var refusal *RefusedError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, 404, refusal.Status)
	require.ErrorContains(t, err, "no parcel of an event whose ID begins with abcdabcd")

	store.fail(retry.WithHint(errors.New("the disk is full"), "make room"))
	n, err := c.Drop(t.Context(), selection.Selection{All: true})
	require.EqualError(t, err, "the disk is full")
	require.Equal(t, "make room", retry.Hint(err))
	require.EqualValues(t, 2, n)

	c.token = func() (string, error) { return "", nil }
	_, err = c.List(t.Context(), Filter{}, "", 1)
	require.ErrorContains(t, err, "send the configured token")
	c.token = func() (string, error) { return "", errors.New("is empty") }
	_, err = c.Status(t.Context())
	require.EqualError(t, err, "token_file: is empty")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.client().Status(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrNoServer)
}

func TestClientWithoutServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	c, err := NewClient(Config{Listen: address})
	require.NoError(t, err)
	_, err = c.Status(t.Context())
	require.ErrorIs(t, err, ErrNoServer)
	_, err = NewClient(Config{})
	require.Error(t, err)
}

func TestClientFindsItsServer(t *testing.T) {
	for listen, want := range map[string]string{
		":9464": "http://127.0.0.1:9464", "0.0.0.0:1": "http://127.0.0.1:1", "[::]:1": "http://[::1]:1",
		"127.0.0.1:9464": "http://127.0.0.1:9464", "localhost:2": "http://localhost:2", "10.0.0.1:3": "http://10.0.0.1:3",
	} {
		c, err := NewClient(Config{Listen: listen, Token: goodToken})
		require.NoError(t, err)
		require.Equal(t, want, c.base)
	}
}
