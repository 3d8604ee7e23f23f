package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEmptyAnswers(t *testing.T) {
	for variant, want := range map[EmptyAnswer]string{
		"":          `{"Response":{"Error":{"Code":"ResourceNotFound","Message":"no event"},"RequestId":%q}}`,
		EmptyError:  `{"Response":{"Error":{"Code":"ResourceNotFound","Message":"no event"},"RequestId":%q}}`,
		EmptyNull:   `{"Response":{"EventSet":null,"RequestId":%q}}`,
		EmptyArray:  `{"Response":{"EventSet":[],"RequestId":%q}}`,
		EmptyAbsent: `{"Response":{"RequestId":%q}}`,
	} {
		t.Run(string(variant), func(t *testing.T) {
			inBubble(t, Options{Variants: Variants{Empty: variant}}, func(t *testing.T, _ *Server, c *testClient) {
				start := time.Now()
				a := c.pull(t)
				require.Equal(t, fmt.Sprintf(want, a.RequestID), string(a.Body))
				require.Equal(t, 5*time.Second, time.Since(start))
			})
		})
	}
}

func TestNoHold(t *testing.T) {
	inBubble(t, Options{Hold: -1}, func(t *testing.T, _ *Server, c *testClient) {
		start := time.Now()
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		require.Zero(t, time.Since(start))
	})
}

func TestStableHandles(t *testing.T) {
	inBubble(t, Options{Variants: Variants{StableHandles: true}}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		first := c.pull(t).handles()
		time.Sleep(30 * time.Second)
		require.Equal(t, "InvalidParameterValue", c.confirm(t, first...).Code)
		require.Equal(t, first, c.pull(t).handles())
		require.Empty(t, c.confirm(t, first...).Code)
		for _, e := range s.Journal() {
			if e.Kind != KindPublished {
				require.Equal(t, first[0], e.Handle)
			}
		}
	})
}

func TestOldHandleConfirms(t *testing.T) {
	inBubble(t, Options{Variants: Variants{OldHandle: OldHandleConfirms}}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(2)...)
		first := c.pull(t).handles()
		time.Sleep(31 * time.Second)
		require.Empty(t, c.confirm(t, first[0]).Code) // back in the queue
		second := c.pull(t).handles()
		require.NotEqual(t, first[1], second[0])
		require.Empty(t, c.confirm(t, first[1]).Code) // delivered again
		require.Empty(t, s.Pending())
		require.Equal(t, "InvalidParameterValue", c.confirm(t, second[0]).Code)
	})
}

func TestBatchWithAStaleHandle(t *testing.T) {
	for _, test := range []struct {
		variant   StaleBatch
		code      string
		confirmed int64
	}{
		{"", "InvalidParameterValue", 0},
		{StaleRefuseAll, "InvalidParameterValue", 0},
		{StaleConfirmValid, "InvalidParameterValue", 2},
		{StaleIgnore, "", 2},
	} {
		t.Run(string(test.variant), func(t *testing.T) {
			inBubble(t, Options{Variants: Variants{StaleBatch: test.variant}}, func(t *testing.T, s *Server, c *testClient) {
				s.Publish(testApp, uploads(2)...)
				handles := c.pull(t).handles()
				require.Equal(t, test.code, c.confirm(t, handles[0], "made-up", handles[1]).Code)
				require.Equal(t, test.confirmed, s.Counts().Confirmed)
				require.Equal(t, int64(1), s.Counts().Refused)
				if test.confirmed == 0 {
					require.Empty(t, c.confirm(t, handles...).Code)
				}
			})
		})
	}
}

func TestStaleCode(t *testing.T) {
	inBubble(t, Options{Variants: Variants{StaleCode: "FailedOperation"}}, func(t *testing.T, _ *Server, c *testClient) {
		require.Equal(t, "FailedOperation", c.confirm(t, "x").Code)
	})
}

func TestReconfirm(t *testing.T) {
	for _, ok := range []bool{false, true} {
		inBubble(t, Options{Variants: Variants{ReconfirmOK: ok}}, func(t *testing.T, s *Server, c *testClient) {
			s.Publish(testApp, uploads(1)...)
			handle := c.pull(t).handles()[0]
			require.Empty(t, c.confirm(t, handle, handle).Code) // twice in one batch
			require.Equal(t, ok, c.confirm(t, handle).Code == "")
			require.Equal(t, int64(1), s.Counts().Confirmed)
			require.Equal(t, "InvalidParameterValue", c.confirm(t, "never given").Code)
		})
	}
}

