package callback

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vodrelay/vodrelay/pkg/emulator"
	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const memoryURL = "http://receiver/"

func TestRefusals(t *testing.T) {
	h := &recorder{}
	cfg := testConfig()
	cfg.Path = "/vod"
	s := receiver(t, cfg, nil, h)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, c := range []struct {
		change func(*http.Request)
		status int
	}{
		{func(*http.Request) {}, 200},
		{func(r *http.Request) { r.URL.Path = "/" }, 404},
		{func(r *http.Request) { r.URL.Path = "/vod/x" }, 404},
		{func(r *http.Request) { r.Method = http.MethodGet }, 405},
		{func(r *http.Request) { r.Method = http.MethodPut }, 405},
		{func(r *http.Request) { r.Header.Del("Content-Type") }, 200},
		{header("Content-Type", "application/json; charset=UTF-8"), 200},
		{header("Content-Type", "application/json; charset=gbk"), 415},
		{header("Content-Type", "application/x-www-form-urlencoded"), 200},
		{header("Content-Type", "application/cloudevents+json"), 200},
		{header("Content-Type", "multipart/form-data; boundary=x"), 415},
		{header("Content-Type", "text/html"), 415},
		{header("Content-Type", ";;"), 415},
		{header("Content-Encoding", "gzip"), 415},
		{header("Content-Encoding", "identity"), 200},
		{func(r *http.Request) { r.ContentLength = cfg.MaxBody + 1 }, 413},
	} {
		status, text := ask(s, notification(1), func(r *http.Request) { r.URL.Path = "/vod"; c.change(r) })
		require.Equal(t, c.status, status, text)
		require.NotEmpty(t, text)
		require.NotContains(t, text, "\n")
	}
	require.EqualValues(t, 10, s.Stats().Refused)
}

func TestAllow(t *testing.T) {
	h := &recorder{}
	for _, c := range []struct {
		from, forwarded string
		status          int
	}{
		{"203.0.113.9:4711", "", 200},
		{"[::ffff:203.0.113.9]:4711", "", 200},
		{"198.51.100.1:4711", "", 403},
		{"198.51.100.1:4711", "203.0.113.9", 403}, // no trusted proxy
		{"10.1.2.3:4711", "203.0.113.9", 200},
		{"10.1.2.3:4711", "203.0.113.9:1234, 10.9.9.9", 200},
		{"10.1.2.3:4711", "203.0.113.9, 198.51.100.1", 403}, // the first one anybody can write
		{"10.1.2.3:4711", "203.0.113.9, unknown", 403},
		{"10.1.2.3:4711", "", 403},
		{"10.1.2.3:4711", "[2001:db8::1]:5", 200},
		{"pipe", "", 403},
	} {
		cfg := testConfig()
		cfg.Allow, cfg.TrustedProxies = []string{"203.0.113.0/24", "2001:db8::/32"}, []string{"10.0.0.0/8"}
		status, _ := ask(receiver(t, cfg, nil, h), notification(1), func(r *http.Request) {
			r.RemoteAddr = c.from
			if c.forwarded != "" {
				first, rest, _ := strings.Cut(c.forwarded, ",") // proxies may add a header or a value
				r.Header.Set("X-Forwarded-For", first)
				if rest != "" {
					r.Header.Add("X-Forwarded-For", rest)
				}
			}
		})
		require.Equal(t, c.status, status, "%s %s", c.from, c.forwarded)
	}
}

// inBubble has f post to a receiver whose handler decides, in a time of its own.
func inBubble(t *testing.T, cfg Config, decide func(ctx context.Context, d event.Delivery, call int) error, f func(t *testing.T, s *Server, h *recorder, post func(body string) (status int, after time.Duration))) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{decide: decide}
		s := receiver(t, cfg, nil, h)
		client := serveInMemory(t, s)
		f(t, s, h, func(body string) (int, time.Duration) {
			start := time.Now()
			status, err := post(client, memoryURL, []byte(body))
			if err != nil {
				status = -1
			}
			return status, time.Since(start)
		})
	})
}

