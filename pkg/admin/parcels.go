package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

const (
	defaultPage = 50
	maxPage     = 1000
	// maxIDs is the most events that one replay or drop names.
	maxIDs = 10_000
	// minID is the fewest digits of an ID that name an event: a single one would fit every sixteenth.
	minID = 4
)

// Parcel is a parcel as people and programs see it.
type Parcel struct {
	ID         string            `json:"id"`
	Sink       string            `json:"sink"`
	State      event.ParcelState `json:"state"`
	Type       string            `json:"type"`
	SubAppID   uint64            `json:"sub_app_id,omitempty"`
	Subject    string            `json:"subject,omitempty"` // the FileId or TaskId that it is about
	Attempts   int               `json:"attempts"`
	Next       *time.Time        `json:"next,omitempty"` // when it is due; nil when it is dead
	FirstError string            `json:"first_error,omitempty"`
	LastError  string            `json:"last_error,omitempty"`
	Created    time.Time         `json:"created"`
	Updated    time.Time         `json:"updated"`
	Content    json.RawMessage   `json:"content,omitempty"` // the event, in what is about one event only
}

// ParcelPage is what GET /parcels returns. Next goes into ?after= to go on; it is empty at the end.
type ParcelPage struct {
	Parcels []Parcel `json:"parcels"`
	Next    string   `json:"next,omitempty"`
}

// ParcelsChanged is what POST /parcels/replay and /parcels/drop return.
type ParcelsChanged struct {
	Parcels int64 `json:"parcels"`
}

// View is p as it is shown.
func View(p event.Parcel, withContent bool) Parcel {
	v := Parcel{
		ID: p.ID, Sink: p.Sink, State: p.State, Type: p.Type, SubAppID: p.SubAppID, Subject: p.Subject(), Attempts: p.Attempts,
		FirstError: p.FirstError, LastError: p.LastError, Created: p.Created, Updated: p.Updated,
	}
	if p.State == event.ParcelWaiting {
		v.Next = &p.Next
	}
	switch {
	case !withContent:
	case json.Valid(p.Raw):
		v.Content = p.Raw
	default: // as a text: what cannot be read is what a person wants to see
		v.Content, _ = json.Marshal(string(p.Raw)) // a string: cannot fail
	}
	return v
}

func views(all []event.Parcel, withContent bool) []Parcel {
	shown := make([]Parcel, len(all))
	for i, p := range all {
		shown[i] = View(p, withContent)
	}
	return shown
}

// aboutParcels lets few requests at a time look at the store, if there is one.
func (s *Server) aboutParcels(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.opts.Parcels == nil {
			fail(w, http.StatusNotFound, "there are no parcels: store.driver is none")
			return
		}
		select {
		case s.looks <- struct{}{}:
			defer func() { <-s.looks }()
			next(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, fmt.Sprintf("%d requests about parcels are under way already: try again", maxLooks))
		}
	}
}

func (s *Server) listParcels(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.RawQuery, time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	found, next, err := s.opts.Parcels.List(r.Context(), q.filter, q.after, q.limit)
	switch {
	case err != nil && retry.IsPermanent(err) && q.after != "":
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		s.storeFailed(w, r, err, 0)
	default:
		reply(w, http.StatusOK, ParcelPage{Parcels: views(found, false), Next: next})
	}
}

func (s *Server) showParcels(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r.URL.RawQuery, "sink")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	found, err := s.opts.Parcels.Get(r.Context(), r.PathValue("id"), params["sink"])
	switch {
	case err != nil:
		s.storeFailed(w, r, err, 0)
	case len(found) == 0:
		fail(w, http.StatusNotFound, "no parcel of this event: it was accepted or dropped, or the ID is not whole")
	default:
		reply(w, http.StatusOK, ParcelPage{Parcels: views(found, true)})
	}
}

// change answers a replay or a drop.
func (s *Server) change(verb string, do func(Parcels, context.Context, Filter) (int64, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		selection, status, err := readSelection(r)
		if err != nil {
			fail(w, status, err.Error())
			return
		}
		filters, err := selection.filters(time.Now())
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		// It may be about millions of parcels.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(changeTime + time.Minute)) // net/http's connections can
		ctx, cancel := context.WithTimeout(r.Context(), changeTime)
		defer cancel()
		var total int64
		for _, filter := range filters {
			n, err := do(s.opts.Parcels, ctx, filter)
			total += n
			if err != nil {
				s.storeFailed(w, r, err, total)
				return
			}
		}
		s.log.Info("parcels changed through the admin server", zap.String("change", verb), zap.Int64("parcels", total), zap.String("from", r.RemoteAddr))
		reply(w, http.StatusOK, ParcelsChanged{total})
	}
}

// storeFailed answers that the store did; changed is how many parcels were changed before.
func (s *Server) storeFailed(w http.ResponseWriter, r *http.Request, err error, changed int64) {
	s.log.Warn("the store failed a request to the admin server", zap.String("path", r.URL.Path), zap.Error(err), zap.String("hint", retry.Hint(err)))
	reply(w, http.StatusServiceUnavailable, problem{Error: err.Error(), Hint: retry.Hint(err), Parcels: changed})
}

// readSelection reads the body of a change. The media type is insisted on: a web page can send JSON as
// something else without asking, but not as JSON.
func readSelection(r *http.Request) (sel Selection, status int, err error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return sel, http.StatusUnsupportedMediaType, errors.New("send JSON, with Content-Type: application/json")
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields() // a filter with a typo must not select everything
	err = dec.Decode(&sel)
	if err == nil && dec.More() {
		err = errors.New("there is more than one object")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return sel, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes: send several requests", tooLarge.Limit)
	case errors.Is(err, io.EOF):
		return sel, http.StatusBadRequest, errors.New(`the body is empty: send {"ids": [...]}, a selection, or {"all": true}`)
	case err != nil:
		return sel, http.StatusBadRequest, fmt.Errorf("the body is not as expected: %w", err)
	}
	return sel, 0, nil
}