func TestHandleOfAnotherApplication(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(7, uploads(1)...)
		s.Publish(testApp, uploads(1)...)
		handles := c.must(t, ActionPullEvents, appBody(7)).handles()
		require.Equal(t, "InvalidParameterValue", c.confirm(t, handles...).Code)
		require.Equal(t, int64(0), s.Counts().Confirmed)
		require.Equal(t, int64(1), s.CountsBySubApp()[7].Leased)
	})
}

func TestStartOfTheLease(t *testing.T) {
	for _, fromAnswer := range []bool{false, true} {
		inBubble(t, Options{Variants: Variants{LeaseFromAnswer: fromAnswer}}, func(t *testing.T, s *Server, c *testClient) {
			s.Publish(testApp, uploads(2)...)
			mustFault(t, s, Fault{Kind: FaultLatency, Delay: 20 * time.Second})
			handles := c.pull(t).handles()
			time.Sleep(15 * time.Second)
			require.Equal(t, fromAnswer, c.confirm(t, handles[0]).Code == "")
			time.Sleep(15 * time.Second)
			require.Equal(t, "InvalidParameterValue", c.confirm(t, handles[1]).Code)
		})
	}
}

func TestLeaseFromAnswerAcrossAConfirmAndAReset(t *testing.T) {
	inBubble(t, Options{Variants: Variants{LeaseFromAnswer: true, OldHandle: OldHandleConfirms, StableHandles: true}}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		handles := c.pull(t).handles()
		time.Sleep(30 * time.Second)
		mustFault(t, s, Fault{Kind: FaultLatency, Delay: 10 * time.Second, Action: ActionPullEvents})
		time.AfterFunc(5*time.Second, func() { c.confirm(t, handles...) })
		require.Equal(t, handles, c.pull(t).handles())
		require.Equal(t, Counts{Published: 1, Delivered: 2, Redelivered: 1, Expired: 1, Confirmed: 1}, s.Counts())

		s.Publish(testApp, uploads(1)...)
		mustFault(t, s, Fault{Kind: FaultLatency, Delay: 10 * time.Second})
		time.AfterFunc(5*time.Second, s.Reset)
		require.Len(t, c.pull(t).EventSet, 1)
		require.Equal(t, Counts{}, s.Counts())
		time.Sleep(time.Minute)
		require.Equal(t, Counts{}, s.Counts())
	})
}

func TestOrderOfRedelivery(t *testing.T) {
	for order, want := range map[Order]string{"": "1 2 3 4", OrderLast: "3 4 1 2"} {
		inBubble(t, Options{Variants: Variants{Order: order}}, func(t *testing.T, s *Server, c *testClient) {
			all := uploads(4)
			s.Publish(testApp, all[:2]...)
			c.pull(t)
			s.Publish(testApp, all[2:]...)
			time.Sleep(30 * time.Second)
			require.Equal(t, want, fileIDs(c.pull(t)))
		})
	}
}

func TestNullFields(t *testing.T) {
	inBubble(t, Options{Variants: Variants{NullFields: NullsDocumented}}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)[0], json.RawMessage(`{}`))
		for i, raw := range c.pull(t).EventSet {
			var fields map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(raw, &fields))
			require.Len(t, fields, []int{38, 37}[i]) // EventHandle, EventType, 36 payload fields
			require.Equal(t, "null", string(fields["EditMediaCompleteEvent"]))
			require.Equal(t, i == 1, string(fields["FileUploadEvent"]) == "null")
		}
	})
}

func TestUnknownSubApp(t *testing.T) {
	opts := Options{SubAppIDs: []uint64{testApp}}
	unknown := appBody(1)
	inBubble(t, opts, func(t *testing.T, _ *Server, c *testClient) {
		require.Equal(t, "InvalidParameterValue.SubAppId", c.must(t, ActionPullEvents, unknown).Code)
		require.Equal(t, "InvalidParameterValue.SubAppId", c.must(t, ActionPullEvents, "{}").Code)
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
	})
	opts.Variants.UnknownSubApp = "FailedOperation"
	inBubble(t, opts, func(t *testing.T, _ *Server, c *testClient) {
		require.Equal(t, "FailedOperation", c.must(t, ActionPullEvents, unknown).Code)
		require.Equal(t, "FailedOperation", c.must(t, ActionDescribeEventsState, unknown).Code)
	})
	opts.Variants.UnknownSubApp = AnswerEmpty
	inBubble(t, opts, func(t *testing.T, _ *Server, c *testClient) {
		start := time.Now()
		require.Equal(t, "ResourceNotFound", c.must(t, ActionPullEvents, unknown).Code)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Equal(t, "InvalidParameterValue.SubAppId", c.must(t, ActionDescribeEventsState, unknown).Code)
	})
}

