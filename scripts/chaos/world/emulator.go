package world

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
)

const (
	application = 1500000001
	secretID    = "emulator-secret-id"
	secretKey   = "emulator-secret-key"
)

// emulator is the VOD API, a process of its own.
type emulator struct {
	*process
	address string // host:port
}

var announced = regexp.MustCompile(`The VOD event API is at http://([0-9.:]+),`)

// startEmulator starts it and returns when it answers.
func startEmulator(ctx context.Context, program, log string, args ...string) (*emulator, error) {
	found := make(chan string, 1)
	p, err := start(log, nil, func(line []byte) {
		if m := announced.FindSubmatch(line); m != nil {
			select {
			case found <- string(m[1]):
			default:
			}
		}
	}, program, append([]string{"emulator", "--listen", "127.0.0.1:0"}, args...)...)
	if err != nil {
		return nil, err
	}
	select {
	case address := <-found:
		return &emulator{p, address}, nil
	case <-p.ended:
		return nil, fmt.Errorf("the emulator ended with %d: see %s", p.code, log)
	case <-time.After(20 * time.Second):
	case <-ctx.Done():
	}
	p.kill()
	return nil, fmt.Errorf("the emulator did not start: see %s", log)
}

// control calls the control API. v gets the answer.
func (e *emulator) control(ctx context.Context, method, path string, values url.Values, body []byte, v any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+e.address+"/_emulator/"+path+"?"+values.Encode(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	case v == nil:
		return nil
	}
	return json.Unmarshal(text, v)
}

// publish puts events into the queue, one a line, and returns the number of the first.
func (e *emulator) publish(ctx context.Context, lines []byte) (first int64, err error) {
	var answer struct{ First int64 }
	err = e.control(ctx, http.MethodPost, "events", url.Values{"sub_app_id": {strconv.Itoa(application)}}, lines, &answer)
	return answer.First, err
}

// journal enters what happened since into the ledger.
func (e *emulator) journal(ctx context.Context, l *ledger.Ledger) error {
	for {
		var page struct{ Entries []ledger.Entry }
		after := url.Values{"after": {strconv.FormatInt(l.LastSeq(), 10)}, "limit": {"10000"}}
		if err := e.control(ctx, http.MethodGet, "journal", after, nil, &page); err != nil {
			return err
		}
		if len(page.Entries) == 0 {
			return nil
		}
		l.Journal(page.Entries...)
	}
}

// counts are those of the emulator.
type counts struct {
	Ready, Leased, Pushing int
	Confirmed              int
}

func (e *emulator) counts(ctx context.Context) (counts, error) {
	var answer struct{ Total counts }
	err := e.control(ctx, http.MethodGet, "state", nil, nil, &answer)
	return answer.Total, err
}

// fault is one of the emulator's faults.
type fault struct {
	Kind   string  `json:"kind"`
	Action string  `json:"action,omitempty"`
	Rate   float64 `json:"rate,omitempty"`
	Delay  string  `json:"delay,omitempty"`
	Code   string  `json:"code,omitempty"`
	After  bool    `json:"after,omitempty"`
}

// cloudFaults are all kinds that leave events as they were published. A request meets the first that hits it, so
// together they hit about a fifth of all requests.
var cloudFaults = func() []fault {
	const rate = 0.012
	all := []fault{
		{Kind: "latency", Delay: "1s"}, {Kind: "lose-reply"}, {Kind: "truncate"}, {Kind: "stall", Delay: "3s"}, {Kind: "content-type"},
		{Kind: "duplicate", Action: "PullEvents"}, {Kind: "no-hold", Action: "PullEvents"}, {Kind: "hang", Delay: "4s"},
		{Kind: "reset"}, {Kind: "bad-gateway"}, {Kind: "null-body"}, {Kind: "empty-body"}, {Kind: "empty-object"},
		{Kind: "reset", After: true}, {Kind: "bad-gateway", After: true}, {Kind: "null-body", After: true},
		{Kind: "too-many-requests", Delay: "1s"}, {Kind: "error"}, {Kind: "error", After: true},
		{Kind: "error", Code: "RequestLimitExceeded"}, {Kind: "error", Code: "FailedOperation"}, {Kind: "error", Code: "AuthFailure.TokenFailure"},
	}
	for i := range all {
		all[i].Rate = rate
	}
	return all
}()

func (e *emulator) addFault(ctx context.Context, f fault) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return e.control(ctx, http.MethodPost, "faults", nil, body, nil)
}

func (e *emulator) clearFaults(ctx context.Context) error {
	return e.control(ctx, http.MethodDelete, "faults", nil, nil, nil)
}

// mode sets the callback mode; url is where PUSH mode posts to.
func (e *emulator) mode(ctx context.Context, mode, to string) error {
	values := url.Values{"sub_app_id": {strconv.Itoa(application)}, "mode": {mode}}
	if to != "" {
		values.Set("url", to)
	}
	return e.control(ctx, http.MethodPost, "mode", values, nil, nil)
}

func (e *emulator) addKey(ctx context.Context, id, key string) error {
	body, err := json.Marshal(map[string]string{"secret_id": id, "secret_key": key})
	if err != nil {
		return err
	}
	return e.control(ctx, http.MethodPost, "credentials", nil, body, nil)
}

func (e *emulator) removeKey(ctx context.Context, id string) error {
	return e.control(ctx, http.MethodDelete, "credentials/"+id, nil, nil, nil)
}
