package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFaultsThatReplaceTheAnswer(t *testing.T) {
	for _, test := range []struct {
		fault       Fault
		status      int
		contentType string
		retryAfter  string
		body        string
	}{
		{Fault{Kind: FaultBadGateway}, 502, "text/html", "", badGatewayPage},
		{Fault{Kind: FaultNullBody}, 200, "application/json", "", "null"},
		{Fault{Kind: FaultEmptyBody}, 200, "application/json", "", ""},
		{Fault{Kind: FaultEmptyObject}, 200, "application/json", "", "{}"},
		{Fault{Kind: FaultTooManyRequests, Delay: 1500 * time.Millisecond}, 429, "text/plain", "2", "Too Many Requests\n"},
		{Fault{Kind: FaultTooManyRequests, Code: "RequestLimitExceeded"}, 429, "application/json", "", `"Code":"RequestLimitExceeded"`},
		{Fault{Kind: FaultError}, 200, "application/json", "", `"Code":"InternalError"`},
		{Fault{Kind: FaultError, Code: "AuthFailure.SecretIdNotFound", Message: "gone"}, 200, "application/json", "", `{"Code":"AuthFailure.SecretIdNotFound","Message":"gone"}`},
	} {
		for _, after := range []bool{false, true} {
			inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
				s.Publish(testApp, uploads(1)...)
				test.fault.After = after
				mustFault(t, s, test.fault)
				a, err := c.raw(t.Context(), ActionPullEvents, appBody(testApp))
				require.NoError(t, err)
				require.Equal(t, test.status, a.Status)
				require.Equal(t, test.contentType, a.Header.Get("Content-Type"))
				require.Equal(t, test.retryAfter, a.Header.Get("Retry-After"))
				if strings.HasPrefix(test.body, `"`) || len(test.body) > 40 {
					require.Contains(t, string(a.Body), test.body)
				} else {
					require.Equal(t, test.body, string(a.Body))
				}
				require.Equal(t, after, s.Counts().Leased == 1)
				require.Empty(t, s.Faults(), "one-shot")
			})
		}
	}
}

func TestReset(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		mustFault(t, s, Fault{Kind: FaultReset, Times: 2})
		for range 2 {
			_, err := c.raw(t.Context(), ActionPullEvents, appBody(testApp))
			require.ErrorIs(t, err, io.EOF)
		}
		require.Equal(t, Counts{Published: 1, Ready: 1}, s.Counts())
		require.Len(t, c.pull(t).EventSet, 1)
	})
	onTCP(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		mustFault(t, s, Fault{Kind: FaultReset})
		_, err := c.raw(t.Context(), ActionPullEvents, appBody(testApp))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

func TestLostReplies(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		lose := func(action, body string) {
			mustFault(t, s, Fault{Kind: FaultLoseReply, Action: action})
			_, err := c.raw(t.Context(), action, body)
			require.ErrorIs(t, err, io.EOF)
		}
		lose(ActionPullEvents, appBody(testApp))
		require.Equal(t, Counts{Published: 1, Delivered: 1, Leased: 1}, s.Counts())
		time.Sleep(30 * time.Second)
		body, _ := json.Marshal(map[string]any{"EventHandles": c.pull(t).handles(), "SubAppId": testApp})
		lose(ActionConfirmEvents, string(body))
		require.True(t, s.Confirmed(1))
	})
}

func TestTruncatedBody(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		mustFault(t, s, Fault{Kind: FaultTruncate})
		a, err := c.raw(t.Context(), ActionPullEvents, appBody(testApp))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NotEmpty(t, a.Body)
		require.False(t, json.Valid(a.Body))
		require.Equal(t, int64(1), s.Counts().Leased)
	})
}

func TestStalledBody(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(3)...)
		mustFault(t, s, Fault{Kind: FaultStall, Delay: 7 * time.Second})
		start := time.Now()
		require.Len(t, c.pull(t).EventSet, 3)
		require.Equal(t, 7*time.Second, time.Since(start))

		mustFault(t, s, Fault{Kind: FaultStall})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		a, err := c.raw(ctx, ActionDescribeEventsState, "{}")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotEmpty(t, a.Body)

		mustFault(t, s, Fault{Kind: FaultStall})
		time.AfterFunc(time.Hour, s.ReleaseHung)
		c.must(t, ActionDescribeEventsState, "{}")
	})
}

