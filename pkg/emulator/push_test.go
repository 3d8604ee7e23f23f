package emulator

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// target receives posts on a network of its own.
type target struct {
	mu     sync.Mutex
	bodies []string
	at     []time.Time
	answer func(w http.ResponseWriter, r *http.Request, n int) // nil: 200
}

func (g *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	g.mu.Lock()
	if err == nil {
		g.bodies = append(g.bodies, string(body))
	}
	g.at = append(g.at, time.Now())
	n := len(g.at)
	g.mu.Unlock()
	if g.answer != nil {
		g.answer(w, r, n)
	}
}

// seen is the bodies that arrived whole, and the time of every post.
func (g *target) seen() (bodies []string, at []time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.bodies), slices.Clone(g.at)
}

// pushing runs f in a bubble with an application in PUSH mode and its target.
func pushing(t *testing.T, opts Options, f func(t *testing.T, s *Server, g *target)) {
	synctest.Test(t, func(t *testing.T) {
		network := NewNetwork()
		g := &target{}
		server := &http.Server{Handler: g}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(network) }()
		opts.Mode, opts.NotificationURL, opts.PushDial = ModePush, "http://target/vod", network.DialContext
		s := New(opts)
		f(t, s, g)
		s.Close()
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
}

// story is the journal in short.
func story(s *Server) (lines []string) {
	for _, e := range s.Journal() {
		if e.Kind != KindPublished {
			lines = append(lines, fmt.Sprint(e.Kind, " ", e.Event, " ", e.Try, " ", e.Status, " ", e.Code))
		}
	}
	return lines
}

func TestPush(t *testing.T) {
	pushing(t, Options{}, func(t *testing.T, s *Server, g *target) {
		contents := uploads(200)
		s.Publish(testApp, contents...)
		synctest.Wait()
		want := make([]string, len(contents))
		for i, c := range contents {
			want[i] = string(c)
		}
		slices.Sort(want)
		bodies, _ := g.seen()
		slices.Sort(bodies)
		require.Equal(t, want, bodies, "without a key nothing is added")
		counts := s.Counts()
		require.Equal(t, Counts{Published: 200, Pushed: 200, Acknowledged: 200}, counts)
		require.Empty(t, s.Pending())
		s.Publish(testApp, []byte(`{"EventHandle":"h","EventType":"A"}`))
		synctest.Wait()
		bodies, _ = g.seen()
		require.Equal(t, `{"EventType":"A"}`, bodies[200])
	})
}

func TestPushWaits5sAndTries3Times(t *testing.T) {
	pushing(t, Options{}, func(t *testing.T, s *Server, g *target) {
		g.answer = func(w http.ResponseWriter, r *http.Request, n int) {
			select {
			case <-time.After(6 * time.Second):
			case <-r.Context().Done():
			}
		}
		start := time.Now()
		s.Publish(testApp, uploads(1)...)
		time.Sleep(20 * time.Second)
		_, posts := g.seen()
		require.Len(t, posts, 3)
		for i, at := range posts {
			require.Equal(t, time.Duration(i)*5*time.Second, at.Sub(start))
		}
		require.Equal(t, []string{"pushed 1 1 0 ", "unanswered 1 1 0 timeout", "pushed 1 2 0 ", "unanswered 1 2 0 timeout", "pushed 1 3 0 ", "given-up 1 3 0 timeout"}, story(s))
		require.Equal(t, Counts{Published: 1, Pushed: 3, GivenUp: 1}, s.Counts())
	})
}

func TestWhichAnswersAcknowledge(t *testing.T) {
	for variant, want := range map[Acknowledge][]string{
		"": {"pushed 1 1 0 ", "acknowledged 1 1 503 "},
		AcknowledgeSuccess: {
			"pushed 1 1 0 ", "unanswered 1 1 503 status", "pushed 1 2 0 ", "unanswered 1 2 302 status", "pushed 1 3 0 ", "acknowledged 1 3 204 ",
		},
	} {
		pushing(t, Options{PushPause: time.Second, Variants: Variants{PushAcknowledge: variant}}, func(t *testing.T, s *Server, g *target) {
			g.answer = func(w http.ResponseWriter, _ *http.Request, n int) {
				w.Header().Set("Location", "/other")
				w.WriteHeader([]int{503, 302, 204}[n-1])
			}
			s.Publish(testApp, uploads(1)...)
			time.Sleep(10 * time.Second)
			require.Equal(t, want, story(s))
			if variant != "" {
				_, at := g.seen()
				require.Equal(t, time.Second, at[1].Sub(at[0]))
			}
		})
	}
}

func TestPushIsSigned(t *testing.T) {
	for _, v := range []Variants{
		{}, {SignUpper: true, SignTString: true}, {SignPlace: SignInPayload}, {SignPlace: SignInPayload, NullFields: NullsDocumented},
		{SignPlace: SignLast}, {SignPlace: SignLast, SignNamesLower: true},
	} {
		pushing(t, Options{SignKey: "key1", Variants: v}, func(t *testing.T, s *Server, g *target) {
			s.Publish(testApp, []byte(`{ "EventType":"FileDeleted", "PullCompleteEvent":null, "FileDeleteEvent" : { "FileIdSet":["1"]}}`), []byte(`{"EventType":"E","EEvent":{}}`), []byte(`{}`))
			synctest.Wait()
			bodies, _ := g.seen()
			for _, body := range bodies {
				var all map[string]any
				require.NoError(t, json.Unmarshal([]byte(body), &all), body)
				holder := all
				for _, name := range []string{"FileDeleteEvent", "EEvent"} {
					if inner, ok := all[name].(map[string]any); ok && v.SignPlace == SignInPayload {
						holder = inner
					}
				}
				at := strconv.FormatInt(time.Now().Add(10*time.Minute).Unix(), 10)
				want := fmt.Sprintf("%x", md5.Sum([]byte("key1"+at)))
				sign, tName := "Sign", "T"
				if v.SignNamesLower {
					sign, tName = "sign", "t"
				}
				if v.SignUpper {
					want = fmt.Sprintf("%X", md5.Sum([]byte("key1"+at)))
				}
				require.Equal(t, want, holder[sign], body)
				if v.SignTString {
					require.Equal(t, at, holder[tName])
				} else {
					require.Contains(t, body, `"`+tName+`":`+at)
				}
			}
			require.Len(t, bodies, 3)
		})
	}
}

func TestModesSwitchWithADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, api := NewNetwork(), NewNetwork()
		g := &target{}
		server := &http.Server{Handler: g}
		go func() { _ = server.Serve(network) }()
		defer server.Close()
		withServer(t, Options{ModeDelay: 10 * time.Minute, PushDial: network.DialContext}, api, api.DialContext, "http://emulator", func(t *testing.T, s *Server, c *testClient) {
			modify := func(fields string) {
				t.Helper()
				require.Empty(t, c.must(t, ActionModifyEventConfig, fmt.Sprintf(`{"SubAppId":%d,%s}`, testApp, fields)).Code)
			}
			publish := func() []string {
				s.Publish(testApp, uploads(1)...)
				synctest.Wait()
				bodies, _ := g.seen()
				return bodies
			}
			modify(`"Mode":"PUSH","NotificationUrl":"http://target/","SignKey":"abc"`)
			require.Empty(t, publish(), "not yet in effect")
			time.Sleep(10 * time.Minute)
			bodies := publish()
			require.Len(t, bodies, 1)
			require.Contains(t, bodies[0], `"Sign":"`)
			require.EqualValues(t, 1, s.Counts().Ready, "what was queued stays in the queue")
			modify(`"SignKey":""`)
			modify(`"Mode":"PULL"`)
			bodies = publish()
			require.Len(t, bodies, 2, "still in PUSH mode")
			require.NotContains(t, bodies[1], "Sign")
			time.Sleep(10 * time.Minute)
			require.Len(t, publish(), 2)
			require.Len(t, c.pull(t).EventSet, 2)
			require.Equal(t, "InvalidParameterValue", c.must(t, ActionModifyEventConfig, fmt.Sprintf(`{"SubAppId":%d,"NotificationUrl":"ftp://x"}`, testApp)).Code)
		})
	})
}

