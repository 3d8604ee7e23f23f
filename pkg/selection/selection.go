package selection

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

const (
	// IDLength is how many hexadecimal digits an event's ID has.
	IDLength = 32
	// MinPrefix is the fewest digits that stand for a whole ID.
	MinPrefix = 8
	// MaxIDs is the most events that one Selection names.
	MaxIDs = 1000
)

// Selection is how people and programs say which parcels they mean: those that fit everything that is said.
// As JSON it is the body of a replay or a drop. A key that is not said is nil: one that is said and is blank is
// an error, since it is most likely a variable without a value.
type Selection struct {
	IDs      []string `json:"ids,omitempty"`       // events' IDs, or what these begin with
	AllSinks bool     `json:"all_sinks,omitempty"` // beside IDs: the parcels of every sink
	State    *string  `json:"state,omitempty"`     // waiting or dead
	Sink     *string  `json:"sink,omitempty"`
	SubAppID *uint64  `json:"sub_app_id,omitempty"`
	Type     *string  `json:"type,omitempty"`
	Error    *string  `json:"error,omitempty"` // what the first or the last error contains
	// OlderThan and NewerThan are durations such as 24h, or times such as 2026-01-31T12:00:00Z, and bound
	// when the parcel was stored.
	OlderThan *string `json:"older_than,omitempty"`
	NewerThan *string `json:"newer_than,omitempty"`
	All       bool    `json:"all,omitempty"` // every parcel there is, and nothing else may be said
	// Before is the mark of an earlier Plan: what was stored since then is left out. 0: no bound.
	Before int64 `json:"before,omitempty"`
	// DryRun asks for the Plan only.
	DryRun bool `json:"dry_run,omitempty"`
}

// FieldError refuses what was said, and names the key.
type FieldError struct {
	Key     string // as in JSON
	Index   int    // of the member of ids; less than 0: all of them
	Problem string
}

func (e *FieldError) Error() string {
	if e.Key == keyIDs && e.Index >= 0 {
		return fmt.Sprintf("%s[%d]: %s", e.Key, e.Index, e.Problem)
	}
	if e.Key == "" {
		return e.Problem
	}
	return e.Key + ": " + e.Problem
}

const (
	keyIDs = "ids"
	// blank is the problem of a text that is said and has nothing in it.
	blank = "is empty: is a variable without a value? Leave it out or give it one"
)

