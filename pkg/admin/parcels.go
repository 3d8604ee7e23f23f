package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

const (
	defaultPage = 50
	maxPage     = 1000
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
			defer httpserver.Keep(r.Context())() // a change must be answered, and these are few
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
	var sel selection.Selection
	if sink, given := params["sink"]; given {
		sel.Sink = &sink
	}
	f, err := sel.Filter(time.Now())
	if err != nil {
		s.refuse(w, r, err, 0)
		return
	}
	id, err := selection.Resolve(r.Context(), s.opts.Parcels, r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err, 0)
		return
	}
	found, err := s.opts.Parcels.Get(r.Context(), id, f.Sink)
	switch {
	case err != nil:
		s.storeFailed(w, r, err, 0)
	case len(found) == 0:
		s.refuse(w, r, &selection.NotFoundError{ID: id}, 0)
	default:
		reply(w, http.StatusOK, ParcelPage{Parcels: views(found, true)})
	}
}

// change answers a replay or a drop.
func (s *Server) change(verb string, do func(Parcels, context.Context, Filter) (int64, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var sel selection.Selection
		if !readBody(w, r, &sel) {
			return
		}
		ctx, cancel := forChange(w, r)
		defer cancel()
		if sel.DryRun {
			plan, err := selection.NewPlan(ctx, s.opts.Parcels, sel, time.Now())
			s.answer(w, r, plan, 0, err)
			return
		}
		total, err := selection.Apply(ctx, s.opts.Parcels, sel, time.Now(), func(ctx context.Context, f Filter) (int64, error) {
			return do(s.opts.Parcels, ctx, f)
		})
		s.changed(r, verb, total)
		s.answer(w, r, ParcelsChanged{total}, total, err)
	}
}

// move answers a request to hand the parcels of one sink to another.
func (s *Server) move(w http.ResponseWriter, r *http.Request) {
	var m selection.Move
	if !readBody(w, r, &m) {
		return
	}
	ctx, cancel := forChange(w, r)
	defer cancel()
	if m.DryRun {
		plan, err := s.opts.Parcels.PlanMove(ctx, m)
		s.answer(w, r, plan, 0, err)
		return
	}
	moved, err := s.opts.Parcels.Move(ctx, m)
	s.changed(r, "move", moved.Parcels)
	s.answer(w, r, moved, moved.Parcels, err)
}

// forChange gives a change its time: it may be about millions of parcels.
func forChange(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(changeTime + time.Minute)) // net/http's connections can
	return context.WithTimeout(r.Context(), changeTime)
}

func (s *Server) changed(r *http.Request, verb string, parcels int64) {
	if parcels > 0 {
		s.log.Info("parcels changed through the admin server", zap.String("change", verb), zap.Int64("parcels", parcels), zap.String("from", r.RemoteAddr))
	}
}

// answer sends v, or what became of err.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, v any, changed int64, err error) {
	if err != nil {
		s.refuse(w, r, err, changed)
		return
	}
	reply(w, http.StatusOK, v)
}

// refuse answers with what is wrong with a request, or that the store failed.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error, changed int64) {
	var ambiguous *selection.AmbiguousError
	switch {
	case errors.As(err, &ambiguous):
		p := problem{Error: ambiguous.Problem, Matches: ambiguous.Matches, More: ambiguous.More}
		p.Hint = "say more: " + strings.Join(ambiguous.Narrow(), " or ")
		reply(w, http.StatusConflict, p)
	case errors.As(err, new(*selection.NotFoundError)):
		fail(w, http.StatusNotFound, err.Error())
	case errors.As(err, new(*selection.FieldError)), retry.IsPermanent(err) && changed == 0:
		reply(w, http.StatusBadRequest, problem{Error: err.Error(), Hint: retry.Hint(err)})
	default:
		s.storeFailed(w, r, err, changed)
	}
}

// storeFailed answers that the store did; changed is how many parcels were changed before.
func (s *Server) storeFailed(w http.ResponseWriter, r *http.Request, err error, changed int64) {
	s.log.Warn("the store failed a request to the admin server", zap.String("path", r.URL.Path), zap.Error(err), zap.String("hint", retry.Hint(err)))
	reply(w, http.StatusServiceUnavailable, problem{Error: err.Error(), Hint: retry.Hint(err), Parcels: changed})
}

// readBody reads what is to be changed, or answers why it cannot. The media type is insisted on: a web page can
// send JSON as something else without asking, but not as JSON.
func readBody(w http.ResponseWriter, r *http.Request, into any) bool {
	if _, err := parameters(r.URL.RawQuery); err != nil { // what is not read must not be thought to narrow
		fail(w, http.StatusBadRequest, err.Error())
		return false
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "send JSON, with Content-Type: application/json")
		return false
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields() // a filter with a typo must not select everything
	err := dec.Decode(into)
	if err == nil && dec.More() {
		err = errors.New("there is more than one object")
	}
	var tooLarge *http.MaxBytesError
	var field *selection.FieldError
	switch {
	case errors.As(err, &tooLarge):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes: send several requests", tooLarge.Limit))
	case errors.Is(err, io.EOF):
		fail(w, http.StatusBadRequest, "the body is empty: send an object that says which parcels")
	case errors.As(err, &field):
		fail(w, http.StatusBadRequest, field.Error())
	case err != nil:
		fail(w, http.StatusBadRequest, "the body is not as expected: "+err.Error())
	}
	return err == nil
}