func TestHang(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		mustFault(t, s, Fault{Kind: FaultHang})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := c.raw(ctx, ActionPullEvents, appBody(testApp))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		require.Equal(t, int64(1), s.Counts().Ready)

		start := time.Now()
		mustFault(t, s, Fault{Kind: FaultHang, Action: ActionPullEvents})
		time.AfterFunc(time.Minute, s.ClearFaults)
		c.must(t, ActionDescribeEventsState, appBody(testApp)) // another action
		stamp := c.change
		require.Nil(t, stamp)
		require.Len(t, c.pull(t).EventSet, 1)
		require.Equal(t, time.Minute, time.Since(start))

		mustFault(t, s, Fault{Kind: FaultHang, Delay: 2 * time.Second})
		start = time.Now()
		c.must(t, ActionDescribeEventsState, "{}")
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestDuplicateDelivery(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(9)...)
		mustFault(t, s, Fault{Kind: FaultDuplicate})
		c.must(t, ActionDescribeEventsState, "{}") // no pull, not hit
		a := c.pull(t)
		require.Equal(t, "1 1 2 2 3 3 4 4 5 5 6 6 7 7 8 8", fileIDs(a))
		handles := a.handles()
		require.NotEqual(t, handles[0], handles[1])
		require.Equal(t, Counts{Published: 9, Delivered: 16, Redelivered: 8, Leased: 8, Ready: 1}, s.Counts())
		require.Empty(t, c.confirm(t, handles[0], handles[3]).Code) // either handle is good
		require.Equal(t, int64(2), s.Counts().Confirmed)
		require.Equal(t, "InvalidParameterValue", c.confirm(t, handles[1]).Code) // and the other then is stale
	})
}

func TestNoHoldFault(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		mustFault(t, s, Fault{Kind: FaultNoHold})
		start := time.Now()
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		require.Zero(t, time.Since(start))
	})
}

func TestContentTypeFault(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		for given, want := range map[string]string{"": "text/event-stream", "text/html": "text/html"} {
			mustFault(t, s, Fault{Kind: FaultContentType, ContentType: given})
			a := c.must(t, ActionDescribeEventsState, "{}")
			require.Equal(t, want, a.Header.Get("Content-Type"))
		}
	})
}

func TestClockSkew(t *testing.T) {
	inBubble(t, Options{ClockSkew: 6 * time.Minute}, func(t *testing.T, s *Server, c *testClient) {
		code := func() string { return c.must(t, ActionDescribeEventsState, "{}").Code }
		require.Equal(t, "AuthFailure.SignatureExpire", code())
		s.SetClockSkew(0)
		require.Empty(t, code())
		for skew, want := range map[time.Duration]string{
			5*time.Minute + time.Second: "AuthFailure.SignatureExpire", -6 * time.Minute: "AuthFailure.SignatureExpire", 4 * time.Minute: "",
		} {
			mustFault(t, s, Fault{Kind: FaultClockSkew, Delay: skew})
			require.Equal(t, want, code(), skew)
		}
	})
}

func TestFaultsOfOneActionAndApplication(t *testing.T) {
	inBubble(t, Options{Hold: -1}, func(t *testing.T, s *Server, c *testClient) {
		mustFault(t, s, Fault{Kind: FaultError, Code: "FailedOperation", Action: ActionPullEvents, SubAppID: 7})
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		require.Empty(t, c.must(t, ActionDescribeEventsState, appBody(7)).Code)
		require.Equal(t, "FailedOperation", c.must(t, ActionPullEvents, appBody(7)).Code)
		require.Equal(t, "ResourceNotFound", c.must(t, ActionPullEvents, appBody(7)).Code)
	})
}

func TestFaultAtARate(t *testing.T) {
	var runs [2]string
	for i := range runs {
		inBubble(t, Options{Seed: 3, Hold: -1, Quotas: UnlimitedQuotas()}, func(t *testing.T, s *Server, c *testClient) {
			id := mustFault(t, s, Fault{Kind: FaultError, Rate: 0.25})
			for range 400 {
				if c.pull(t).Code == "InternalError" {
					runs[i] += "x"
				} else {
					runs[i] += "."
				}
			}
			list := s.Faults()
			require.Len(t, list, 1)
			require.Equal(t, strings.Count(runs[i], "x"), list[0].Hits)
			require.InDelta(t, 100, list[0].Hits, 40)
			require.True(t, s.RemoveFault(id))
			require.False(t, s.RemoveFault(id))
			require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		})
	}
	require.Equal(t, runs[0], runs[1])
}