func TestPushMode(t *testing.T) {
	inBubble(t, Options{Mode: ModePush, Variants: Variants{PushMode: "FailedOperation"}}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		require.Equal(t, "FailedOperation", c.pull(t).Code)
		require.NoError(t, s.SetMode(testApp, ModePull))
		require.Len(t, c.pull(t).EventSet, 1)
		require.ErrorContains(t, s.SetMode(testApp, "pull"), "PULL or PUSH")
	})
}

func TestWaitingPollSeesAChangeOfMode(t *testing.T) {
	inBubble(t, Options{Mode: ModePush}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		start := time.Now()
		time.AfterFunc(2*time.Second, func() { require.NoError(t, s.SetMode(testApp, ModePull)) })
		require.Len(t, c.pull(t).EventSet, 1)
		require.Equal(t, 2*time.Second, time.Since(start))

		start = time.Now()
		time.AfterFunc(time.Second, s.Reset) // and back to PUSH
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		require.Equal(t, 5*time.Second, time.Since(start))
		s.Publish(testApp, uploads(1)...)
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
	})
}

func TestNumberOfApplicationsIsBounded(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	for id := range uint64(maxApplications) {
		s.Publish(id)
	}
	_, err := s.Enqueue(maxApplications, uploads(1)...)
	require.ErrorContains(t, err, "LimitExceeded")
	require.ErrorContains(t, s.SetMode(maxApplications, ModePull), "LimitExceeded")
}

func TestHandlersAlone(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	status := func(h http.Handler, path string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil))
		return w.Code
	}
	require.Equal(t, 200, status(s.API(), "/"))
	require.Equal(t, 404, status(s.API(), "/_emulator/state"))
	require.Equal(t, 200, status(s.Control(), "/_emulator/state"))
	require.Equal(t, 404, status(s.Control(), "/"))
}

func TestModeTakesEffectLater(t *testing.T) {
	inBubble(t, Options{Mode: ModePush, ModeDelay: 10 * time.Minute}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		start := time.Now()
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		require.Equal(t, 5*time.Second, time.Since(start))

		start = time.Now()
		require.Empty(t, c.must(t, ActionModifyEventConfig, fmt.Sprintf(`{"SubAppId":%d,"Mode":"PULL"}`, testApp)).Code)
		require.JSONEq(t, `"PULL"`, string(c.must(t, ActionDescribeEventConfig, appBody(testApp)).Fields["Mode"]))
		require.Equal(t, "ResourceNotFound", c.pull(t).Code)
		time.Sleep(9*time.Minute + 52*time.Second)
		require.Len(t, c.pull(t).EventSet, 1) // a poll that waits sees the change
		require.Equal(t, 10*time.Minute, time.Since(start))
	})
}

func TestModeInEffect(t *testing.T) {
	now := time.Now()
	c := newEventConfig(&Options{Mode: ModePull})
	require.Equal(t, ModePull, c.modeAt(now))
	c.setMode(ModePush, now, 0)
	require.Equal(t, ModePush, c.modeAt(now))
	c.setMode(ModePull, now, time.Minute)
	require.Equal(t, ModePush, c.modeAt(now))
	c.setMode(ModePush, now.Add(time.Second), time.Minute) // before the last change is in effect
	require.Equal(t, ModePush, c.modeAt(now.Add(2*time.Second)))
	require.Equal(t, ModePush, c.modeAt(now.Add(time.Hour)))
}

func TestEventConfig(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, _ *Server, c *testClient) {
		describe := func() string {
			a := c.must(t, ActionDescribeEventConfig, "{}")
			return fmt.Sprint(string(a.Fields["Mode"]), string(a.Fields["NotificationUrl"]), string(a.Fields["UploadMediaCompleteEventSwitch"]),
				string(a.Fields["DeleteMediaCompleteEventSwitch"]), string(a.Fields["PersistenceCompleteEventSwitch"]))
		}
		require.Equal(t, `"PULL""""ON""ON""ON"`, describe())
		modify := func(body string) string { return c.must(t, ActionModifyEventConfig, body).Code }
		require.Empty(t, modify(`{"Mode":"PUSH","NotificationUrl":"https://example.com","UploadMediaCompleteEventSwitch":"ON","SignKey":"abc123"}`))
		require.Equal(t, `"PUSH""https://example.com""ON""OFF""OFF"`, describe())
		require.Empty(t, modify(`{"NotificationUrl":""}`))
		require.Equal(t, `"PUSH""""OFF""OFF""OFF"`, describe())
		for body, code := range map[string]string{
			`{"Mode":"BOTH"}`:                                  "InvalidParameterValue",
			`{"UploadMediaCompleteEventSwitch":"on"}`:          "InvalidParameterValue",
			`{"SignKey":"with space"}`:                         "InvalidParameterValue",
			`{"SignKey":"0123456789012345678901234567890123"}`: "InvalidParameterValue",
			`{"Mode":1}`: "InvalidParameter",
			`{"Mod":""}`: "UnknownParameter",
		} {
			require.Equal(t, code, modify(body), body)
		}
		require.Equal(t, `"PUSH""""OFF""OFF""OFF"`, describe())
	})
}

