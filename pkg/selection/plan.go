package selection

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// MostListed is the most parcels that a Plan or an AmbiguousError lists.
const MostListed = 20

// mostOfID is the most parcels that are looked at to see what an ID stands for.
const mostOfID = 1000

// Finder is a store, as far as parcels are looked for.
type Finder interface {
	// Find returns up to limit (at most 1,000) parcels that fit.
	Find(ctx context.Context, f Filter, limit int) ([]event.Parcel, error)
	// Matching counts the parcels that fit, by sink and state; nothing for what has none.
	Matching(ctx context.Context, f Filter) ([]Group, error)
	// Mark stands between the parcels that are stored now and those that will be. It is more than 0.
	Mark(ctx context.Context) (int64, error)
}

// Group is how many parcels of a sink are in one state.
type Group struct {
	Sink    string            `json:"sink"`
	State   event.ParcelState `json:"state"`
	Parcels int64             `json:"parcels"`
}

// Line is one parcel in a list.
type Line struct {
	ID       string            `json:"id"`
	Sink     string            `json:"sink"`
	SubAppID uint64            `json:"sub_app_id,omitempty"`
	State    event.ParcelState `json:"state"`
	Created  time.Time         `json:"created"`
}

// Plan is what a Selection means at the moment.
type Plan struct {
	Parcels int64   `json:"parcels"`
	Groups  []Group `json:"groups"`
	// Few are the parcels, when there are not more than MostListed.
	Few []Line `json:"few,omitempty"`
	// Missing are the IDs of events of which no parcel fits.
	Missing []string `json:"missing,omitempty"`
	// Selection names the same parcels whenever it is sent: none that is stored after the plan was made.
	Selection Selection `json:"selection"`
}

// NewPlan looks at what sel means. The error is a FieldError, a NotFoundError, an AmbiguousError, or the store's.
func NewPlan(ctx context.Context, store Finder, sel Selection, now time.Time) (*Plan, error) {
	if err := sel.Check(now); err != nil {
		return nil, err
	}
	if sel.Before == 0 {
		var err error
		if sel.Before, err = store.Mark(ctx); err != nil {
			return nil, err
		}
	}
	r, err := resolve(ctx, store, sel, now)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Groups: groupsOf(r.found), Missing: r.missing, Selection: sel.fixed(r.filter, r.ids)}
	found := r.found
	if sel.IDs == nil {
		if plan.Groups, err = store.Matching(ctx, r.filter); err != nil {
			return nil, err
		}
	}
	for _, g := range plan.Groups {
		plan.Parcels += g.Parcels
	}
	if sel.IDs == nil && plan.Parcels > 0 && plan.Parcels <= MostListed {
		if found, err = store.Find(ctx, r.filter, MostListed); err != nil {
			return nil, err
		}
	}
	if len(found) <= MostListed {
		plan.Few = lines(found)
	}
	return plan, nil
}

