package selection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

const (
	one  = "0123456789abcdef0123456789abcdef"
	near = "0123456789abcdef0123456789abcdee" // only the last digit differs
	far  = "fedcba9876543210fedcba9876543210"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// shelf is a store in memory; a parcel's Attempts stand for its place in the order of arrival.
type shelf struct {
	parcels []event.Parcel
	looks   int
	err     error
}

func fits(p event.Parcel, f Filter) bool {
	return strings.HasPrefix(p.ID, f.EventID) && (f.State == "" || p.State == f.State) && (f.Sink == "" || p.Sink == f.Sink) &&
		(f.Type == "" || p.Type == f.Type) && strings.Contains(p.LastError, f.Error) && (f.SubAppID == nil || *f.SubAppID == p.SubAppID) &&
		(f.OlderThan.IsZero() || p.Created.Before(f.OlderThan)) && (f.NewerThan.IsZero() || !p.Created.Before(f.NewerThan)) &&
		(f.Before == 0 || int64(p.Attempts) < f.Before)
}

func (s *shelf) Find(_ context.Context, f Filter, limit int) (found []event.Parcel, _ error) {
	s.looks++
	for _, p := range s.parcels {
		if fits(p, f) && len(found) < limit {
			found = append(found, p)
		}
	}
	return found, s.err
}

func (s *shelf) Matching(ctx context.Context, f Filter) ([]Group, error) {
	found, err := s.Find(ctx, f, len(s.parcels))
	return groupsOf(found), err
}

func (s *shelf) Mark(context.Context) (int64, error) { return int64(len(s.parcels)) + 1, s.err }

// drop deletes what fits, as a store does.
func (s *shelf) drop(_ context.Context, f Filter) (int64, error) {
	before := len(s.parcels)
	s.parcels = slices.DeleteFunc(s.parcels, func(p event.Parcel) bool { return fits(p, f) })
	return int64(before - len(s.parcels)), s.err
}

func (s *shelf) put(id, sink string, app uint64, state event.ParcelState) {
	s.parcels = append(s.parcels, event.Parcel{
		Event: event.Event{ID: id, Type: "T", SubAppID: app}, Sink: sink, State: state, Attempts: len(s.parcels) + 1, Created: now.Add(-time.Hour),
	})
}

// names are the parcels that are left.
func (s *shelf) names() (all []string) {
	for _, p := range s.parcels {
		all = append(all, fmt.Sprintf("%s %s %d", p.ID[28:], p.Sink, p.SubAppID))
	}
	return all
}

// example is a shelf with every way in which an ID can mean more than one parcel.
func example() *shelf {
	s := &shelf{}
	s.put(one, "site", 1, event.ParcelDead)
	s.put(one, "archive", 1, event.ParcelWaiting)
	s.put(near, "site", 1, event.ParcelDead)
	s.put(far, "site", 1, event.ParcelDead)
	s.put(far, "site", 2, event.ParcelDead)
	return s
}

func TestParseID(t *testing.T) {
	for text, want := range map[string]struct {
		id    string
		whole bool
		err   string
	}{
		one:                               {id: one, whole: true},
		" " + strings.ToUpper(one) + "\n": {id: one, whole: true},
		"01234567":                        {id: "01234567"},
		one[:31]:                          {id: one[:31]},
		"":                                {err: "is empty"},
		" \t\n":                           {err: "is empty"},
		"0":                               {err: "at least its first 8 digits"},
		"0123456":                         {err: "at least its first 8 digits"},
		one + "0":                         {err: "is not an event's ID"},
		"0123 4567 89":                    {err: "is not an event's ID"},
		"%":                               {err: "is not an event's ID"},
		"0123456*":                        {err: "is not an event's ID"},
		"1500000001-" + one:               {err: "write the event's ID, " + one + ", and the application as sub_app_id, 1500000001"},
		"1500000001-" + one[1:]:           {err: "is not an event's ID"},
		"-" + one:                         {err: "is not an event's ID"},
		strings.Repeat("x", 1<<20):        {err: `..." is not an event's ID`},
	} {
		id, whole, err := ParseID(text)
		if want.err != "" {
			require.ErrorContains(t, err, want.err, "%.50q", text)
			require.Less(t, len(err.Error()), 300)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want.id, id)
		require.Equal(t, want.whole, whole)
	}
}

// What is refused is refused before anything is looked for.
func TestWhatIsNotClearIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		sel Selection
		key string
		err string
	}{
		"nothing":                 {Selection{}, "", "which parcels?"},
		"only a mark":             {Selection{Before: 5}, "", "which parcels?"},
		"an empty ID":             {Selection{IDs: []string{""}}, "ids", "is empty"},
		"the second is empty":     {Selection{IDs: []string{one, " "}}, "ids", "is empty"},
		"no IDs beside a sink":    {Selection{IDs: []string{}, Sink: new("site")}, "ids", "names no event"},
		"a single digit":          {Selection{IDs: []string{"0"}}, "ids", "too short"},
		"too many":                {Selection{IDs: slices.Repeat([]string{one}, MaxIDs+1)}, "ids", "1000 at most"},
		"an empty sink":           {Selection{Sink: new("")}, "sink", "is empty"},
		"a blank sink":            {Selection{Sink: new(" \t")}, "sink", "is empty"},
		"an empty sink beside":    {Selection{Sink: new(""), State: new("dead")}, "sink", "is empty"},
		"an empty sink, one ID":   {Selection{Sink: new(""), IDs: []string{one}}, "sink", "is empty"},
		"an empty state":          {Selection{State: new("")}, "state", "is empty"},
		"another state":           {Selection{State: new("DEAD")}, "state", "must be waiting or dead"},
		"an empty type":           {Selection{Type: new("")}, "type", "is empty"},
		"an empty error":          {Selection{Error: new("")}, "error", "is empty"},
		"an empty age":            {Selection{OlderThan: new("")}, "older_than", "is empty"},
		"no age":                  {Selection{OlderThan: new("0")}, "older_than", "more than 0"},
		"no age, with a unit":     {Selection{NewerThan: new("0s")}, "newer_than", "more than 0"},
		"a negative age":          {Selection{OlderThan: new("-24h")}, "older_than", "more than 0"},
		"an age without a unit":   {Selection{OlderThan: new("24")}, "older_than", "such as 24h"},
		"all with an empty sink":  {Selection{All: true, Sink: new("")}, "sink", "is empty"},
		"all beside a sink":       {Selection{All: true, Sink: new("site")}, "all", "beside a selection"},
		"all beside an ID":        {Selection{All: true, IDs: []string{one}}, "all", "beside a selection"},
		"all beside no IDs":       {Selection{All: true, IDs: []string{}}, "all", "beside a selection"},
		"all beside application":  {Selection{All: true, SubAppID: new(uint64(0))}, "all", "beside a selection"},
		"all sinks without an ID": {Selection{AllSinks: true, State: new("dead")}, "all_sinks", "is for IDs"},
		"all sinks and one":       {Selection{AllSinks: true, Sink: new("site"), IDs: []string{one}}, "all_sinks", "beside sink"},
		"all and all sinks":       {Selection{All: true, AllSinks: true}, "all", "beside a selection"},
		"a negative mark":         {Selection{All: true, Before: -1}, "before", "mark"},
	} {
		s := example()
		_, err := NewPlan(t.Context(), s, c.sel, now)
		var field *FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, c.key, field.Key, name)
		require.ErrorContains(t, err, c.err, name)
		_, applied := Apply(t.Context(), s, c.sel, now, s.drop)
		require.Equal(t, err, applied, name)
		require.Zero(t, s.looks, name)
		require.Len(t, s.parcels, 5, name)
	}
}

