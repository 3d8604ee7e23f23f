package sinktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// deadline is a context for one step that is expected to succeed.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	t.Cleanup(cancel)
	return ctx
}

func everyByteArrives(t *testing.T, h Harness) {
	odd := OddEvents()
	for name, e := range odd {
		require.NoError(t, h.Sink.Send(deadline(t), e), name)
	}
	h.requireReceived(t, slices.Collect(maps.Values(odd))...)
}

func sentTwice(t *testing.T, h Harness) {
	e := Upload(0)
	require.NoError(t, h.Sink.Send(deadline(t), e))
	require.NoError(t, h.Sink.Send(deadline(t), e))
	h.requireReceived(t, e)
}

// deduplication sends what is equal but for the application, each twice: a reader can tell what came twice, and does
// not take what two applications report for one event.
func deduplication(t *testing.T, h Harness) {
	if h.IDs == nil {
		t.Skip("the target shows no ID")
	}
	times := 2
	if h.Deduplicates {
		times = 1
	}
	applications := []uint64{1500000001, 1500000002, 0}
	for _, application := range applications {
		e := Upload(0)
		e.SubAppID = application
		require.NoError(t, h.Sink.Send(deadline(t), e))
		require.NoError(t, h.Sink.Send(deadline(t), e))
	}
	copies := make(map[string]int)
	for _, id := range h.IDs(t) {
		require.NotEmpty(t, id)
		copies[id]++
	}
	require.Len(t, copies, len(applications), "each application's event has an ID of its own")
	for id, n := range copies {
		require.Equal(t, times, n, id)
	}
}