func TestFaultValidate(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	for want, f := range map[string]Fault{
		"kind":                       {Kind: "x"},
		"action":                     {Kind: FaultReset, Action: "Pull"},
		"belongs to PullEvents only": {Kind: FaultDuplicate, Action: ActionConfirmEvents},
		"times":                      {Kind: FaultReset, Times: -1},
		"rate":                       {Kind: FaultReset, Rate: 1.5},
		"negative":                   {Kind: FaultHang, Delay: -1},
		"needs one":                  {Kind: FaultLatency},
		"after":                      {Kind: FaultHang, After: true},
	} {
		_, err := s.AddFault(f)
		require.ErrorContains(t, err, want)
	}
	for range maxFaults {
		mustFault(t, s, Fault{Kind: FaultReset})
	}
	_, err := s.AddFault(Fault{Kind: FaultReset})
	require.ErrorContains(t, err, "remove some")
	require.False(t, errors.Is(err, context.Canceled))
}

// What a fault adds stands beside the events as they were published, or inside the first one.
func TestFaultsThatAddToTheAnswer(t *testing.T) {
	for _, test := range []struct {
		fault  Fault
		action string
		events int
		want   string
	}{
		{Fault{Kind: FaultExtraItems, Count: 3}, ActionPullEvents, 2, `},1,1,1],"RequestId"`},
		{Fault{Kind: FaultExtraItems, Count: 3}, ActionPullEvents, 0, `"Code":"ResourceNotFound"`},
		{Fault{Kind: FaultOddItems}, ActionPullEvents, 1, `},` + oddItems + `],"RequestId"`},
		{Fault{Kind: FaultDeep, Count: 3}, ActionPullEvents, 2, `{"Response":{"EventSet":[{"Deep":[[[]]],"EventHandle":"emu`},
		{Fault{Kind: FaultBig, Count: 3}, ActionPullEvents, 1, `{"Response":{"EventSet":[{"Big":"xxx","EventHandle":"emu`},
		{Fault{Kind: FaultDeep, Count: 3}, ActionDescribeEventsState, 1, `{"Response":{"Deep":[[[]]],"CountOfEventsToPull":1`},
		{Fault{Kind: FaultBig}, ActionDescribeEventConfig, 0, `{"Response":{"Big":"` + strings.Repeat("x", defSize) + `","`},
	} {
		inBubble(t, Options{Hold: -1}, func(t *testing.T, s *Server, c *testClient) {
			s.Publish(testApp, uploads(test.events)...)
			mustFault(t, s, test.fault)
			a, err := c.raw(t.Context(), test.action, appBody(testApp))
			require.NoError(t, err)
			require.Contains(t, string(a.Body), test.want)
		})
	}
}

// Every kind at once and at random must neither lose an event nor leave a
// request behind.
func TestAllFaultsTogether(t *testing.T) {
	inBubble(t, Options{Seed: 5, Quotas: UnlimitedQuotas(), Variants: Variants{LeaseFromAnswer: true}}, func(t *testing.T, s *Server, c *testClient) {
		for _, kind := range FaultKinds() {
			f := Fault{Kind: kind, Rate: 0.03, Delay: 3 * time.Second}
			if kind.counted() > 0 {
				f.Count = 12_000
			}
			mustFault(t, s, f)
		}
		const total = 500
		s.Publish(testApp, uploads(total)...)
		for n := 0; s.Counts().Confirmed < total; n++ {
			require.Less(t, n, 5000)
			a, err := c.call(ActionPullEvents, appBody(testApp))
			if err != nil || a == nil || len(a.EventSet) == 0 {
				continue
			}
			body, _ := json.Marshal(map[string]any{"EventHandles": a.handles(), "SubAppId": testApp})
			_, _ = c.call(ActionConfirmEvents, string(body))
		}
		require.Empty(t, s.Pending())
	})
}
