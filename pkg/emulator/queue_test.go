package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPullAndConfirm(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		require.Equal(t, []int64{1, 2, 3}, s.Publish(testApp, uploads(3)...))
		a := c.pull(t)
		require.Equal(t, "1 2 3", fileIDs(a))
		require.Equal(t, Counts{Published: 3, Delivered: 3, Leased: 3}, s.Counts())
		handles := a.handles()
		require.Empty(t, c.confirm(t, handles[0], handles[2]).Code)
		require.True(t, s.Confirmed(1))
		require.False(t, s.Confirmed(2))
		require.True(t, s.Confirmed(3))
		require.Equal(t, []int64{2}, s.Pending())
		require.Equal(t, Counts{Published: 3, Delivered: 3, Confirmed: 2, Leased: 1}, s.Counts())
	})
}

func TestAtMost16(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(33)...)
		for _, n := range []int{16, 16, 1} {
			require.Len(t, c.pull(t).EventSet, n)
		}
	})
}

func TestLeaseEndsAfter30Seconds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(2)...)
		first := c.pull(t)
		time.Sleep(30*time.Second - time.Nanosecond)
		require.Equal(t, int64(2), s.Counts().Leased)
		require.Empty(t, c.confirm(t, first.handles()[0]).Code)
		time.Sleep(time.Nanosecond)
		require.Equal(t, Counts{Published: 2, Delivered: 2, Confirmed: 1, Expired: 1, Ready: 1}, s.Counts())
		require.Equal(t, "InvalidParameterValue", c.confirm(t, first.handles()[1]).Code)
		second := c.pull(t)
		require.Equal(t, "2", fileIDs(second))
		require.NotEqual(t, first.handles()[1], second.handles()[0])
		require.Equal(t, "InvalidParameterValue", c.confirm(t, first.handles()[1]).Code)
		require.Empty(t, c.confirm(t, second.handles()...).Code)
		require.Equal(t, int64(1), s.Counts().Redelivered)
	})
}

func TestLongPoll(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		start := time.Now()
		a := c.pull(t)
		require.Equal(t, "ResourceNotFound", a.Code)
		require.Equal(t, "no event", a.Message)
		require.Equal(t, 5*time.Second, time.Since(start))

		start = time.Now()
		time.AfterFunc(1700*time.Millisecond, func() { s.Publish(testApp, uploads(1)...) })
		require.Len(t, c.pull(t).EventSet, 1)
		require.Equal(t, 1700*time.Millisecond, time.Since(start))

		// An event of another application wakes nobody.
		start = time.Now()
		time.AfterFunc(time.Second, func() { s.Publish(testApp+1, uploads(1)...) })
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestLongPollIsWokenByTheEndOfALease(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		c.pull(t)
		start := time.Now()
		time.Sleep(27 * time.Second)
		a := c.pull(t)
		require.Equal(t, "1", fileIDs(a))
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

func TestLongPollWithALeaseShorterThanTheHold(t *testing.T) {
	inBubble(t, Options{Lease: time.Second}, func(t *testing.T, s *Server, c *testClient) {
		start := time.Now()
		var group sync.WaitGroup
		for range 2 { // the second gets the event when the first lets its lease pass
			group.Go(func() { _, _ = c.call(ActionPullEvents, appBody(testApp)) })
		}
		synctest.Wait()
		s.Publish(testApp, uploads(1)...)
		group.Wait()
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, int64(2), s.Counts().Delivered)
	})
}

func TestWaitingPollsAreServedInOrder(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		var mu sync.Mutex
		var got []string
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				a, err := c.call(ActionPullEvents, appBody(testApp))
				if err == nil {
					mu.Lock()
					got = append(got, fmt.Sprintf("%d:%s", i, fileIDs(a)))
					mu.Unlock()
				}
			})
			synctest.Wait()
		}
		require.Equal(t, int64(4), s.Counts().Waiting)
		for _, e := range uploads(4) {
			s.Publish(testApp, e)
			synctest.Wait()
		}
		group.Wait()
		require.Equal(t, []string{"0:1", "1:2", "2:3", "3:4"}, got)
	})
}

