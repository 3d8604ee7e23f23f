package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
)

// The limits of the control API.
const (
	maxControlBody  = 64 << 20
	maxEventLine    = 1 << 20
	maxJournalPage  = 10_000
	defJournalPage  = 1_000
	maxFaultRequest = 1 << 20
)

const controlHelp = `The control API of the VOD event emulator.

POST   /_emulator/events?sub_app_id=N              publish the body: one event per line, as JSON
POST   /_emulator/events?sub_app_id=N&sample=NAME  publish a documented sample: normal-callback, reliable-callback
POST   /_emulator/events?sub_app_id=N&generate=N   publish generated events; also &seed=N&size=BYTES&types=A,B (or all)
GET    /_emulator/state                            counts, in total and for each application
GET    /_emulator/journal?after=SEQ&limit=N        what happened, in order: at most 10,000 entries; "missed" is how
                                                   many behind SEQ are no longer kept
GET    /_emulator/faults                           active faults
POST   /_emulator/faults                           add a fault: {"kind":"reset","action":"PullEvents","times":3};
                                                   the action Push is the posts of PUSH mode; kinds that spoil an
                                                   answer: extra-items, odd-items, deep, big, each with a "count"
DELETE /_emulator/faults                           end all faults, release requests that hang
DELETE /_emulator/faults/ID                        end one fault
POST   /_emulator/release                          release requests that hang
POST   /_emulator/mode?sub_app_id=N&mode=PUSH      change the callback mode at once; also &url=URL&sign_key=KEY, where
                                                   PUSH mode posts to and what signs it
GET    /_emulator/credentials                      the SecretIds that are accepted; no secrets
POST   /_emulator/credentials                      add or replace one: {"secret_id":"ID","secret_key":"KEY"}, with "token"
                                                   for a temporary one; another token is an expired one
DELETE /_emulator/credentials/ID                   refuse this SecretId from now on
GET    /_emulator/variants                         what the documentation leaves open, and what this server does
POST   /_emulator/reset                            forget everything but the credentials
`

func (s *Server) newControl() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !s.enter() {
				panic(http.ErrAbortHandler)
			}
			defer s.running.Done()
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
			v, err := f(r)
			status := http.StatusOK
			if err != nil {
				status, v = http.StatusBadRequest, map[string]string{"error": err.Error()}
				if errors.Is(err, errNotFound) {
					status = http.StatusNotFound
				}
			}
			answerControl(w, status, v)
		})
	}
	mux.HandleFunc("GET "+controlPath+"{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, controlHelp)
	})
	handle("POST "+controlPath+"events", s.controlPublish)
	handle("GET "+controlPath+"state", s.controlState)
	handle("GET "+controlPath+"journal", s.controlJournal)
	handle("GET "+controlPath+"faults", func(*http.Request) (any, error) { return faultList{s.Faults()}, nil })
	handle("POST "+controlPath+"faults", s.controlAddFault)
	handle("DELETE "+controlPath+"faults", done(s.ClearFaults))
	handle("DELETE "+controlPath+"faults/{id}", s.controlRemoveFault)
	handle("POST "+controlPath+"release", done(s.ReleaseHung))
	handle("POST "+controlPath+"mode", s.controlMode)
	handle("GET "+controlPath+"credentials", func(*http.Request) (any, error) { return s.credentialList(), nil })
	handle("POST "+controlPath+"credentials", s.controlSetCredential)
	handle("DELETE "+controlPath+"credentials/{id}", s.controlRemoveCredential)
	handle("GET "+controlPath+"variants", func(*http.Request) (any, error) { return s.variantList(), nil })
	handle("POST "+controlPath+"reset", done(s.Reset))
	// Pages of other sites cannot use it through a browser: neither as they are, nor under a name that is made to
	// resolve to this address. Programs send what they always do.
	return httpserver.Guard{
		Loopback: httpserver.CameByLoopback,
		Fail: func(w http.ResponseWriter, status int, text string) {
			answerControl(w, status, map[string]string{"error": text})
		},
	}.Handler(mux)
}

func answerControl(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // a client that went away needs no answer
}

var errNotFound = errors.New("not found")

func done(f func()) func(*http.Request) (any, error) {
	return func(*http.Request) (any, error) {
		f()
		return struct{}{}, nil
	}
}

// query reads query parameters; it keeps the first error.
type query struct {
	values url.Values
	known  []string
	err    error
}

func newQuery(r *http.Request) *query { return &query{values: r.URL.Query()} }

func (q *query) text(name string) string {
	q.known = append(q.known, name)
	return q.values.Get(name)
}

func (q *query) number(name string, fallback uint64, bits int) uint64 {
	text := q.text(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		q.fail("%s: %q is not a number from 0, or too large", name, clip(text))
	}
	return n
}

func (q *query) fail(format string, args ...any) {
	if q.err == nil {
		q.err = fmt.Errorf(format, args...)
	}
}

// done returns the first error, also that of a parameter nobody asked for.
func (q *query) done() error {
	for name := range q.values {
		if !oneOf(name, q.known...) {
			q.fail("%s: not a parameter, write one of %v", clip(name), q.known)
		}
	}
	return q.err
}

