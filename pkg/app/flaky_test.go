package app_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func fetchJSON(t *testing.T, url string, into any) error {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// endpoint is a webhook's receiver that can be told what to answer.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	answer  func() (status int, after time.Duration)
	got     map[string]int // accepted requests by event ID
	answers map[int]int    // by status
}

func newEndpoint(t *testing.T, answer func() (int, time.Duration)) *endpoint {
	e := &endpoint{answer: answer, got: map[string]int{}, answers: map[int]int{}}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		status, after := e.answer()
		e.answers[status]++
		if status < 300 {
			e.got[r.Header.Get("Idempotency-Key")]++
		}
		e.mu.Unlock()
		if after > 0 {
			time.Sleep(after)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) tell(answer func() (int, time.Duration)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) accepted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.got)
}

func always(status int) func() (int, time.Duration) {
	return func() (int, time.Duration) { return status, 0 }
}

// An endpoint that answers some requests with a quick 503 and the others slowly is not down: all but a few events
// are accepted directly, and those that failed three times in a row come out of the store.
func TestAFlakyEndpointKeepsItsTraffic(t *testing.T) {
	const events = 3000
	for _, percent := range []int{5, 20, 30} {
		t.Run(fmt.Sprint(percent, " %"), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(percent), 1))
			e := newEndpoint(t, func() (int, time.Duration) { // called under a lock
				if random.IntN(100) < percent {
					return http.StatusServiceUnavailable, 0
				}
				return http.StatusOK, time.Duration(10+random.IntN(60)) * time.Millisecond
			})
			a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q, retry: {initial: 20ms, max: 100ms}, parcels: {initial: 100ms, max: 1s}}]`, e.URL))
			a.publish(events, 1)
			a.run()
			a.eventually("all are confirmed", func() bool { return a.cloud.Counts().Confirmed == events })
			sink := a.PipelineStats().Sinks[0]
			require.Less(t, float64(sink.Parked), 0.06*events, "of 30 %, 2.7 % fail three times in a row")
			require.Empty(t, a.logs.FilterMessageSnippet("sink is down").All())
			require.Equal(t, "closed", a.status().Sinks[0].Breaker)
			a.eventually("those in the store arrive, too", func() bool { return e.accepted() == events })
			e.mu.Lock()
			defer e.mu.Unlock()
			require.Len(t, e.answers, 2)
			require.InDelta(t, percent, 100*e.answers[503]/(e.answers[503]+e.answers[200]), 4)
		})
	}
}

// One that is down gets a few attempts and then probes; when it is back, all is sent at once.
func TestAnEndpointThatIsDownGetsProbes(t *testing.T) {
	const events = 2000
	e := newEndpoint(t, always(http.StatusServiceUnavailable))
	a := assemble(t, fmt.Sprintf(`[{name: site, type: webhook, url: %q, breaker: {open: 500ms}, parcels: {initial: 1m}}]`, e.URL))
	a.publish(events, 1)
	a.run()
	a.eventually("all are confirmed", func() bool { return a.cloud.Counts().Confirmed == events })
	e.mu.Lock()
	tried := e.answers[503]
	e.mu.Unlock()
	require.Less(t, tried, 200)
	require.Len(t, a.logs.FilterMessageSnippet("sink is down").All(), 1)
	e.tell(always(http.StatusNoContent))
	a.eventually("all arrive", func() bool { return e.accepted() == events })
	require.Len(t, a.logs.FilterMessage("sink is back").All(), 1)
	require.EqualValues(t, 1, a.logs.FilterMessage("sink is back").All()[0].ContextMap()["accepted"])
}