func TestOnePublicationWakesAsManyPollsAsItFills(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() { _, _ = c.call(ActionPullEvents, appBody(testApp)) })
		}
		synctest.Wait()
		start := time.Now()
		s.Publish(testApp, uploads(20)...)
		synctest.Wait()
		require.Equal(t, Counts{Published: 20, Delivered: 20, Leased: 20, Waiting: 1}, s.Counts())
		group.Wait()
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestClientThatLeavesLeasesNothing(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.raw(ctx, ActionPullEvents, appBody(testApp))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		require.Zero(t, s.Counts().Waiting)
		s.Publish(testApp, uploads(1)...)
		synctest.Wait()
		require.Equal(t, Counts{Published: 1, Ready: 1}, s.Counts())
	})
}

// A poll that was woken as its client went away passes the turn on.
func TestTurnIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		q := s.queues
		app, apiErr := q.application(testApp)
		require.Nil(t, apiErr)
		first, second := &waiter{woken: make(chan struct{}, 1)}, &waiter{woken: make(chan struct{}, 1)}
		for _, w := range []*waiter{first, second} {
			q.try(app, w, time.Now().Add(time.Second), false, nil)
		}
		s.Publish(testApp, uploads(1)...)
		require.Len(t, first.woken, 1)
		require.Empty(t, second.woken)
		q.leave(app, first)
		require.Len(t, second.woken, 1)
		p, _ := q.try(app, second, time.Now().Add(time.Second), false, nil)
		require.Equal(t, 1, p.count)
		require.Zero(t, s.Counts().Waiting)
	})
}

// A poll that was woken for an event that another took is still the next.
func TestTurnIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		q := s.queues
		app, apiErr := q.application(testApp)
		require.Nil(t, apiErr)
		deadline := time.Now().Add(time.Second)
		first, second, thief := &waiter{woken: make(chan struct{}, 1)}, &waiter{woken: make(chan struct{}, 1)}, &waiter{woken: make(chan struct{}, 1)}
		q.try(app, first, deadline, false, nil)
		q.try(app, second, deadline, false, nil)
		s.Publish(testApp, uploads(1)...)
		q.try(app, thief, deadline, false, nil)
		q.try(app, first, deadline, false, nil)
		s.Publish(testApp, uploads(1)...)
		require.Len(t, first.woken, 1)
		require.Empty(t, second.woken)
	})
}

func TestMadeUpHandle(t *testing.T) {
	codec := newHandleCodec(1)
	good := string(codec.append(nil, delivery{event: 1<<48 - 1, count: 1<<32 - 1, app: 1<<16 - 1}))
	d, ok := codec.parse(good)
	require.True(t, ok)
	require.Equal(t, delivery{event: 1<<48 - 1, count: 1<<32 - 1, app: 1<<16 - 1}, d)
	for _, handle := range []string{"", "emu", good[3:], good + "A", "emu" + strings.Repeat("A", 22), "emu" + strings.Repeat("?", 22), "abc" + good[3:]} {
		_, ok := codec.parse(handle)
		require.False(t, ok, handle)
	}
	_, ok = newHandleCodec(2).parse(good)
	require.False(t, ok)
}

func TestRetention(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		start := time.Now()
		s.Publish(testApp, uploads(17)...)
		time.Sleep(4*24*time.Hour - 10*time.Second)
		s.Publish(testApp, uploads(1)...)
		handles := c.pull(t).handles()
		time.Sleep(10 * time.Second)
		// The one never pulled is gone, the leased ones are not yet.
		require.Equal(t, Counts{Published: 18, Delivered: 16, Purged: 1, Leased: 16, Ready: 1}, s.Counts())
		require.Empty(t, c.confirm(t, handles[0]).Code)
		time.Sleep(20 * time.Second)
		require.Equal(t, Counts{Published: 18, Delivered: 16, Purged: 16, Confirmed: 1, Expired: 15, Ready: 1}, s.Counts())
		require.Equal(t, []int64{18}, s.Pending())
		require.Equal(t, "InvalidParameterValue", c.confirm(t, handles[1]).Code)
		journal := s.Journal()
		i := slices.IndexFunc(journal, func(e Entry) bool { return e.Kind == KindPurged })
		require.Equal(t, 4*24*time.Hour, journal[i].Time.Sub(start))
		require.Equal(t, int64(17), journal[i].Event)
		time.Sleep(4 * 24 * time.Hour)
		require.Empty(t, s.Pending())
	})
}

func TestIdleServerHasNoGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		s.Publish(testApp, uploads(3)...)
		// The bubble ends without Close: it would fail if anything still ran.
	})
}

