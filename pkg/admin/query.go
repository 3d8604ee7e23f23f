package admin

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/selection"
)

// filterParameters are the parameters of GET /parcels.
var filterParameters = []string{"state", "sink", "sub_app_id", "type", "id", "error", "older_than", "newer_than", "limit", "after"}

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
	said := func(name string) *string {
		if text, given := p[name]; given {
			return &text
		}
		return nil
	}
	sel := selection.Selection{
		State: said("state"), Sink: said("sink"), Type: said("type"), Error: said("error"),
		OlderThan: said("older_than"), NewerThan: said("newer_than"),
	}
	if text := said("sub_app_id"); text != nil {
		app, err := strconv.ParseUint(*text, 10, 64)
		if err != nil {
			return query{}, fmt.Errorf("sub_app_id: %q: must be a number", *text)
		}
		sel.SubAppID = &app
	}
	q := query{after: p["after"], limit: defaultPage}
	if q.filter, err = sel.Filter(now); err != nil {
		return q, err
	}
	if id := said("id"); id != nil { // a list may show several events
		if q.filter.EventID, _, err = selection.ParseID(*id); err != nil {
			return q, fmt.Errorf("id: %w", err)
		}
	}
	if text, given := p["limit"]; given {
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
		if len(known) == 0 {
			return nil, fmt.Errorf("%q: there are no parameters here: say it in the body", name)
		}
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