// UnmarshalJSON reads strictly: a key with a typo or without a value must not select more than was meant.
func (s *Selection) UnmarshalJSON(text []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return err
	}
	for key, value := range keys {
		if string(value) == "null" {
			return &FieldError{Key: key, Index: -1, Problem: blank}
		}
	}
	type plain Selection
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode((*plain)(s)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Filter is what is said beside IDs. The error is a FieldError.
func (s Selection) Filter(now time.Time) (f Filter, err error) {
	f.SubAppID, f.Before = s.SubAppID, s.Before
	for _, said := range []struct {
		key   string
		value *string
		set   func(string)
	}{
		{"state", s.State, func(v string) { f.State = event.ParcelState(v) }},
		{"sink", s.Sink, func(v string) { f.Sink = v }},
		{"type", s.Type, func(v string) { f.Type = v }},
		{"error", s.Error, func(v string) { f.Error = v }},
		{"older_than", s.OlderThan, func(string) {}},
		{"newer_than", s.NewerThan, func(string) {}},
	} {
		if said.value == nil {
			continue
		}
		if strings.TrimSpace(*said.value) == "" {
			return f, &FieldError{Key: said.key, Problem: blank}
		}
		said.set(*said.value)
	}
	if f.State != "" && f.State != event.ParcelWaiting && f.State != event.ParcelDead {
		return f, &FieldError{Key: "state", Problem: fmt.Sprintf("%q: must be waiting or dead", f.State)}
	}
	if f.OlderThan, err = parseAge("older_than", s.OlderThan, now); err != nil {
		return f, err
	}
	if f.NewerThan, err = parseAge("newer_than", s.NewerThan, now); err != nil {
		return f, err
	}
	if s.Before < 0 {
		return f, &FieldError{Key: "before", Problem: fmt.Sprintf("%d: must be the mark of a dry run", s.Before)}
	}
	return f, nil
}

// Check refuses what does not say clearly which parcels are to be changed, without a look at any. The error is a
// FieldError.
func (s Selection) Check(now time.Time) error {
	f, err := s.Filter(now)
	if err != nil {
		return err
	}
	switch named := s.IDs != nil || !f.All(); {
	case s.All && (named || s.AllSinks):
		return &FieldError{Key: "all", Problem: "is set beside a selection: remove one of the two"}
	case !s.All && !named:
		return &FieldError{Problem: "which parcels? Name IDs, select by state, sink, sub_app_id, type, error, older_than or newer_than, or say all for every one"}
	case s.IDs != nil && len(s.IDs) == 0:
		return &FieldError{Key: keyIDs, Index: -1, Problem: "names no event: leave it out or name some"}
	case len(s.IDs) > MaxIDs:
		return &FieldError{Key: keyIDs, Index: -1, Problem: fmt.Sprintf("there are %d, %d at most: name fewer at a time", len(s.IDs), MaxIDs)}
	case s.AllSinks && s.IDs == nil:
		return &FieldError{Key: "all_sinks", Problem: "is for IDs: name some, or remove it"}
	case s.AllSinks && s.Sink != nil:
		return &FieldError{Key: "all_sinks", Problem: "is set beside sink: remove one of the two"}
	}
	for i, id := range s.IDs {
		if _, _, err := ParseID(id); err != nil {
			return &FieldError{Key: keyIDs, Index: i, Problem: err.Error()}
		}
	}
	return nil
}

// ParseID reads an event's ID, or the beginning of one. White space around it and capitals are as good.
func ParseID(text string) (id string, whole bool, err error) {
	id = strings.ToLower(strings.TrimSpace(text))
	app, ofApp, both := strings.Cut(id, "-")
	switch notHex := strings.Trim(id, "0123456789abcdef") != ""; {
	case id == "":
		return "", false, errors.New(blank)
	case both && len(ofApp) == IDLength && app != "" && strings.Trim(app, "0123456789") == "":
		return "", false, fmt.Errorf("%s is what a target deduplicates by: write the event's ID, %s, and the application as sub_app_id, %s", safetext.Quote(text, longest), ofApp, app)
	case notHex || len(id) > IDLength:
		return "", false, fmt.Errorf("%s is not an event's ID: those are %d hexadecimal digits", safetext.Quote(text, longest), IDLength)
	case len(id) < MinPrefix:
		return "", false, fmt.Errorf("%s is too short: write the whole ID, or at least its first %d digits", safetext.Quote(text, longest), MinPrefix)
	}
	return id, len(id) == IDLength, nil
}

// longest is how much of a text an error quotes, in bytes.
const longest = 2 * IDLength

// parseAge reads a duration before now, or a time; nil is the zero time.
func parseAge(key string, text *string, now time.Time) (time.Time, error) {
	if text == nil {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(*text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339, *text); err == nil && at.Year() > 1970 {
		return at, nil
	}
	return time.Time{}, &FieldError{Key: key, Problem: fmt.Sprintf("%s: write a duration of more than 0 such as 24h, or a time such as 2026-01-31T12:00:00Z", safetext.Quote(*text, longest))}
}

// fixed is s with times in place of durations and whole IDs, so that it means the same whenever it is sent.
func (s Selection) fixed(f Filter, ids []string) Selection {
	s.IDs, s.Before, s.DryRun = slices.Clone(ids), f.Before, false
	at := func(t time.Time) *string {
		if t.IsZero() {
			return nil
		}
		return new(t.UTC().Format(time.RFC3339Nano))
	}
	s.OlderThan, s.NewerThan = at(f.OlderThan), at(f.NewerThan)
	return s
}