func TestCloseEndsEverything(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		_, err := s.AddFault(Fault{Kind: FaultHang, Action: ActionConfirmEvents})
		require.NoError(t, err)
		failed := make(chan error, 2)
		for _, action := range []string{ActionPullEvents, ActionConfirmEvents} {
			go func() {
				_, err := c.raw(context.Background(), action, appBody(testApp))
				failed <- err
			}()
		}
		synctest.Wait()
		start := time.Now()
		s.Close()
		require.Less(t, time.Since(start), 100*time.Millisecond)
		require.Error(t, <-failed)
		require.Error(t, <-failed)
		_, err = c.raw(context.Background(), ActionPullEvents, "{}")
		require.Error(t, err)
	})
}

func TestPayloadBytesSurvive(t *testing.T) {
	contents := []string{
		`{"EventType":"X","A":{"n":9007199254740993,"m":12345678901234567891,"f":0.10,"e":1e21,"t":"<&>\u2028` + "\u2028\U0001F3AC" + `\/"}}`,
		"{\n\t\"EventType\" : \"X\" ,\n \"A\" : [ 1 , 2.50 ]\n}",
		`{}`, `{ }`, `{"EventType":1}`, `{"EventType":"\ud800","dup":1,"dup":2}`,
		"{\"a\":\"\xff\xfe\"}",
	}
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		for _, content := range contents {
			s.Publish(testApp, json.RawMessage(content))
		}
		a, err := c.raw(t.Context(), ActionPullEvents, appBody(testApp))
		require.NoError(t, err)
		require.True(t, json.Valid(a.Body))
		rest := string(a.Body)
		for _, content := range contents {
			inner := strings.TrimSpace(content[1 : len(content)-1])
			i := strings.Index(rest, inner)
			require.GreaterOrEqual(t, i, 0, inner)
			rest = rest[i+len(inner):]
		}
	})
}

func TestPublishRefuses(t *testing.T) {
	s := New(Options{SubAppIDs: []uint64{testApp}, MaxEvents: 2})
	defer s.Close()
	for _, content := range []string{``, `null`, `[]`, `"x"`, `{`, `{}x`, `{"a":}`} {
		_, err := s.Enqueue(testApp, json.RawMessage(`{}`), json.RawMessage(content))
		require.ErrorContains(t, err, "event 2 of 2", content)
	}
	_, err := s.Enqueue(1, json.RawMessage(`{}`))
	require.ErrorContains(t, err, "does not exist")
	_, err = s.Enqueue(testApp, uploads(3)...)
	require.ErrorContains(t, err, "MaxEvents")
	require.Panics(t, func() { s.Publish(testApp, json.RawMessage(`x`)) })
	require.Zero(t, s.Counts().Published)
}

func TestHandleIsTakenOutOfPublishedContent(t *testing.T) {
	for content, want := range map[string]string{
		`{"EventHandle":"x","EventType":"A","B":{"EventHandle":"stays"}}`: `"EventType":"A","B":{"EventHandle":"stays"}}`,
		`{"EventType":"A" , "EventHandle" : "x" }`:                        `"EventType":"A"}`,
		`{"EventHandle":"x"}`:                                             `}`,
		`{"Event\u0048andle":[1,{"a":"]"}],"C":1}`:                        `"C":1}`,
	} {
		tail, err := prepare([]byte(content), NullsAbsent)
		require.NoError(t, err)
		require.Equal(t, want, string(tail))
	}
}

func TestManyConsumersLoseNothing(t *testing.T) {
	onTCP(t, Options{Quotas: UnlimitedQuotas(), Lease: 50 * time.Millisecond, Hold: 20 * time.Millisecond}, func(t *testing.T, s *Server, c *testClient) {
		const total = 2000
		var group sync.WaitGroup
		group.Go(func() {
			for range total / 100 {
				s.Publish(testApp, uploads(100)...)
			}
		})
		for worker := range 8 {
			group.Go(func() {
				for range 2000 {
					a, err := c.call(ActionPullEvents, appBody(testApp))
					if err != nil {
						t.Error(err)
						return
					}
					if counts := s.Counts(); counts.Confirmed == total {
						return
					}
					handles := a.handles()
					if len(handles) > 1 && worker%2 == 0 {
						handles = handles[1:] // some are left to come again
					}
					if len(handles) == 0 {
						continue
					}
					body, _ := json.Marshal(map[string]any{"EventHandles": handles, "SubAppId": testApp})
					if _, err := c.call(ActionConfirmEvents, string(body)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		require.Equal(t, int64(total), s.Counts().Confirmed)
		require.Empty(t, s.Pending())
	})
}