// Each selection, and what a drop of it leaves.
func TestWhatASelectionMeans(t *testing.T) {
	const (
		oneSite, oneArchive, nearSite, farFirst, farSecond = "cdef site 1", "cdef archive 1", "cdee site 1", "3210 site 1", "3210 site 2"
	)
	everything := []string{oneSite, oneArchive, nearSite, farFirst, farSecond}
	for name, c := range map[string]struct {
		sel     Selection
		dropped []string
		err     string   // or this is refused
		narrow  []string // with these keys as a remedy
		missing int
	}{
		"whole":                        {sel: Selection{IDs: []string{near}}, dropped: []string{nearSite}},
		"in capitals":                  {sel: Selection{IDs: []string{" " + strings.ToUpper(near) + " "}}, dropped: []string{nearSite}},
		"a prefix of one event":        {sel: Selection{IDs: []string{far[:8]}, SubAppID: new(uint64(1))}, dropped: []string{farFirst}},
		"a prefix of two events":       {sel: Selection{IDs: []string{one[:31]}}, err: "the IDs of several events begin with", narrow: []string{"ids"}},
		"a filter clears no prefix":    {sel: Selection{IDs: []string{one[:31]}, State: new("waiting")}, err: "the IDs of several events begin with", narrow: []string{"ids"}},
		"a prefix of nothing":          {sel: Selection{IDs: []string{"aaaaaaaa"}}, err: "no parcel of an event whose ID begins with aaaaaaaa"},
		"gone":                         {sel: Selection{IDs: []string{strings.Repeat("a", 32)}}, missing: 1},
		"gone, and one that is there":  {sel: Selection{IDs: []string{strings.Repeat("a", 32), near}}, dropped: []string{nearSite}, missing: 1},
		"the same twice":               {sel: Selection{IDs: []string{near, near}}, dropped: []string{nearSite}},
		"two sinks":                    {sel: Selection{IDs: []string{one}}, err: "has 2 parcels that fit", narrow: []string{"sink", "all_sinks"}},
		"one of two sinks":             {sel: Selection{IDs: []string{one}, Sink: new("site")}, dropped: []string{oneSite}},
		"one of two states":            {sel: Selection{IDs: []string{one}, State: new("waiting")}, dropped: []string{oneArchive}},
		"all sinks":                    {sel: Selection{IDs: []string{one}, AllSinks: true}, dropped: []string{oneSite, oneArchive}},
		"two applications":             {sel: Selection{IDs: []string{far[:8]}}, err: "has 2 parcels that fit", narrow: []string{"sub_app_id"}},
		"two applications, one sink":   {sel: Selection{IDs: []string{far}, Sink: new("site")}, err: "has 2 parcels that fit", narrow: []string{"sub_app_id"}},
		"all sinks of two":             {sel: Selection{IDs: []string{far}, AllSinks: true}, err: "has 2 parcels that fit", narrow: []string{"sub_app_id"}},
		"one of two applications":      {sel: Selection{IDs: []string{far}, SubAppID: new(uint64(2))}, dropped: []string{farSecond}},
		"another sink":                 {sel: Selection{IDs: []string{near}, Sink: new("archive")}, missing: 1},
		"one is not clear":             {sel: Selection{IDs: []string{near, one}}, err: "has 2 parcels that fit", narrow: []string{"sink", "all_sinks"}},
		"a sink":                       {sel: Selection{Sink: new("archive")}, dropped: []string{oneArchive}},
		"an unknown sink":              {sel: Selection{Sink: new("sit")}},
		"application 0, which is none": {sel: Selection{SubAppID: new(uint64(0))}},
		"old ones":                     {sel: Selection{OlderThan: new("30m")}, dropped: everything},
		"older ones":                   {sel: Selection{OlderThan: new("2h")}},
		"all":                          {sel: Selection{All: true}, dropped: everything},
		"all before a mark":            {sel: Selection{All: true, Before: 2}, dropped: []string{oneSite}},
	} {
		s := example()
		plan, err := NewPlan(t.Context(), s, c.sel, now)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, name)
			var ambiguous *AmbiguousError
			if errors.As(err, &ambiguous) {
				require.Equal(t, c.narrow, ambiguous.Narrow(), name)
				require.Contains(t, err.Error(), "for sink site, application 1, dead, stored", name)
			}
			_, err := Apply(t.Context(), s, c.sel, now, s.drop)
			require.ErrorContains(t, err, c.err, name)
			require.Len(t, s.parcels, 5, name)
			continue
		}
		require.NoError(t, err, name)
		require.EqualValues(t, len(c.dropped), plan.Parcels, name)
		require.Len(t, plan.Few, len(c.dropped), name)
		require.Len(t, plan.Missing, c.missing, name)
		require.Equal(t, everything, s.names(), name)

		// The question is open for an hour, and more arrives.
		s.put(strings.Repeat("b", 32), "archive", 1, event.ParcelDead)
		s.put(near, "archive", 1, event.ParcelWaiting)
		n, err := Apply(t.Context(), s, plan.Selection, now.Add(time.Hour), s.drop)
		require.NoError(t, err, name)
		require.EqualValues(t, len(c.dropped), n, name)
		left := slices.DeleteFunc(slices.Clone(everything), func(n string) bool { return slices.Contains(c.dropped, n) })
		require.Equal(t, append(left, "bbbb archive 1", "cdee archive 1"), s.names(), name)
	}
}

