package admin

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Selection is the body of a replay or a drop: the parcels that fit everything that is set. IDs are events'
// IDs, or what these begin with, four characters at least. All is needed to select every parcel there is.
type Selection struct {
	IDs   []string `json:"ids,omitempty"`
	State string   `json:"state,omitempty"` // waiting or dead
	Sink  string   `json:"sink,omitempty"`
	Type  string   `json:"type,omitempty"`
	Error string   `json:"error,omitempty"` // what the first or the last error contains
	// OlderThan and NewerThan are durations such as 24h, or times such as 2026-01-31T12:00:00Z, and bound
	// when the parcel was stored.
	OlderThan string `json:"older_than,omitempty"`
	NewerThan string `json:"newer_than,omitempty"`
	All       bool   `json:"all,omitempty"`
}

// filters is a filter for each ID, or a single one.
func (s Selection) filters(now time.Time) ([]Filter, error) {
	filter, err := parseFilter(s.State, s.Sink, s.Type, s.Error, s.OlderThan, s.NewerThan, now)
	if err != nil {
		return nil, err
	}
	switch {
	case s.All && (filter != Filter{} || len(s.IDs) > 0):
		return nil, errors.New("all: is set beside a selection: remove one of the two")
	case len(s.IDs) == 0 && filter == Filter{} && !s.All:
		return nil, errors.New(`which parcels? name ids, select by state, sink, type, error, older_than or newer_than, or say "all": true`)
	case len(s.IDs) > maxIDs:
		return nil, fmt.Errorf("ids: has %d, %d at most: send several requests", len(s.IDs), maxIDs)
	case len(s.IDs) == 0:
		return []Filter{filter}, nil
	}
	filters := make([]Filter, len(s.IDs))
	for i, id := range s.IDs {
		if err := checkID("ids", id); err != nil {
			return nil, err
		}
		filters[i] = filter
		filters[i].EventID = id
	}
	return filters, nil
}

func checkID(key, id string) error {
	if len(id) < minID {
		return fmt.Errorf("%s: %q: name at least %d characters of an ID", key, id, minID)
	}
	return nil
}

// parseFilter reads what selects parcels. Empty texts select nothing in particular.
func parseFilter(state, sink, eventType, text, older, newer string, now time.Time) (Filter, error) {
	f := Filter{State: event.ParcelState(state), Sink: sink, Type: eventType, Error: text}
	if state != "" && !slices.Contains(parcelStates, f.State) {
		return f, fmt.Errorf("state: %q: must be waiting or dead", state)
	}
	var err error
	if f.OlderThan, err = parseAge("older_than", older, now); err != nil {
		return f, err
	}
	f.NewerThan, err = parseAge("newer_than", newer, now)
	return f, err
}

// parseAge reads a duration before now, or a time.
func parseAge(key, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil && at.Year() > 1970 {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("%s: %q: write a duration such as 24h, or a time such as 2026-01-31T12:00:00Z", key, text)
}

// filterParameters are the parameters of GET /parcels.
var filterParameters = []string{"state", "sink", "type", "id", "error", "older_than", "newer_than", "limit", "after"}

// query is one of GET /parcels.
type query struct {
	filter Filter
	after  string
	limit  int
}

func parseQuery(raw string, now time.Time) (query, error) {
	p, err := parameters(raw, filterParameters...)
	if err != nil {
		return query{}, err
	}
	q := query{after: p["after"], limit: defaultPage}
	if q.filter, err = parseFilter(p["state"], p["sink"], p["type"], p["error"], p["older_than"], p["newer_than"], now); err != nil {
		return q, err
	}
	if id := p["id"]; id != "" {
		if err := checkID("id", id); err != nil {
			return q, err
		}
		q.filter.EventID = id
	}
	if text := p["limit"]; text != "" {
		q.limit, err = strconv.Atoi(text)
		if err != nil || q.limit < 1 || q.limit > maxPage {
			return q, fmt.Errorf("limit: %q: must be a number from 1 to %d", text, maxPage)
		}
	}
	return q, nil
}

// parameters reads a query, in which each known name may stand once.
func parameters(raw string, known ...string) (map[string]string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("the query cannot be parsed: percent-encode special characters")
	}
	all := make(map[string]string, len(values))
	for name, value := range values {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q: there is no such parameter, use %s", name, strings.Join(known, ", "))
		}
		if len(value) > 1 {
			return nil, fmt.Errorf("%s: is given %d times", name, len(value))
		}
		all[name] = value[0]
	}
	return all, nil
}