func TestPushFaults(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		posts int // that arrived whole
		want  []string
	}{
		{Fault{Kind: FaultReset, Times: 2}, 1, []string{"pushed 1 1 0 ", "unanswered 1 1 0 fault", "pushed 1 2 0 ", "unanswered 1 2 0 fault", "pushed 1 3 0 ", "acknowledged 1 3 200 "}},
		{Fault{Kind: FaultLoseReply}, 2, []string{"pushed 1 1 0 ", "unanswered 1 1 0 fault", "pushed 1 2 0 ", "acknowledged 1 2 200 "}},
		{Fault{Kind: FaultDuplicate}, 2, []string{"pushed 1 1 0 ", "acknowledged 1 1 200 "}},
		{Fault{Kind: FaultTruncate}, 1, []string{"pushed 1 1 0 ", "unanswered 1 1 0 connection", "pushed 1 2 0 ", "acknowledged 1 2 200 "}},
		{Fault{Kind: FaultLatency, Delay: time.Hour}, 1, []string{"pushed 1 1 0 ", "acknowledged 1 1 200 "}},
		{Fault{Kind: FaultHang, Delay: time.Hour}, 1, []string{"pushed 1 1 0 ", "acknowledged 1 1 200 "}},
		{Fault{Kind: FaultClockSkew, Delay: -time.Hour}, 1, []string{"pushed 1 1 0 ", "acknowledged 1 1 200 "}},
	} {
		pushing(t, Options{SignKey: "k"}, func(t *testing.T, s *Server, g *target) {
			c.fault.Action = ActionPush
			mustFault(t, s, c.fault)
			mustFault(t, s, Fault{Kind: FaultError}) // of the API: posts do not meet it
			start := time.Now()
			s.Publish(testApp, uploads(1)...)
			time.Sleep(2 * time.Hour)
			bodies, _ := g.seen()
			require.Len(t, bodies, c.posts, c.fault.Kind)
			require.Equal(t, c.want, story(s), c.fault.Kind)
			require.Len(t, s.Faults(), 1)
			if c.fault.Kind == FaultClockSkew {
				require.Contains(t, bodies[0], `"T":`+fmt.Sprint(start.Add(-50*time.Minute).Unix()))
			}
		})
	}
	s := New(Options{})
	defer s.Close()
	_, err := s.AddFault(Fault{Kind: FaultNoHold, Action: ActionPush})
	require.ErrorContains(t, err, "does not happen to a Push")
}