func TestASlowEventIsAnsweredInTimeAndItsResultToldToTheNextAttempt(t *testing.T) {
	sleep := func(d time.Duration) func(context.Context, event.Delivery, int) error {
		return func(ctx context.Context, _ event.Delivery, _ int) error {
			time.Sleep(d)
			return ctx.Err()
		}
	}
	type answer struct {
		status int
		after  time.Duration
	}
	for name, c := range map[string]struct {
		work    time.Duration
		answers []answer // to attempts every 5 s
		stats   Stats
	}{
		"in time":           {3 * time.Second, []answer{{200, 3 * time.Second}}, Stats{Requests: 1, Accepted: 1}},
		"before the second": {4500 * time.Millisecond, []answer{{503, 4 * time.Second}, {200, 0}}, Stats{Requests: 2, Accepted: 1, Unsettled: 1, Remembered: 1}},
		"in the second":     {6 * time.Second, []answer{{503, 4 * time.Second}, {200, time.Second}}, Stats{Requests: 2, Accepted: 1, Unsettled: 1, Joined: 1}},
		"in the third":      {13 * time.Second, []answer{{503, 4 * time.Second}, {503, 4 * time.Second}, {200, 3 * time.Second}}, Stats{Requests: 3, Accepted: 1, Unsettled: 2, Joined: 2}},
		"never":             {16 * time.Second, []answer{{503, 4 * time.Second}, {503, 4 * time.Second}, {503, 4 * time.Second}}, Stats{Requests: 3, Unsettled: 3, Joined: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, testConfig(), sleep(c.work), func(t *testing.T, s *Server, h *recorder, post func(string) (int, time.Duration)) {
				for i, want := range c.answers {
					status, after := post(notification(1))
					require.Equal(t, want, answer{status, after}, "attempt %d", i+1)
					if i < len(c.answers)-1 {
						time.Sleep(5*time.Second - after)
					}
				}
				require.Equal(t, 1, h.calls())
				if name == "never" {
					time.Sleep(c.work)
				}
				c.stats.Connections.Open = 1
				require.Equal(t, c.stats, s.Stats())
				h.answer(nil)
				status, _ := post(notification(1)) // another notification with the same content
				require.Equal(t, 200, status)
				require.Equal(t, 2, h.calls(), "what was told is forgotten")
			})
		})
	}
}

func TestWhatNobodyAsksForAgainIsForgotten(t *testing.T) {
	inBubble(t, testConfig(), func(context.Context, event.Delivery, int) error { time.Sleep(4200 * time.Millisecond); return nil },
		func(t *testing.T, _ *Server, h *recorder, post func(string) (int, time.Duration)) {
			status, _ := post(notification(1))
			require.Equal(t, 503, status)
			time.Sleep(rememberFor + time.Second)
			status, _ = post(notification(1))
			require.Equal(t, 503, status)
			require.Equal(t, 2, h.calls())
		})
}

func TestAFailureIsAnsweredAtOnce(t *testing.T) {
	inBubble(t, testConfig(), func(_ context.Context, _ event.Delivery, call int) error {
		switch call {
		case 1:
			return errDown
		case 2:
			panic("a bug")
		}
		return nil
	}, func(t *testing.T, s *Server, h *recorder, post func(string) (int, time.Duration)) {
		for _, want := range []int{503, 503, 200} {
			status, after := post(notification(1))
			require.Equal(t, want, status)
			require.Zero(t, after)
		}
		require.Equal(t, 3, h.calls())
		require.EqualValues(t, 2, s.Stats().Unsettled)
	})
	h := &recorder{decide: func(context.Context, event.Delivery, int) error { return errDown }}
	s := receiver(t, testConfig(), nil, h)
	client := http.Client{}
	defer client.CloseIdleConnections()
	resp, err := client.Post(serve(t, s), "application/json", strings.NewReader(notification(1)))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "the notification could not be settled: see vodrelay's log\n", string(text), "no more than that is told to strangers")
}

func TestSilenceOutlastsVODsTimeout(t *testing.T) {
	cfg := testConfig()
	cfg.Unsettled = UnsettledSilence
	inBubble(t, cfg, func(context.Context, event.Delivery, int) error { return errDown },
		func(t *testing.T, _ *Server, _ *recorder, post func(string) (int, time.Duration)) {
			status, after := post(notification(1))
			require.Equal(t, -1, status, "the connection ends without an answer")
			require.Equal(t, 6*time.Second, after)
		})
}

func TestCopiesThatArriveTogetherAreOne(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	defer once.Do(func() { close(release) })
	h := &recorder{decide: func(context.Context, event.Delivery, int) error { <-release; return nil }}
	cfg := testConfig()
	cfg.MaxConcurrent = 2
	s := receiver(t, cfg, nil, h)
	var all sync.WaitGroup
	codes := make([]int, 50)
	for i := range codes {
		all.Go(func() {
			body := notification(i % 2)
			if i%3 == 0 {
				body = strings.Replace(body, `{`, `{"EventHandle":"x",`, 1)
			}
			codes[i], _ = ask(s, body)
		})
	}
	require.Eventually(t, func() bool { return s.Stats().InHand == 2 }, 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		s.hand.mu.Lock()
		defer s.hand.mu.Unlock()
		waiting := 0
		for _, e := range s.hand.entries {
			waiting += e.waiting
		}
		return waiting == len(codes)
	}, 5*time.Second, time.Millisecond)
	once.Do(func() { close(release) })
	all.Wait()
	for _, code := range codes {
		require.Equal(t, 200, code)
	}
	require.Equal(t, 2, h.calls())
}

