package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// scenario is what a client sees of one open question. It runs with the options of each of the question's variants.
type scenario struct {
	opts Options
	run  func(t *testing.T, s *Server, c *testClient) string
	want map[string]string // by variant
}

// The signature of the scenarios: 2000-01-01 00:10:00 UTC is T.
const (
	signedSign = "1fd1090936897df2abfcb368debc74a6"
	signedT    = "946685400"
)

var handlePattern = regexp.MustCompile(`"EventHandle":"[^"]*",`)

func deleted(t *testing.T, s *Server, c *testClient) string {
	s.Publish(testApp, []byte(`{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`))
	return handlePattern.ReplaceAllString(string(c.pull(t).EventSet[0]), "")
}

// signed runs a scenario of a pulled event with a signature.
func signed(want map[string]string) scenario {
	return scenario{opts: Options{SignKey: "key1", Variants: Variants{SignPulled: true}}, run: deleted, want: want}
}

var scenarios = map[Question]scenario{
	AskEmpty: {run: func(t *testing.T, _ *Server, c *testClient) string {
		a := c.pull(t)
		return a.Code + string(a.Fields["EventSet"])
	}, want: map[string]string{"empty-error": "ResourceNotFound", "empty-null": "null", "empty-array": "[]", "empty-absent": ""}},

	AskBatch: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(1000)...)
		sizes := map[int]bool{}
		for range 20 {
			sizes[len(c.pull(t).EventSet)] = true
		}
		require.False(t, sizes[0])
		return fmt.Sprint(len(sizes) > 5)
	}, want: map[string]string{"batch-full": "false", "batch-any": "true"}},

	AskMiss: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(1000)...)
		found := 0
		for range 40 {
			if a := c.pull(t); a.Code == "" {
				found++
			}
		}
		return fmt.Sprint(found == 40, found > 20)
	}, want: map[string]string{"poll-finds": "true true", "poll-misses": "false true"}},

	AskOrder: {run: func(t *testing.T, s *Server, c *testClient) string {
		all := uploads(8)
		s.Publish(testApp, all[:4]...)
		c.pull(t)
		s.Publish(testApp, all[4:]...)
		time.Sleep(30 * time.Second)
		return fileIDs(c.pull(t))
	}, want: map[string]string{"order-first": "1 2 3 4 5 6 7 8", "order-last": "5 6 7 8 1 2 3 4", "order-random": "3 6 4 8 2 5 7 1"}},

	AskDeliveries: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(1)...)
		for range 16 {
			require.Equal(t, "1", fileIDs(c.pull(t)))
			time.Sleep(30 * time.Second)
		}
		a := c.pull(t)
		last := s.Journal()[len(s.Journal())-1]
		return fmt.Sprint(a.Code, len(a.EventSet), " ", last.Kind, last.Code)
	}, want: map[string]string{"deliveries-unlimited": "1 leased", "deliveries-16": "ResourceNotFound0 purgeddeliveries"}},

	AskLease: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(1)...)
		mustFault(t, s, Fault{Kind: FaultLatency, Delay: 20 * time.Second})
		handles := c.pull(t).handles()
		time.Sleep(15 * time.Second)
		return c.confirm(t, handles...).Code
	}, want: map[string]string{"lease-from-choice": "InvalidParameterValue", "lease-from-answer": ""}},

	AskHold: {run: func(t *testing.T, _ *Server, c *testClient) string {
		start := time.Now()
		c.pull(t)
		return time.Since(start).String()
	}, want: map[string]string{"hold-5s": "5s", "hold-none": "0s"}},

	AskHandle: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(1)...)
		first := c.pull(t).handles()[0]
		time.Sleep(30 * time.Second)
		return fmt.Sprint(first == c.pull(t).handles()[0])
	}, want: map[string]string{"handle-new": "false", "handle-same": "true"}},

	AskOldHandle: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(2)...)
		first := c.pull(t).handles()
		time.Sleep(30 * time.Second)
		before := c.confirm(t, first[0]).Code
		c.pull(t)
		return before + " " + c.confirm(t, first[1]).Code
	}, want: map[string]string{
		"old-handle-stale":            "InvalidParameterValue InvalidParameterValue",
		"old-handle-until-redelivery": " InvalidParameterValue",
		"old-handle-confirms":         " ",
	}},

	AskStaleBatch: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(2)...)
		code := c.confirm(t, append(c.pull(t).handles(), "made-up")...).Code
		return fmt.Sprint(code, s.Counts().Confirmed)
	}, want: map[string]string{"stale-batch-refused": "InvalidParameterValue0", "stale-batch-partial": "InvalidParameterValue2", "stale-batch-ignored": "2"}},

	AskStaleCode: {run: func(t *testing.T, _ *Server, c *testClient) string { return c.confirm(t, "made-up").Code }, want: map[string]string{
		"stale-invalid-parameter-value": "InvalidParameterValue",
		"stale-invalid-event-handle":    "InvalidParameterValue.EventHandles",
		"stale-invalid-parameter":       "InvalidParameter",
		"stale-failed-operation":        "FailedOperation",
		"stale-resource-not-found":      "ResourceNotFound",
		"stale-internal-error":          "InternalError",
	}},

	AskReconfirm: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(1)...)
		handles := c.pull(t).handles()
		require.Empty(t, c.confirm(t, handles...).Code)
		return c.confirm(t, handles...).Code
	}, want: map[string]string{"reconfirm-stale": "InvalidParameterValue", "reconfirm-ok": ""}},

	AskRetention: {opts: Options{Retention: time.Minute}, run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(2)...)
		time.Sleep(45 * time.Second)
		handles := c.pull(t).handles()
		time.Sleep(20 * time.Second) // in the lease, and past the retention
		during := c.confirm(t, handles[0]).Code
		time.Sleep(20 * time.Second)
		return fmt.Sprint(during, s.Counts().Purged, s.Counts().Ready)
	}, want: map[string]string{
		"retention-ends-between-leases": "1 0",
		"retention-ends-leases":         "InvalidParameterValue2 0",
		"retention-until-pulled":        "0 1",
	}},

	AskCount: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(20)...)
		c.pull(t)
		return count(t, c)
	}, want: map[string]string{"count-ready": "4", "count-leased": "20"}},

	AskCountAge: {run: func(t *testing.T, s *Server, c *testClient) string {
		counts := []string{count(t, c)}
		s.Publish(testApp, uploads(1)...)
		counts = append(counts, count(t, c))
		time.Sleep(5 * time.Second)
		counts = append(counts, count(t, c))
		time.Sleep(3 * time.Minute)
		return strings.Join(append(counts, count(t, c)), " ")
	}, want: map[string]string{"count-now": "0 1 1 1", "count-5s-old": "0 0 1 1", "count-3m-old": "0 0 0 1"}},

	AskNullFields: {run: func(t *testing.T, s *Server, c *testClient) string {
		event := deleted(t, s, c)
		return fmt.Sprint(strings.Count(event, ":null"), strings.Contains(event, `"EmulatorUnknownCompleteEvent":null`))
	}, want: map[string]string{"null-fields-absent": "0 false", "null-fields": "35 false", "null-fields-newer": "36 true"}},

	AskTypes: {run: func(t *testing.T, _ *Server, c *testClient) string {
		c.control(t, "POST", "events?sub_app_id=1500000001&generate=10", "")
		unknown := 0
		for _, raw := range c.pull(t).EventSet {
			unknown += strings.Count(string(raw), TypeUnknown)
		}
		return fmt.Sprint(unknown)
	}, want: map[string]string{"types-documented": "0", "types-newer": "5"}},

	AskPulledSign: {opts: Options{SignKey: "key1"}, run: deleted, want: map[string]string{
		"pulled-unsigned": `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
		"pulled-signed":   `{"Sign":"` + signedSign + `","T":` + signedT + `,"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
	}},
	AskSignPlace: signed(map[string]string{
		"sign-beside-type":    `{"Sign":"` + signedSign + `","T":` + signedT + `,"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
		"sign-behind-payload": `{"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]},"Sign":"` + signedSign + `","T":` + signedT + `}`,
		"sign-in-payload":     `{"EventType":"FileDeleted","FileDeleteEvent":{"Sign":"` + signedSign + `","T":` + signedT + `,"FileIdSet":[]}}`,
	}),
	AskSignNames: signed(map[string]string{
		"sign-names-capital": `{"Sign":"` + signedSign + `","T":` + signedT + `,"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
		"sign-names-lower":   `{"sign":"` + signedSign + `","t":` + signedT + `,"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
	}),
	AskSignCase: signed(map[string]string{
		"sign-lower": `{"Sign":"` + signedSign + `","T":` + signedT + `,"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
		"sign-upper": `{"Sign":"` + strings.ToUpper(signedSign) + `","T":` + signedT + `,"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
	}),
	AskSignTime: signed(map[string]string{
		"sign-t-number": `{"Sign":"` + signedSign + `","T":` + signedT + `,"EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
		"sign-t-string": `{"Sign":"` + signedSign + `","T":"` + signedT + `","EventType":"FileDeleted","FileDeleteEvent":{"FileIdSet":[]}}`,
	}),

	AskPushAnswer: {run: posted, want: map[string]string{"push-answer-any": "0s; 1 done", "push-answer-2xx": "0s 0s 0s; 0 done"}},
	AskPushRetry: {opts: Options{Variants: Variants{PushAcknowledge: AcknowledgeSuccess}}, run: posted, want: map[string]string{
		"push-retry-at-once": "0s 0s 0s; 0 done",
		"push-retry-later":   "0s 10s 20s; 0 done",
		"push-retry-often":   "0s 10s 20s 30s 40s 50s 1m0s 1m10s 1m20s 1m30s 1m40s 1m50s 2m0s 2m10s 2m20s 2m30s 2m40s 2m50s 3m0s 3m10s 3m20s; 0 done",
		"push-retry-never":   "0s; 0 done",
	}},

	AskPushMode: {run: func(t *testing.T, s *Server, c *testClient) string {
		s.Publish(testApp, uploads(1)...)
		require.NoError(t, s.SetMode(testApp, ModePush))
		a := c.pull(t)
		return a.Code + fileIDs(a)
	}, want: map[string]string{
		"push-mode-empty":                   "ResourceNotFound",
		"push-mode-events":                  "1",
		"push-mode-failed-operation":        "FailedOperation",
		"push-mode-unsupported-operation":   "UnsupportedOperation",
		"push-mode-invalid-parameter-value": "InvalidParameterValue",
	}},

	AskUnknownSubApp: {opts: Options{SubAppIDs: []uint64{testApp}}, run: func(t *testing.T, _ *Server, c *testClient) string {
		return c.must(t, ActionPullEvents, appBody(7)).Code + " " + c.must(t, ActionDescribeEventsState, appBody(7)).Code
	}, want: map[string]string{
		"sub-app-invalid":          "InvalidParameterValue.SubAppId InvalidParameterValue.SubAppId",
		"sub-app-empty":            "ResourceNotFound InvalidParameterValue.SubAppId",
		"sub-app-not-found":        "ResourceNotFound ResourceNotFound",
		"sub-app-failed-operation": "FailedOperation FailedOperation",
		"sub-app-unauthorized":     "UnauthorizedOperation UnauthorizedOperation",
	}},
}

func count(t *testing.T, c *testClient) string {
	return string(c.must(t, ActionDescribeEventsState, appBody(testApp)).Fields["CountOfEventsToPull"])
}

// posted is when an event is posted to a target that always answers 500.
func posted(t *testing.T, s *Server, _ *testClient) string {
	network := NewNetwork()
	s.opts.PushDial = network.DialContext
	s.poster = newPoster(&s.opts)
	g := &target{answer: func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusInternalServerError) }}
	server := &http.Server{Handler: g}
	go func() { _ = server.Serve(network) }()
	require.NoError(t, s.SetNotification(testApp, "http://target/", ""))
	require.NoError(t, s.SetMode(testApp, ModePush))
	start := time.Now()
	s.Publish(testApp, uploads(1)...)
	time.Sleep(time.Hour)
	var at []string
	_, times := g.seen()
	for _, at0 := range times {
		at = append(at, at0.Sub(start).String())
	}
	synctest.Wait()
	require.NoError(t, server.Close())
	return fmt.Sprint(strings.Join(at, " "), "; ", s.Counts().Acknowledged, " done")
}

// Each variant does what it says, and no two of a question do the same.
func TestEachVariantDoesWhatItSays(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range AllVariants() {
		t.Run(v.Name, func(t *testing.T) {
			sc, ok := scenarios[v.Question]
			require.True(t, ok, "no scenario for the question: %s", v.Question)
			want, ok := sc.want[v.Name]
			require.True(t, ok, "the scenario has no expectation")
			opts := sc.opts
			require.NoError(t, opts.Choose(v.Name))
			require.NoError(t, opts.Validate())
			require.True(t, opts.Follows(v))
			inBubble(t, opts, func(t *testing.T, s *Server, c *testClient) {
				require.Equal(t, want, sc.run(t, s, c))
			})
			key := fmt.Sprint(v.Question, "\x00", want)
			require.False(t, seen[key], "another variant does the same")
			seen[key] = true
			require.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)+$`, v.Name)
			require.NotEmpty(t, v.Summary)
		})
	}
	total := 0
	for _, sc := range scenarios {
		total += len(sc.want)
	}
	require.Len(t, AllVariants(), total, "a scenario is for a variant that does not exist")
}

func TestTheDefaultsAreVariants(t *testing.T) {
	questions := map[Question]int{}
	names := map[string]bool{}
	for _, v := range AllVariants() {
		require.False(t, names[v.Name], v.Name)
		names[v.Name] = true
		require.Equal(t, v.Default, Options{SignKey: "k"}.Follows(v), v.Name)
		if v.Default {
			questions[v.Question]++
		} else {
			require.Positive(t, questions[v.Question], "the default is first")
		}
	}
	for question, n := range questions {
		require.Equal(t, 1, n, question)
	}
}

func TestChoose(t *testing.T) {
	var o Options
	require.NoError(t, o.Choose("handle-same", "empty-null", "handle-same"))
	require.Equal(t, Variants{StableHandles: true, Empty: EmptyNull}, o.Variants)
	require.EqualError(t, o.Choose("handle-new", "handle-same"), "variants: handle-new and handle-same exclude each other (handle of a redelivery), write one of them")
	require.ErrorContains(t, o.Choose("x"), `variant: "x" does not exist`)
	o = Options{}
	require.NoError(t, o.Choose("pulled-signed"))
	require.Equal(t, DefaultSignKey, o.SignKey)
	o = Options{SignKey: "mine"}
	require.NoError(t, o.Choose("pulled-signed"))
	require.Equal(t, "mine", o.SignKey)
}

func TestControlVariants(t *testing.T) {
	var opts Options
	require.NoError(t, opts.Choose("order-last", "hold-none"))
	inBubble(t, opts, func(t *testing.T, _ *Server, c *testClient) {
		_, answer := c.control(t, "GET", "variants", "")
		var list struct {
			Variants []struct {
				Name, Question, Summary string
				Active, Default         bool
			}
		}
		require.NoError(t, json.Unmarshal([]byte(answer), &list))
		require.Len(t, list.Variants, len(AllVariants()))
		var changed []string
		for _, v := range list.Variants {
			if v.Active && !v.Default {
				changed = append(changed, v.Name+"; "+v.Question+"; "+v.Summary)
			}
		}
		require.Equal(t, []string{
			"order-last; order of redeliveries; an event comes back behind those that wait",
			"hold-none; hold of an empty poll; an empty poll is answered at once",
		}, changed)
	})
}
