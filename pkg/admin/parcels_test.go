package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func TestListParcels(t *testing.T) {
	store := &fakeStore{}
	for n := 1; n <= 120; n++ {
		store.parcels = append(store.parcels, parcel(n, "site", event.ParcelWaiting))
	}
	store.parcels[119].State = event.ParcelDead
	s := start(t, Config{}, someOptions(store), defaultLimits)

	var seen []string
	path, pages := "/parcels?sink=site", 0
	for after := ""; ; pages++ {
		var page ParcelPage
		got := s.get(path + "&after=" + after)
		require.Equal(t, 200, got.status)
		got.json(t, &page)
		for _, p := range page.Parcels {
			seen = append(seen, p.ID)
			require.Empty(t, p.Content, "a list has no content")
			require.Equal(t, p.State == event.ParcelWaiting, p.Next != nil)
			require.NotEmpty(t, p.Subject)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	require.Equal(t, 2, pages)
	require.Len(t, seen, 120)
	require.Equal(t, Filter{Sink: "site"}, store.filters[0])

	var page ParcelPage
	s.get("/parcels?limit=7").json(t, &page)
	require.Len(t, page.Parcels, 7)
	require.Equal(t, "c7", page.Next)

	before := time.Now()
	require.Equal(t, 200, s.get("/parcels?state=dead&type=X&id=abcd&error=a%20b&older_than=24h&newer_than=2026-01-31T12:00:00Z").status)
	f := store.filters[len(store.filters)-1]
	require.WithinDuration(t, before.Add(-24*time.Hour), f.OlderThan, time.Minute)
	require.Equal(t, Filter{State: event.ParcelDead, Type: "X", EventID: "abcd", Error: "a b", OlderThan: f.OlderThan, NewerThan: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}, f)
}

func TestListNothing(t *testing.T) {
	s := start(t, Config{}, someOptions(&fakeStore{}), defaultLimits)
	require.JSONEq(t, `{"parcels":[]}`, s.get("/parcels").body)
}

func TestListRefuses(t *testing.T) {
	store := &fakeStore{}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for query, want := range map[string]string{
		"stat=dead":            `"stat": there is no such parameter, use state, sink`,
		"state=deed":           `state: "deed": must be waiting or dead`,
		"state=dead&state=x":   "state: is given 2 times",
		"limit=0":              `limit: "0": must be a number from 1 to 1000`,
		"limit=1001":           "limit",
		"limit=x":              "limit",
		"older_than=yesterday": `older_than: "yesterday": write a duration such as 24h`,
		"newer_than=-1h":       "newer_than",
		"id=ab":                "at least 4 characters",
		"after=nonsense":       "that is no cursor",
		"sink=%zz":             "percent-encode",
		"a;b":                  "cannot be parsed",
	} {
		got := s.get("/parcels?" + query)
		require.Equal(t, http.StatusBadRequest, got.status, query)
		var p problem
		got.json(t, &p)
		require.Contains(t, p.Error, want, query)
	}
}

func TestShowParcels(t *testing.T) {
	one := parcel(1, "site", event.ParcelDead)
	broken := parcel(2, "site", event.ParcelDead)
	broken.Raw = json.RawMessage("\x00{not json")
	store := &fakeStore{parcels: []event.Parcel{one, parcel(1, "archive", event.ParcelWaiting), broken}}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	var page ParcelPage
	got := s.get("/parcels/" + one.ID)
	got.json(t, &page)
	require.Len(t, page.Parcels, 2)
	require.JSONEq(t, string(one.Raw), string(page.Parcels[0].Content))
	require.Contains(t, got.body, "12345678901234567891", "no digit is lost")

	s.get("/parcels/"+one.ID+"?sink=archive").json(t, &page)
	require.Len(t, page.Parcels, 1)

	got = s.get("/parcels/" + broken.ID)
	require.Equal(t, 200, got.status)
	got.json(t, &page)
	var text string
	require.NoError(t, json.Unmarshal(page.Parcels[0].Content, &text))
	require.Equal(t, "\x00{not json", text)

	require.Equal(t, http.StatusNotFound, s.get("/parcels/abc").status)
	require.Equal(t, http.StatusBadRequest, s.get("/parcels/"+one.ID+"?sinc=x").status)
}

func TestChangeParcels(t *testing.T) {
	for _, verb := range []string{"replay", "drop"} {
		t.Run(verb, func(t *testing.T) {
			store := &fakeStore{changed: 3}
			s := start(t, Config{}, someOptions(store), defaultLimits)
			for body, want := range map[string]Filter{
				`{"all":true}`:                                          {},
				`{"ids":["abcd"]}`:                                      {EventID: "abcd"},
				`{"sink":"site","state":"dead"}`:                        {Sink: "site", State: event.ParcelDead},
				`{"error":"503","ids":["abcd1234"]}`:                    {Error: "503", EventID: "abcd1234"},
				`{"older_than":"2026-01-31T12:00:00+08:00","type":"T"}`: {Type: "T", OlderThan: time.Date(2026, 1, 31, 4, 0, 0, 0, time.UTC)},
			} {
				store.filters = nil
				got := s.post("/parcels/"+verb, body)
				require.Equal(t, 200, got.status, body)
				require.JSONEq(t, `{"parcels":3}`, got.body)
				require.Len(t, store.filters, 1)
				want.OlderThan, store.filters[0].OlderThan = want.OlderThan.UTC(), store.filters[0].OlderThan.UTC()
				require.Equal(t, want, store.filters[0])
			}
			store.filters = nil
			require.JSONEq(t, `{"parcels":6}`, s.post("/parcels/"+verb, `{"ids":["abcd","ef01"]}`, "Content-Type", "application/json; charset=utf-8").body)
			require.Len(t, store.filters, 2)
		})
	}
}

// Whatever is wrong with a request, it must not select more than was meant.
func TestChangeRefuses(t *testing.T) {
	store := &fakeStore{changed: 1}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for body, want := range map[string]string{
		``:                            "the body is empty",
		`{}`:                          "which parcels?",
		`{"ids":[]}`:                  "which parcels?",
		`{"all":false}`:               "which parcels?",
		`null`:                        "which parcels?",
		`{"ids":[""]}`:                "at least 4 characters",
		`{"ids":["abcd","e"]}`:        "at least 4 characters",
		`{"all":true,"sink":"site"}`:  "beside a selection",
		`{"all":true,"ids":["abcd"]}`: "beside a selection",
		`{"sinks":"site","all":true}`: "unknown field",
		`{"state":"deed"}`:            "must be waiting or dead",
		`{"ids":"abcd"}`:              "not as expected",
		`{"all":true}{"all":true}`:    "more than one object",
		`[]`:                          "not as expected",
		`{"all":tru`:                  "not as expected",
		`all=true`:                    "not as expected",
		`{"ids":["abcd"` + strings.Repeat(`,"abcd"`, maxIDs) + `]}`: "10000 at most",
	} {
		for _, verb := range []string{"replay", "drop"} {
			got := s.post("/parcels/"+verb, body)
			require.Equal(t, http.StatusBadRequest, got.status, "%.80s", body)
			require.Contains(t, got.body, want, "%.80s", body)
		}
	}
	require.Equal(t, http.StatusBadRequest, s.post("/parcels/drop?sink=site", `{}`).status)
	require.Empty(t, store.filters)
}

func TestStoreFails(t *testing.T) {
	store := &fakeStore{changed: 2, err: retry.WithHint(errors.New("the disk is full"), "make room")}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for _, path := range []string{"/parcels", "/parcels/abcd"} {
		got := s.get(path)
		require.Equal(t, http.StatusServiceUnavailable, got.status)
		require.JSONEq(t, `{"error":"the disk is full","hint":"make room"}`, got.body)
	}
	got := s.post("/parcels/drop", `{"all":true}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.JSONEq(t, `{"error":"the disk is full","hint":"make room","parcels":2}`, got.body, "what was changed before is told")
}

func TestWithoutStore(t *testing.T) {
	s := start(t, Config{}, someOptions(nil), defaultLimits)
	require.Equal(t, http.StatusNotFound, s.get("/parcels").status)
	require.Contains(t, s.post("/parcels/drop", `{"all":true}`).body, "store.driver is none")
	require.Equal(t, 200, s.get("/").status)
	require.Equal(t, 200, s.get("/metrics").status)
}

func TestFewRequestsAtATimeAboutParcels(t *testing.T) {
	store := &fakeStore{block: make(chan struct{}), entered: make(chan struct{})}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	results := make(chan answer, maxLooks)
	for range maxLooks {
		go func() { results <- s.get("/parcels") }()
		<-store.entered
	}
	got := s.get("/parcels")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	require.Equal(t, 200, s.get("/livez").status)
	close(store.block)
	for range maxLooks {
		require.Equal(t, 200, (<-results).status)
	}
}

func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "state=dead&limit=5", "older_than=1h", "a=b", "%", "id=abcd&after=x&error=%ff"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw, time.Unix(1e9, 0))
		if err != nil {
			return
		}
		if q.limit < 1 || q.limit > maxPage || q.filter.EventID != "" && len(q.filter.EventID) < minID {
			t.Fatalf("%q: %+v", raw, q)
		}
	})
}

func FuzzSelection(f *testing.F) {
	for _, body := range []string{`{"all":true}`, `{"ids":["abcd"]}`, `{"ids":null,"state":""}`, `{"older_than":"24h"}`, `{"ALL":true}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var sel Selection
		if json.Unmarshal([]byte(body), &sel) != nil {
			return
		}
		filters, err := sel.filters(time.Unix(1e9, 0))
		if err != nil {
			return
		}
		for _, filter := range filters {
			if filter == (Filter{}) && !sel.All {
				t.Fatalf("%s selects everything", body)
			}
		}
		if len(filters) == 0 {
			t.Fatalf("%s selects nothing, and that is no error", body)
		}
	})
}