func TestAFullReceiverAnswersInTime(t *testing.T) {
	cfg := testConfig()
	cfg.MaxConcurrent = 3
	inBubble(t, cfg, func(context.Context, event.Delivery, int) error { time.Sleep(10 * time.Second); return nil },
		func(t *testing.T, _ *Server, h *recorder, post func(string) (int, time.Duration)) {
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					status, after := post(notification(i))
					require.Equal(t, 503, status)
					require.Equal(t, 4*time.Second, after)
				})
			}
			all.Wait()
			require.Equal(t, 3, h.calls(), "bounded")
			time.Sleep(10 * time.Second)
			h.answer(func(context.Context, event.Delivery, int) error { time.Sleep(3 * time.Second); return nil })
			statuses := make([]int, 8) // two copies of four: the last one waits for a place, and its copy with it
			for i := range statuses {
				all.Go(func() { statuses[i], _ = post(notification(100 + i/2)) })
			}
			all.Wait()
			require.Equal(t, 4, h.calls()-3, "copies are one while they wait, too")
			slices.Sort(statuses)
			require.Equal(t, []int{200, 200, 200, 200, 200, 200, 503, 503}, statuses)
			h.answer(nil)
			for i := range 20 {
				status, _ := post(notification(i))
				require.Equal(t, 200, status, "what found no place is out of hand")
			}
		})
}

func TestLargeBodiesShareTheirMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{decide: func(context.Context, event.Delivery, int) error { time.Sleep(10 * time.Second); return nil }}
		cfg := testConfig()
		cfg.MaxBody = 16 << 20
		s := receiver(t, cfg, nil, h)
		codes := make(chan string, 8)
		for i := range 8 { // chunked, so that each may become as large as MaxBody
			go func() {
				_, text := ask(s, notification(i), func(r *http.Request) { r.ContentLength = -1 })
				codes <- text
			}()
		}
		texts := map[string]int{}
		for range 8 {
			texts[<-codes]++
		}
		require.Equal(t, map[string]int{"the notification is not settled yet": 4, "too many large notifications at a time": 4}, texts)
		require.Equal(t, 4, h.calls())
		time.Sleep(10 * time.Second)
		status, _ := ask(s, `{"EventType":"Small"}`)
		require.Equal(t, 503, status)
		require.True(t, s.memory.TryAcquire(bodyMemory), "all is given back")
		time.Sleep(time.Minute)
	})
}

func TestAClientThatLeavesEndsNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{decide: func(ctx context.Context, _ event.Delivery, _ int) error {
			time.Sleep(2 * time.Second)
			return ctx.Err()
		}}
		s := receiver(t, testConfig(), nil, h)
		client := serveInMemory(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, memoryURL, bytes.NewReader([]byte(notification(1))))
		require.NoError(t, err)
		_, err = client.Do(r)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		status, err := post(client, memoryURL, []byte(notification(1)))
		require.NoError(t, err)
		require.Equal(t, 200, status)
		require.Equal(t, 1, h.calls())
		require.EqualValues(t, 1, s.Stats().Remembered)
	})
}

// TestOnlySilenceHasVODTryAgain is what VOD's documentation comes to: it ignores the status of an answer.
func TestOnlySilenceHasVODTryAgain(t *testing.T) {
	for unsettled, want := range map[string]string{UnsettledStatus: "acknowledged 503", UnsettledSilence: "acknowledged 200"} {
		synctest.Test(t, func(t *testing.T) {
			mended := time.Now().Add(7 * time.Second)
			cfg := testConfig()
			cfg.Unsettled, cfg.SignKey = unsettled, testKey
			s := receiver(t, cfg, nil, &recorder{decide: func(context.Context, event.Delivery, int) error {
				if time.Now().Before(mended) {
					return errDown
				}
				return nil
			}})
			network := emulator.NewNetwork()
			require.NoError(t, s.listenOn(network))
			serveUntilEnd(t, s)
			cloud := emulator.New(emulator.Options{Mode: emulator.ModePush, NotificationURL: memoryURL, SignKey: testKey, PushDial: network.DialContext})
			defer cloud.Close()
			cloud.Publish(testApp, []byte(notification(1)))
			time.Sleep(time.Minute)
			last := cloud.Journal()[len(cloud.Journal())-1]
			require.Equal(t, want, fmt.Sprintf("%s %d", last.Kind, last.Status))
		})
	}
}

// What is refused is the fault of single notifications: the next good one does not end it, and does not begin it anew.
func TestAMixOfGoodAndRefusedNotificationsKeepsTheLogShort(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	n := 0
	h := &recorder{decide: func(context.Context, event.Delivery, int) error { // one after the other
		if n++; n%2 == 0 {
			return retry.Permanent(fmt.Errorf("sink site: refused after %d ms", n))
		}
		return nil
	}}
	s := receiver(t, testConfig(), zap.New(core), h)
	statuses := map[int]int{}
	for i := range 100 {
		status, _ := ask(s, notification(i))
		statuses[status]++
	}
	require.Equal(t, map[int]int{http.StatusOK: 50, http.StatusServiceUnavailable: 50}, statuses)
	require.Len(t, logs.FilterMessageSnippet("could not be settled").All(), 1)
	require.Empty(t, logs.FilterMessageSnippet("accepted again").All())
}
