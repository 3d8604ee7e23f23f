package pipeline

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
)

// What a sink did last says how it stands: a refusal blames the event, a failure the sink, and an accepted event ends both.
func TestHowASinkStands(t *testing.T) {
	refusal := retry.Permanent(retry.WithHint(errors.New("refused"), "see its log"))
	down := retry.WithHint(errDown, "start it")
	refused := func(s *standing) { s.missed(refusal) }
	failed := func(s *standing) { s.failed(down); s.missed(down) }
	notTried := func(s *standing) { s.missed(fmt.Errorf("%w: no place", retry.ErrNotTried)) }
	for _, tt := range []struct {
		name  string
		steps []func(*standing)
		state State
		since time.Duration // when the first failure was, of those since the last accepted event; -1: never
	}{
		{"nothing was sent", nil, StateUnknown, -1},
		{"an event was accepted", []func(*standing){(*standing).accepted}, StateUp, -1},
		{"an event was refused", []func(*standing){refused}, StateRefusing, 0},
		{"an attempt failed, and the delivery goes on", []func(*standing){func(s *standing) { s.failed(down) }}, StateFailing, 0},
		{"an event was not tried", []func(*standing){notTried}, StateFailing, -1},
		{"a refusal after a failure", []func(*standing){failed, refused}, StateRefusing, 0},
		{"a failure after a refusal", []func(*standing){refused, failed}, StateFailing, 0},
		{"accepted after both", []func(*standing){refused, failed, (*standing).accepted}, StateUp, -1},
		{"a failure after an accepted one after a refusal", []func(*standing){refused, (*standing).accepted, failed}, StateFailing, 2 * time.Second},
		{"not tried after an accepted one after a refusal", []func(*standing){refused, (*standing).accepted, notTried}, StateFailing, -1},
		{"a refusal after an accepted one", []func(*standing){(*standing).accepted, refused, refused}, StateRefusing, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, began := &standing{}, time.Now()
				for _, step := range tt.steps {
					step(s)
					time.Sleep(time.Second)
				}
				state, f, _ := s.read()
				require.Equal(t, tt.state, state)
				if tt.since < 0 {
					require.Zero(t, f.Since)
				} else {
					require.Equal(t, began.Add(tt.since), f.Since)
				}
			})
		})
	}

	synctest.Test(t, func(t *testing.T) {
		s, began := &standing{}, time.Now()
		for range 3 {
			refused(s)
			time.Sleep(time.Second)
		}
		failed(s)
		_, f, r := s.read()
		require.Equal(t, Failing{InARow: 4, Since: began, Last: time.Now(), Error: "target down", Hint: "start it"}, f)
		require.Equal(t, Refusals{Total: 3, InARow: 3, Since: began, Last: began.Add(2 * time.Second), Error: "refused", Hint: "see its log"}, r)
		s.accepted()
		_, f, r = s.read()
		require.Equal(t, Failing{Last: time.Now(), Error: "target down", Hint: "start it"}, f, "what it failed with last stays to be read")
		require.Equal(t, Refusals{Total: 3, Last: began.Add(2 * time.Second), Error: "refused", Hint: "see its log"}, r)
	})
}

// A reload that changes the route and not its sink keeps what is known of how it stands; another sink is unknown.
func TestStandingOverAReload(t *testing.T) {
	s := &target{err: errDown}
	p := build(t, nil, Route{Name: "site", Sink: s})
	require.Error(t, p.Handle(t.Context(), delivery(t, upload)))
	before := p.Stats().Sinks[0]
	require.NoError(t, p.Replace(nil, []Route{{Name: "site", Sink: s, Timeout: time.Second}}))
	after := p.Stats().Sinks[0]
	require.Equal(t, StateFailing, after.State)
	require.Equal(t, before.Failing, after.Failing)
	require.NoError(t, p.Replace(nil, []Route{{Name: "site", Sink: &target{}}}))
	require.Equal(t, StateUnknown, p.Stats().Sinks[0].State)
	require.NoError(t, p.Close(t.Context()))
}