// What is stored between the look and the change is not changed, though it has the same ID.
func TestAChangeMeansTheParcelsThatWereFound(t *testing.T) {
	s := example()
	n, err := Apply(t.Context(), s, Selection{IDs: []string{near}}, now, func(ctx context.Context, f Filter) (int64, error) {
		s.put(near, "site", 2, event.ParcelDead)
		s.put(near, "archive", 1, event.ParcelDead)
		return s.drop(ctx, f)
	})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Len(t, s.parcels, 6)
}

func TestAPlanListsFew(t *testing.T) {
	s := &shelf{}
	for n := range MostListed + 1 {
		s.put(fmt.Sprintf("%032x", n), "site", 1, event.ParcelWaiting)
	}
	plan, err := NewPlan(t.Context(), s, Selection{All: true}, now)
	require.NoError(t, err)
	require.Equal(t, []Group{{"site", event.ParcelWaiting, MostListed + 1}}, plan.Groups)
	require.Empty(t, plan.Few)
	_, err = NewPlan(t.Context(), s, Selection{IDs: []string{"00000000"}}, now)
	var ambiguous *AmbiguousError
	require.ErrorAs(t, err, &ambiguous)
	require.Len(t, ambiguous.Matches, MostListed)
	require.True(t, ambiguous.More)
	require.Contains(t, err.Error(), "\n  ...")
}