func concurrent(t *testing.T, h Harness) {
	const senders, each = 8, 12
	events := make([]event.Event, senders*each)
	for i := range events {
		events[i] = Upload(i)
	}
	ctx := deadline(t)
	var group errgroup.Group
	for mine := range slices.Chunk(events, each) {
		group.Go(func() error {
			for _, e := range mine {
				if err := h.Sink.Send(ctx, e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	h.requireReceived(t, events...)
}

// huge sends the biggest event that the target takes, and one that is too big for it if there is such.
func huge(t *testing.T, h Harness) {
	size := 5_000_000
	if h.MaxBody > 0 {
		err := h.Sink.Send(deadline(t), sized(t, h.MaxBody+1))
		require.Error(t, err)
		require.True(t, retry.IsPermanent(err), "an event over the target's limit can never succeed: %v", err)
		require.NotEmpty(t, retry.Hint(err))
		size = min(size, h.MaxBody)
	}
	e := sized(t, size)
	require.NoError(t, h.Sink.Send(deadline(t), e))
	h.requireReceived(t, e)
}

// cancelled sends under a context that is over. The sink may have accepted the event all the same, but
// then it must be there.
func cancelled(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	start := time.Now()
	e := Upload(0)
	err := h.Sink.Send(ctx, e)
	require.Less(t, time.Since(start), prompt)
	if err == nil {
		h.requireReceived(t, e)
		return
	}
	h.requireTransient(t, err)
	require.NoError(t, h.Sink.Send(deadline(t), e), "a cancelled Send must not harm the next")
	h.requireReceived(t, e)
}

func stalled(t *testing.T, h Harness) {
	if h.Stall == nil {
		t.Skip("the harness has no Stall")
	}
	resume := h.Stall(t)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	h.requireTransient(t, h.Sink.Send(ctx, Upload(0)))
	require.Less(t, time.Since(start), prompt)
	resume()
	h.requireRecovery(t, Upload(1), prompt)
}

// stranded checks that a sink leaves connections over which nothing comes any more.
func stranded(t *testing.T, h Harness) {
	if h.Strand == nil {
		t.Skip("the harness has no Strand")
	}
	require.NoError(t, h.Sink.Send(deadline(t), Upload(0)))
	h.Strand(t)
	h.requireRecovery(t, Upload(1), time.Second)
}

// outage checks that a broken target costs nothing but time, and that its errors can be told apart from
// one another by their text: the same for the same trouble, so that it is logged once.
func outage(t *testing.T, h Harness) {
	if h.Break == nil {
		t.Skip("the harness has no Break")
	}
	before := Upload(0)
	require.NoError(t, h.Sink.Send(deadline(t), before))
	h.Break(t)
	fail := func(e event.Event) error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		start := time.Now()
		err := h.Sink.Send(ctx, e)
		require.Less(t, time.Since(start), 2*time.Second+prompt)
		h.requireTransient(t, err)
		require.NotEmpty(t, retry.Hint(err), "no hint on: %v", err)
		return err
	}
	// The first failures may be those of a connection that was in use.
	last := ""
	h.poll(t, "the error reads differently at every attempt", func() error {
		text := fail(Upload(1)).Error()
		if text == last {
			return nil
		}
		last = text
		return errors.New(text)
	})
	if c, ok := h.Sink.(checker); ok && !h.BlindCheck {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err := c.Check(ctx)
		h.requireTransient(t, err)
		require.NotEmpty(t, retry.Hint(err), "no hint on: %v", err)
	}
	h.Mend(t)
	h.requireRecovery(t, Upload(2), prompt)
	h.requireHolds(t, before)
}

// mistakes checks that what an operator does wrong costs no event: none of its errors is permanent, each has a
// hint, and the sink accepts the event by itself after the correction.
func mistakes(t *testing.T, h Harness) {
	if len(h.Mistakes) == 0 {
		t.Skip("the harness has no Mistakes")
	}
	require.NoError(t, h.Sink.Send(deadline(t), Upload(0)))
	for i, m := range h.Mistakes {
		t.Run(m.Name, func(t *testing.T) {
			m.Make(t)
			e := Upload(i + 1)
			failures := 0
			// What was under way when the mistake was made may still be accepted.
			h.poll(t, "the mistake has no effect", func() error {
				ctx, cancel := context.WithTimeout(context.Background(), prompt)
				defer cancel()
				err := h.Sink.Send(ctx, e)
				if err != nil {
					h.requireTransient(t, err)
					require.NotEmpty(t, retry.Hint(err), "no hint on: %v", err)
					failures++
				}
				if failures < 3 {
					return fmt.Errorf("%d failures, and the latest Send returned %s", failures, fmt.Sprint(err))
				}
				return nil
			})
			m.Fix(t)
			h.requireRecovery(t, e, prompt)
		})
	}
}

// refused checks that an event which is itself to blame is refused permanently, and harms no other.
func refused(t *testing.T, h Harness) {
	if len(h.Refused) == 0 {
		t.Skip("the harness has no Refused")
	}
	for reason, e := range h.Refused {
		h.poll(t, "not refused: "+reason, func() error {
			err := h.Sink.Send(deadline(t), e)
			if !retry.IsPermanent(err) {
				return fmt.Errorf("must be permanent: %s", fmt.Sprint(err))
			}
			h.requireNoSecret(t, err)
			require.NotEmpty(t, retry.Hint(err), "no hint on: %v", err)
			return nil
		})
	}
	h.requireRecovery(t, Upload(0), prompt)
}

// requireRecovery sends e until it is accepted, with so much time for each attempt.
func (h Harness) requireRecovery(t *testing.T, e event.Event, attempt time.Duration) {
	t.Helper()
	h.poll(t, "the sink does not recover", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), attempt)
		defer cancel()
		return h.Sink.Send(ctx, e)
	})
	h.requireHolds(t, e)
}

// poll calls try until it succeeds.
func (h Harness) poll(t *testing.T, otherwise string, try func() error) {
	t.Helper()
	often := retry.Policy{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond}
	require.NoError(t, often.Do(deadline(t), func(context.Context) error { return try() }), otherwise)
}

// requireHolds is requireReceived for a target that may also hold events whose Send failed.
func (h Harness) requireHolds(t *testing.T, e event.Event) {
	t.Helper()
	want := Body(t, e)
	for _, body := range h.Received(t) {
		if string(body) == string(want) {
			return
		}
	}
	require.Fail(t, "the target does not hold an accepted event", "%.300s", want)
}

func check(t *testing.T, h Harness) {
	c, ok := h.Sink.(checker)
	if !ok {
		t.Skip("the sink has no Check")
	}
	require.NoError(t, c.Check(deadline(t)))
	h.requireReceived(t) // nothing: a check sends no event
	e := Upload(0)
	require.NoError(t, h.Sink.Send(deadline(t), e))
	require.NoError(t, c.Check(deadline(t)))
	h.requireReceived(t, e)
}

func closing(t *testing.T, h Harness) {
	events := []event.Event{Upload(0), Upload(1), Upload(2)}
	for _, e := range events {
		require.NoError(t, h.Sink.Send(deadline(t), e))
	}
	require.NoError(t, h.Sink.Close(deadline(t)))
	require.NotPanics(t, func() { _ = h.Sink.Close(deadline(t)) })
	start := time.Now()
	h.requireTransient(t, h.Sink.Send(deadline(t), Upload(3)))
	require.Less(t, time.Since(start), prompt)
	h.requireReceived(t, events...)
}
