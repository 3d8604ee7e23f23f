package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
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
	require.Equal(t, 200, s.get("/parcels?state=dead&type=X&id=ABCD1234&sub_app_id=7&error=a%20b&older_than=24h&newer_than=2026-01-31T12:00:00Z").status)
	f := store.filters[len(store.filters)-1]
	require.WithinDuration(t, before.Add(-24*time.Hour), f.OlderThan, time.Minute)
	require.Equal(t, Filter{State: event.ParcelDead, Type: "X", EventID: "abcd1234", SubAppID: new(uint64(7)), Error: "a b", OlderThan: f.OlderThan, NewerThan: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}, f)
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
		"older_than=yesterday": `older_than: "yesterday": write a duration of more than 0 such as 24h`,
		"newer_than=-1h":       "newer_than",
		"id=abcdef0":           "id: \"abcdef0\" is too short",
		"id=":                  "id: is empty",
		"id=nothexadecimal":    "is not an event's ID",
		"sink=":                "sink: is empty",
		"state=":               "state: is empty",
		"error=%20":            "error: is empty",
		"type=":                "type: is empty",
		"older_than=":          "older_than: is empty",
		"newer_than=0":         "write a duration of more than 0",
		"sub_app_id=":          "sub_app_id",
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

	got = s.get("/parcels/" + strings.ToUpper(one.ID[:31]))
	require.Equal(t, http.StatusConflict, got.status)
	var p problem
	got.json(t, &p)
	require.Len(t, p.Matches, 3)
	require.Contains(t, p.Error, "the IDs of several events begin with "+one.ID[:31])

	require.Equal(t, http.StatusNotFound, s.get("/parcels/"+strings.Repeat("f", 32)).status)
	require.Equal(t, http.StatusNotFound, s.get("/parcels/ffffffff").status)
	require.Equal(t, http.StatusBadRequest, s.get("/parcels/abc").status)
	require.Equal(t, http.StatusBadRequest, s.get("/parcels/"+one.ID+"?sink=").status)
	require.Equal(t, http.StatusBadRequest, s.get("/parcels/"+one.ID+"?sinc=x").status)
}

func TestChangeParcels(t *testing.T) {
	for _, verb := range []string{"replay", "drop"} {
		t.Run(verb, func(t *testing.T) {
			first, other := parcel(1, "site", event.ParcelDead), parcel(1, "archive", event.ParcelWaiting)
			store := &fakeStore{changed: 3, parcels: []event.Parcel{first, other, parcel(1<<40, "site", event.ParcelDead)}}
			app := first.SubAppID
			s := start(t, Config{}, someOptions(store), defaultLimits)
			for body, want := range map[string][]Filter{
				`{"all":true}`:                                     {{}},
				`{"all":true,"before":5}`:                          {{Before: 5}},
				`{"sink":"site","state":"dead"}`:                   {{Sink: "site", State: event.ParcelDead}},
				`{"ids":["` + first.ID + `"],"sink":"site"}`:       {{EventID: first.ID, Sink: "site", SubAppID: &app}},
				`{"ids":["` + first.ID + `"],"state":"waiting"}`:   {{EventID: first.ID, Sink: "archive", SubAppID: &app, State: event.ParcelWaiting}},
				`{"ids":["` + first.ID + `"],"all_sinks":true}`:    {{EventID: first.ID, Sink: "site", SubAppID: &app}, {EventID: first.ID, Sink: "archive", SubAppID: &app}},
				`{"older_than":"2026-01-31T12:00:00Z","type":"T"}`: {{Type: "T", OlderThan: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}},
			} {
				store.filters = nil
				got := s.post("/parcels/"+verb, body)
				require.Equal(t, 200, got.status, "%s: %s", body, got.body)
				require.Equal(t, want, store.filters, body)
				require.JSONEq(t, fmt.Sprintf(`{"parcels":%d}`, 3*len(want)), got.body)
			}
			store.filters = nil
			got := s.post("/parcels/"+verb, `{"ids":["`+first.ID+`","`+store.parcels[2].ID+`"]}`)
			require.Equal(t, http.StatusConflict, got.status)
			var p problem
			got.json(t, &p)
			require.Equal(t, "say more: sink or all_sinks", p.Hint)
			require.Equal(t, []string{"site", "archive"}, []string{p.Matches[0].Sink, p.Matches[1].Sink})
			require.Empty(t, store.filters, "of several IDs none is changed when one is not clear")

			got = s.post("/parcels/"+verb, `{"state":"dead","dry_run":true}`, "Content-Type", "application/json; charset=utf-8")
			var plan selection.Plan
			got.json(t, &plan)
			require.EqualValues(t, 2, plan.Parcels)
			require.EqualValues(t, 77, plan.Selection.Before)
			require.Empty(t, store.filters)
		})
	}
}