// published is the answer to a publication. The numbers between First and Last
// are the events'.
type published struct {
	Count int   `json:"count"`
	First int64 `json:"first,omitempty"`
	Last  int64 `json:"last,omitempty"`
}

func (s *Server) controlPublish(r *http.Request) (any, error) {
	q := newQuery(r)
	subAppID := q.number("sub_app_id", 0, 64)
	sample := q.text("sample")
	generate := q.text("generate")
	g := Generation{
		Count: int(q.number("generate", 0, 31)),
		Size:  int(q.number("size", 0, 31)),
		Seed:  q.number("seed", s.opts.Seed+s.generated.Add(1), 64),
	}
	if types := q.text("types"); types != "" {
		g.Types = strings.Split(types, ",")
	} else {
		g.Types = s.opts.Variants.GeneratedTypes()
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	var contents []json.RawMessage
	var err error
	switch {
	case sample != "" && generate != "":
		err = errors.New("sample and generate: write one of them")
	case sample != "":
		var content json.RawMessage
		content, err = Sample(sample)
		contents = append(contents, content)
	case generate != "":
		contents, err = Generate(g)
	default:
		contents, err = readLines(r.Body)
	}
	if err != nil {
		return nil, err
	}
	first, err := s.enqueue(subAppID, contents)
	if err != nil {
		return nil, err
	}
	if len(contents) == 0 {
		return published{}, nil
	}
	return published{Count: len(contents), First: first, Last: first + int64(len(contents)) - 1}, nil
}

// readAll reads a body under a limit.
func readAll(body io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("the body is larger than %d bytes, send it in parts", limit)
	}
	return b, nil
}

// readLines reads one event per line; empty lines are skipped.
func readLines(body io.Reader) ([]json.RawMessage, error) {
	b, err := readAll(body, maxControlBody)
	if err != nil {
		return nil, err
	}
	var contents []json.RawMessage
	number := 0
	for line := range bytes.Lines(b) {
		number++
		line = bytes.Trim(line, jsonSpace)
		switch {
		case len(line) == 0:
			continue
		case len(line) > maxEventLine:
			return nil, fmt.Errorf("line %d: longer than %d bytes", number, maxEventLine)
		case line[0] != '{' || !json.Valid(line):
			return nil, fmt.Errorf("line %d: not a JSON object; write one event per line", number)
		}
		contents = append(contents, line)
	}
	return contents, nil
}

// state is the answer of the state request.
type state struct {
	Total        Counts            `json:"total"`
	Applications map[uint64]Counts `json:"applications"`
}

func (s *Server) controlState(r *http.Request) (any, error) {
	if err := newQuery(r).done(); err != nil {
		return nil, err
	}
	st := state{Applications: s.CountsBySubApp()}
	for _, c := range st.Applications {
		st.Total.add(c)
	}
	return st, nil
}

// journalPage is the answer of the journal request.
type journalPage struct {
	Entries []Entry `json:"entries"`
	// Next is the value of after for the entries that follow.
	Next uint64 `json:"next"`
	// Missed is how many entries behind after are no longer kept.
	Missed uint64 `json:"missed,omitempty"`
}

func (s *Server) controlJournal(r *http.Request) (any, error) {
	q := newQuery(r)
	after := q.number("after", 0, 63)
	limit := min(q.number("limit", defJournalPage, 31), maxJournalPage)
	if err := q.done(); err != nil {
		return nil, err
	}
	page := journalPage{Entries: s.JournalAfter(int64(after), int(limit)), Next: after}
	if n := len(page.Entries); n > 0 {
		page.Next = uint64(page.Entries[n-1].Seq)
		page.Missed = uint64(page.Entries[0].Seq) - after - 1
	} else {
		page.Entries = []Entry{}
	}
	return page, nil
}

func (s *Server) controlMode(r *http.Request) (any, error) {
	q := newQuery(r)
	subAppID, mode := q.number("sub_app_id", 0, 64), q.text("mode")
	notificationURL, signKey := q.text("url"), q.text("sign_key")
	if err := q.done(); err != nil {
		return nil, err
	}
	if notificationURL != "" {
		if err := s.SetNotification(subAppID, notificationURL, signKey); err != nil {
			return nil, err
		}
	}
	return struct{}{}, s.SetMode(subAppID, mode)
}

type faultList struct {
	Faults []Fault `json:"faults"`
}

func (s *Server) controlAddFault(r *http.Request) (any, error) {
	b, err := readAll(r.Body, maxFaultRequest)
	if err != nil {
		return nil, err
	}
	var f Fault
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("fault: %w", err)
	}
	id, err := s.AddFault(f)
	if err != nil {
		return nil, fmt.Errorf("fault: %w", err)
	}
	return map[string]int64{"id": id}, nil
}

func (s *Server) controlRemoveFault(r *http.Request) (any, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || !s.RemoveFault(id) {
		return nil, fmt.Errorf("fault %s: %w; it may be used up", clip(r.PathValue("id")), errNotFound)
	}
	return struct{}{}, nil
}
