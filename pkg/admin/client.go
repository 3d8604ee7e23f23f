package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// maxReply is the most bytes of an answer that a Client reads: a page of events as large as they come.
const maxReply = 256 << 20

// Client asks the admin server of a running vodrelay. It is safe for concurrent use.
type Client struct {
	base  string
	token func() (string, error)
	http  *http.Client
}

// ErrNoServer is wrapped by the error of a Client when nothing answers at the address.
var ErrNoServer = errors.New("no vodrelay answers")

// NewClient makes one for the server that cfg, which must be valid, describes. An address that stands for
// all of this machine's is asked on the loopback one.
func NewClient(cfg Config) (*Client, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %q: there is no admin server without an address", cfg.Listen)
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	transport := &http.Transport{ // no proxy: it is this machine, or a neighbour
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ResponseHeaderTimeout: changeTime,
		DisableKeepAlives:     true, // a command asks once or twice
	}
	return &Client{
		base: "http://" + net.JoinHostPort(host, port), token: cfg.currentToken,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Status is the server's state.
func (c *Client) Status(ctx context.Context) (st Status, err error) {
	return st, c.do(ctx, http.MethodGet, "/status", nil, &st)
}

// List returns a page of the parcels that fit, which may be limit (at most 1,000) or fewer, from behind
// after.
func (c *Client) List(ctx context.Context, f Filter, after string, limit int) (page ParcelPage, err error) {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("state", string(f.State))
	set("sink", f.Sink)
	if f.SubAppID != nil {
		set("sub_app_id", strconv.FormatUint(*f.SubAppID, 10))
	}
	set("type", f.Type)
	set("id", f.EventID)
	set("error", f.Error)
	set("older_than", timeText(f.OlderThan))
	set("newer_than", timeText(f.NewerThan))
	set("after", after)
	set("limit", strconv.Itoa(min(limit, maxPage)))
	return page, c.do(ctx, http.MethodGet, "/parcels?"+q.Encode(), nil, &page)
}

// Get returns the parcels of an event with its content, of one sink only when sink is not empty. id may be what
// the event's ID begins with; an AmbiguousError lists what else does.
func (c *Client) Get(ctx context.Context, id, sink string) ([]Parcel, error) {
	path := "/parcels/" + url.PathEscape(id)
	if sink != "" {
		path += "?" + url.Values{"sink": {sink}}.Encode()
	}
	var page ParcelPage
	err := c.do(ctx, http.MethodGet, path, nil, &page)
	return page.Parcels, err
}

// Replay makes the selected parcels due now and returns how many they were, also beside an error.
func (c *Client) Replay(ctx context.Context, sel selection.Selection) (int64, error) {
	return c.change(ctx, "/parcels/replay", sel)
}

// Drop deletes the selected parcels and returns how many they were, also beside an error.
func (c *Client) Drop(ctx context.Context, sel selection.Selection) (int64, error) {
	return c.change(ctx, "/parcels/drop", sel)
}

// Plan looks at what sel means and changes nothing.
func (c *Client) Plan(ctx context.Context, sel selection.Selection) (*selection.Plan, error) {
	sel.DryRun = true
	var plan selection.Plan
	err := c.do(ctx, http.MethodPost, "/parcels/drop", sel, &plan) // that of a replay is the same
	return &plan, err
}

// PlanMove looks at what m would move, and changes nothing.
func (c *Client) PlanMove(ctx context.Context, m selection.Move) (*selection.Plan, error) {
	m.DryRun = true
	var plan selection.Plan
	err := c.do(ctx, http.MethodPost, "/parcels/move", m, &plan)
	return &plan, err
}

// Move hands the parcels of one sink to another. Beside an error only Parcels is known.
func (c *Client) Move(ctx context.Context, m selection.Move) (moved selection.Moved, err error) {
	err = c.do(ctx, http.MethodPost, "/parcels/move", m, &moved)
	var refusal *RefusedError
	if errors.As(err, &refusal) {
		moved.Parcels = refusal.problem.Parcels
	}
	return moved, err
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func (c *Client) change(ctx context.Context, path string, sel selection.Selection) (int64, error) {
	var changed ParcelsChanged
	err := c.do(ctx, http.MethodPost, path, sel, &changed)
	var refusal *RefusedError
	if errors.As(err, &refusal) {
		return refusal.problem.Parcels, err
	}
	return changed.Parcels, err
}

// RefusedError is the answer of a server that did not do what it was asked.
type RefusedError struct {
	Status  int // of HTTP
	problem problem
}

func (e *RefusedError) Error() string {
	if e.problem.Error == "" {
		return fmt.Sprintf("the admin server answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return safetext.Line(e.problem.Error, 0)
}

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	token, err := c.token()
	if err != nil {
		return fmt.Errorf("token_file: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return fmt.Errorf("%w at %s: %w", ErrNoServer, c.base, op.Err)
		}
		return fmt.Errorf("ask the admin server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or given up
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("read the admin server's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		refusal := &RefusedError{Status: resp.StatusCode}
		_ = json.Unmarshal(text, &refusal.problem) // what is no JSON has its status to tell
		if p := refusal.problem; len(p.Matches) > 0 {
			return &selection.AmbiguousError{Problem: safetext.Line(p.Error, 0), Matches: p.Matches, More: p.More}
		}
		return retry.WithHint(refusal, refusal.problem.Hint)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the admin server's answer is not as expected: is something else at %s? %w", c.base, err)
	}
	return nil
}