// Whatever is wrong with a request, it must not select more than was meant.
func TestChangeRefuses(t *testing.T) {
	store := &fakeStore{changed: 1, parcels: []event.Parcel{parcel(1, "site", event.ParcelDead)}}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for body, want := range map[string]string{
		``:                             "the body is empty",
		`{}`:                           "which parcels?",
		`{"all":false}`:                "which parcels?",
		`null`:                         "which parcels?",
		`{"before":7}`:                 "which parcels?",
		`{"ids":[]}`:                   "ids: names no event",
		`{"ids":[],"sink":"site"}`:     "ids: names no event",
		`{"ids":null,"sink":"site"}`:   "ids: is empty",
		`{"sink":null,"state":"dead"}`: "sink: is empty",
		`{"sink":"","state":"dead"}`:   "sink: is empty",
		`{"sink":" ","state":"dead"}`:  "sink: is empty",
		`{"ids":[""]}`:                 "ids[0]: is empty",
		`{"ids":["abcdabcd","0"]}`:     "ids[1]: \\\"0\\\" is too short",
		`{"all":true,"sink":"site"}`:   "beside a selection",
		`{"all":true,"sub_app_id":0}`:  "beside a selection",
		`{"all":true,"ids":["abcd"]}`:  "beside a selection",
		`{"sinks":"site","all":true}`:  "unknown field",
		`{"state":"deed"}`:             "must be waiting or dead",
		`{"older_than":"-1h"}`:         "write a duration of more than 0",
		`{"older_than":"0"}`:           "write a duration of more than 0",
		`{"ids":"abcd"}`:               "not as expected",
		`{"all":true}{"all":true}`:     "more than one object",
		`[]`:                           "not as expected",
		`{"all":tru`:                   "not as expected",
		`all=true`:                     "not as expected",
		`{"sink":"site","before":-1}`:  "mark of a dry run",
		`{"ids":["abcdabcd"` + strings.Repeat(`,"abcdabcd"`, selection.MaxIDs) + `]}`: "1000 at most",
	} {
		for _, verb := range []string{"replay", "drop"} {
			got := s.post("/parcels/"+verb, body)
			require.Equal(t, http.StatusBadRequest, got.status, "%.80s", body)
			require.Contains(t, got.body, want, "%.80s", body)
		}
	}
	require.Equal(t, http.StatusNotFound, s.post("/parcels/drop", `{"ids":["abcdabcd"]}`).status)
	got := s.post("/parcels/drop?sink=site", `{"all":true}`)
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Contains(t, got.body, "there are no parameters here")
	require.Empty(t, store.filters)
}

func TestMoveParcels(t *testing.T) {
	store := &fakeStore{changed: 3, parcels: []event.Parcel{parcel(1, "old", event.ParcelDead)}}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	require.JSONEq(t, `{"parcels":3,"collisions":2}`, s.post("/parcels/move", `{"from":"old","to":"site"}`).body)
	for body, want := range map[string]string{
		`{"from":"old","to":"sit","dry_run":true}`: "did you mean site?",
		`{"from":"old","too":"site"}`:              "unknown field",
		`[]`:                                       "not as expected",
	} {
		got := s.post("/parcels/move", body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Contains(t, got.body, want)
	}
	require.Len(t, store.moves, 1)
	store.fail(retry.WithHint(errors.New("the disk is full"), "make room"))
	got := s.post("/parcels/move", `{"from":"old","to":"site"}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.JSONEq(t, `{"error":"the disk is full","hint":"make room","parcels":3}`, got.body)
}

func TestStoreFails(t *testing.T) {
	store := &fakeStore{changed: 2, err: retry.WithHint(errors.New("the disk is full"), "make room")}
	s := start(t, Config{}, someOptions(store), defaultLimits)
	for _, path := range []string{"/parcels", "/parcels/abcdabcd"} {
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
		if q.limit < 1 || q.limit > maxPage || q.filter.EventID != "" && len(q.filter.EventID) < selection.MinPrefix {
			t.Fatalf("%q: %+v", raw, q)
		}
	})
}