func TestTheStoreFails(t *testing.T) {
	s := example()
	s.err = errors.New("the disk is full")
	_, err := NewPlan(t.Context(), s, Selection{All: true}, now)
	require.ErrorIs(t, err, s.err)
	n, err := Apply(t.Context(), s, Selection{All: true}, now, s.drop)
	require.ErrorIs(t, err, s.err)
	require.EqualValues(t, 5, n, "what was changed before is reported")
}

func TestGone(t *testing.T) {
	groups := []Group{
		{"-", event.ParcelDead, 3}, {"a", event.ParcelWaiting, 1}, {"b", event.ParcelWaiting, 2}, {"b", event.ParcelDead, 4}, {"c", event.ParcelDead, 0},
	}
	require.Equal(t, []Gone{{"b", 2, 4}}, OfGone(groups, []string{"a"}))
	require.Empty(t, OfGone(groups, []string{"a", "b"}))
}

// FuzzSelection: a body says everything only by the word for it.
func FuzzSelection(f *testing.F) {
	for _, body := range []string{`{"all":true}`, `{"ids":["` + one + `"]}`, `{"ids":null,"state":""}`, `{"older_than":"24h"}`, `{"ALL":true}`, `{"sink":null,"sink":"a"}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var sel Selection
		if json.Unmarshal([]byte(body), &sel) != nil || sel.Check(now) != nil {
			return
		}
		filter, err := sel.Filter(now)
		if err != nil || filter.All() && !sel.All && len(sel.IDs) == 0 {
			t.Fatalf("%s selects everything", body)
		}
		for _, id := range sel.IDs {
			if len(strings.TrimSpace(id)) < MinPrefix {
				t.Fatalf("%s names an event by too little", body)
			}
		}
	})
}