// Apply gives change a filter for each part of what sel means, and adds up what it returns, also beside an error.
// Everything is looked up before the first change. The error is as of NewPlan, or change's.
func Apply(ctx context.Context, store Finder, sel Selection, now time.Time, change func(context.Context, Filter) (int64, error)) (int64, error) {
	if err := sel.Check(now); err != nil {
		return 0, err
	}
	r, err := resolve(ctx, store, sel, now)
	if err != nil {
		return 0, err
	}
	filters := []Filter{r.filter}
	if sel.IDs != nil {
		filters = filters[:0]
		for _, p := range r.found {
			f := r.filter
			f.EventID, f.Sink, f.SubAppID = p.ID, p.Sink, &p.SubAppID
			filters = append(filters, f)
		}
	}
	var total int64
	for _, f := range filters {
		n, err := change(ctx, f)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// resolved is what a Selection means: the filter alone, or beside IDs the parcels that were found.
type resolved struct {
	filter       Filter
	ids, missing []string // whole
	found        []event.Parcel
}

func resolve(ctx context.Context, store Finder, sel Selection, now time.Time) (r resolved, err error) {
	if r.filter, err = sel.Filter(now); err != nil {
		return r, err
	}
	for _, text := range sel.IDs {
		id, err := Resolve(ctx, store, text)
		if err != nil {
			return r, err
		}
		if slices.Contains(r.ids, id) {
			continue
		}
		r.ids = append(r.ids, id)
		f := r.filter
		f.EventID = id
		found, err := store.Find(ctx, f, mostOfID)
		if err != nil {
			return r, err
		}
		if err := single(id, found, sel.AllSinks); err != nil {
			return r, err
		}
		if len(found) == 0 {
			r.missing = append(r.missing, id)
		}
		r.found = append(r.found, found...)
	}
	return r, nil
}

// single refuses parcels of one event that are not the one that was meant.
func single(id string, found []event.Parcel, allSinks bool) error {
	var sinks, apps []string
	for _, p := range found {
		sinks = append(sinks, p.Sink)
		apps = append(apps, fmt.Sprint(p.SubAppID))
	}
	if distinct(apps) > 1 || distinct(sinks) > 1 && !allSinks {
		return ambiguous(fmt.Sprintf("event %s has %d parcels that fit: say which one is meant", id, len(found)), found)
	}
	return nil
}

func distinct(all []string) int {
	slices.Sort(all)
	return len(slices.Compact(all))
}

// Resolve is the whole ID of the event that text names: an ID, or what one begins with. A whole one need not
// have a parcel. The error is a FieldError with the key id, a NotFoundError, an AmbiguousError, or the store's.
func Resolve(ctx context.Context, store Finder, text string) (string, error) {
	id, whole, err := ParseID(text)
	if err != nil {
		return "", &FieldError{Key: "id", Problem: err.Error()}
	}
	if whole {
		return id, nil
	}
	found, err := store.Find(ctx, Filter{EventID: id}, mostOfID)
	if err != nil {
		return "", err
	}
	ids := make([]string, len(found))
	for i, p := range found {
		ids[i] = p.ID
	}
	switch n := distinct(ids); {
	case n == 0:
		return "", &NotFoundError{id}
	case n > 1 || len(found) == mostOfID:
		return "", ambiguous(fmt.Sprintf("the IDs of several events begin with %s: write more of the one that is meant", id), found)
	}
	return ids[0], nil
}

// NotFoundError reports that nothing begins with what was written.
type NotFoundError struct{ ID string }

func (e *NotFoundError) Error() string {
	if len(e.ID) == IDLength {
		return fmt.Sprintf("no parcel of event %s: it was accepted or dropped", e.ID)
	}
	return fmt.Sprintf("no parcel of an event whose ID begins with %s: it was accepted or dropped", e.ID)
}

// AmbiguousError refuses to guess which parcel was meant.
type AmbiguousError struct {
	Problem string // one line
	Matches []Line // MostListed at most
	More    bool   // there are others
}

func ambiguous(problem string, found []event.Parcel) error {
	return &AmbiguousError{Problem: problem, Matches: lines(found[:min(len(found), MostListed)]), More: len(found) > MostListed}
}

func (e *AmbiguousError) Error() string {
	var text strings.Builder
	text.WriteString(e.Problem)
	for _, m := range e.Matches {
		text.WriteString("\n  " + m.String())
	}
	if e.More {
		text.WriteString("\n  ...")
	}
	return text.String()
}

// Narrow are the keys of a Selection that can say which of the matches is meant.
func (e *AmbiguousError) Narrow() []string {
	var ids, sinks, apps []string
	for _, m := range e.Matches {
		ids, sinks, apps = append(ids, m.ID), append(sinks, m.Sink), append(apps, fmt.Sprint(m.SubAppID))
	}
	var keys []string
	switch several := distinct(sinks) > 1; {
	case distinct(ids) > 1:
		return []string{keyIDs}
	case several:
		keys = append(keys, "sink", "all_sinks")
	}
	if distinct(apps) > 1 {
		keys = append(keys, "sub_app_id")
	}
	return keys
}

// String describes the parcel in one line, whatever its sink's name has in it.
func (l Line) String() string {
	text := fmt.Sprintf("%s for sink %s", l.ID, safetext.Name(l.Sink))
	if l.SubAppID != 0 {
		text += fmt.Sprintf(", application %d", l.SubAppID)
	}
	return fmt.Sprintf("%s, %s, stored %s ago", text, l.State, time.Since(l.Created).Round(time.Second))
}

func lines(found []event.Parcel) []Line {
	all := make([]Line, len(found))
	for i, p := range found {
		all[i] = Line{p.ID, p.Sink, p.SubAppID, p.State, p.Created}
	}
	return all
}

// groupsOf counts parcels by sink and state, in the order in which these come first.
func groupsOf(found []event.Parcel) []Group {
	groups := []Group{}
	for _, p := range found {
		i := slices.IndexFunc(groups, func(g Group) bool { return g.Sink == p.Sink && g.State == p.State })
		if i < 0 {
			i = len(groups)
			groups = append(groups, Group{Sink: p.Sink, State: p.State})
		}
		groups[i].Parcels++
	}
	return groups
}