func TestEventsState(t *testing.T) {
	inBubble(t, Options{StateLag: 3 * time.Minute}, func(t *testing.T, s *Server, c *testClient) {
		count := func() string {
			return string(c.must(t, ActionDescribeEventsState, appBody(testApp)).Fields["CountOfEventsToPull"])
		}
		s.Publish(testApp, uploads(20)...)
		require.Equal(t, "20", count())
		c.pull(t)
		require.Equal(t, "20", count())
		time.Sleep(3*time.Minute - time.Second)
		require.Equal(t, "20", count())
		time.Sleep(time.Second)
		c.pull(t)
		require.Equal(t, "4", count())
	})
}

func TestEventsStateWithLeasedEvents(t *testing.T) {
	inBubble(t, Options{Variants: Variants{CountLeased: true}}, func(t *testing.T, s *Server, c *testClient) {
		count := func() string {
			return string(c.must(t, ActionDescribeEventsState, appBody(testApp)).Fields["CountOfEventsToPull"])
		}
		s.Publish(testApp, uploads(20)...)
		handles := c.pull(t).handles()
		require.Equal(t, "20", count())
		require.Empty(t, c.confirm(t, handles[:6]...).Code)
		require.Equal(t, "14", count())
	})
}

func TestQuotas(t *testing.T) {
	inBubble(t, Options{Hold: -1, Quotas: map[string]int{ActionPullEvents: 5, ActionModifyEventConfig: 0}}, func(t *testing.T, s *Server, c *testClient) {
		codes := func(action string, n int) (limited int) {
			for range n {
				if c.must(t, action, "{}").Code == "RequestLimitExceeded" {
					limited++
				}
			}
			return limited
		}
		require.Equal(t, 3, codes(ActionPullEvents, 8))
		require.Equal(t, 5, codes(ActionDescribeEventsState, 25))
		require.Equal(t, 5, codes(ActionDescribeEventConfig, 25))
		require.Equal(t, 0, codes(ActionModifyEventConfig, 200))
		require.Equal(t, 20, codes(ActionConfirmEvents, 120))
		time.Sleep(400 * time.Millisecond)
		require.Equal(t, 1, codes(ActionPullEvents, 3))
		time.Sleep(time.Hour)
		require.Equal(t, 1, codes(ActionPullEvents, 6))
		s.Reset()
		require.Equal(t, 0, codes(ActionPullEvents, 5))
	})
}

func TestLatency(t *testing.T) {
	inBubble(t, Options{Latency: 80 * time.Millisecond}, func(t *testing.T, s *Server, c *testClient) {
		s.Publish(testApp, uploads(1)...)
		start := time.Now()
		require.Len(t, c.pull(t).EventSet, 1)
		require.Equal(t, 80*time.Millisecond, time.Since(start))
	})
}

func TestOptionsValidate(t *testing.T) {
	require.NoError(t, Options{}.Validate())
	err := Options{
		Credentials: map[string]Credential{"id": {}},
		Quotas:      map[string]int{"Pull": 1, ActionPullEvents: -1},
		Lease:       -1, MaxBatch: -1, MaxEvents: -1, JournalSize: -1, Mode: "x",
		SubAppIDs: make([]uint64, 2000),
		Variants:  Variants{Empty: "x", StaleBatch: "x"},
	}.Validate()
	for _, key := range []string{"Credentials", `"Pull"`, "PullEvents is -1", "Lease", "MaxBatch", "MaxEvents", "JournalSize", "Mode", "SubAppIDs", "Variants.Empty", "Variants.StaleBatch"} {
		require.ErrorContains(t, err, key)
	}
	require.Panics(t, func() { New(Options{Mode: "x"}) })
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", Credential{SecretKey: "k1"}, Credential{Token: "k1"}, Credential{SecretKey: "k1"}), "k1")
}

func TestSameSeedSameHandles(t *testing.T) {
	var got [2]string
	for i := range got {
		inBubble(t, Options{Seed: 7}, func(t *testing.T, s *Server, c *testClient) {
			s.Publish(testApp, uploads(3)...)
			got[i] = string(c.pull(t).Body)
		})
	}
	require.Equal(t, got[0], got[1])
}

func mustFault(t *testing.T, s *Server, f Fault) int64 {
	t.Helper()
	id, err := s.AddFault(f)
	require.NoError(t, err)
	return id
}