func TestPushToNobody(t *testing.T) {
	s := New(Options{Mode: ModePush, NotificationURL: "http://127.0.0.1:1/"})
	defer s.Close()
	s.Publish(testApp, uploads(1)...)
	require.Eventually(t, func() bool { return s.Counts().GivenUp == 1 }, 5*time.Second, time.Millisecond)
	require.Equal(t, "given-up 1 3 0 connection", story(s)[5])
	require.ErrorContains(t, s.SetNotification(testApp, "nowhere", ""), "http://host:port/path")
	require.ErrorContains(t, s.SetNotification(testApp, "", "not a key"), "letters and digits")
}

func TestResetAndCloseEndPosts(t *testing.T) {
	pushing(t, Options{PushConcurrency: 2}, func(t *testing.T, s *Server, g *target) {
		g.answer = func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() }
		s.Publish(testApp, uploads(10)...)
		synctest.Wait()
		posts := func() int { _, at := g.seen(); return len(at) }
		require.Equal(t, 2, posts(), "bounded")
		require.EqualValues(t, 10, s.Counts().Pushing)
		s.Reset()
		require.Zero(t, s.Counts())
		time.Sleep(30 * time.Second)
		require.Equal(t, 2, posts(), "what was forgotten is not posted")
		s.Publish(testApp, uploads(10)...)
		synctest.Wait()
		require.Equal(t, 4, posts())
		s.Close() // with posts under way
	})
}

func TestControlSetsWhereToPost(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *Server, c *testClient) {
		status, _ := c.control(t, "POST", "mode?sub_app_id=1500000001&mode=PUSH&url=http%3A%2F%2Ftarget%2F&sign_key=abc", "")
		require.Equal(t, 200, status)
		require.JSONEq(t, `"http://target/"`, string(c.must(t, ActionDescribeEventConfig, appBody(testApp)).Fields["NotificationUrl"]))
		status, answer := c.control(t, "POST", "mode?sub_app_id=1500000001&mode=PUSH&url=target", "")
		require.Equal(t, 400, status)
		require.Contains(t, answer, "http://host:port/path")
	})
}
