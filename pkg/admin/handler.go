package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/selection"
)

// handler is all routes behind all guards.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		Registry:            s.registry,
		ErrorHandling:       promhttp.ContinueOnError,
		ErrorLog:            promLog{s.log},
		MaxRequestsInFlight: maxLooks,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /style.css", style)

	guarded := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, s.withToken(h)) }
	guarded("GET /{$}", s.page)
	guarded("GET /parcels", s.aboutParcels(s.listParcels))
	guarded("GET /parcels/{id}", s.aboutParcels(s.showParcels))
	guarded("POST /parcels/replay", s.aboutParcels(s.change("replay", Parcels.Replay)))
	guarded("POST /parcels/drop", s.aboutParcels(s.change("drop", Parcels.Drop)))
	guarded("POST /parcels/move", s.aboutParcels(s.move))
	if s.cfg.Pprof {
		guarded("GET /debug/pprof/", pprof.Index)
		guarded("GET /debug/pprof/cmdline", pprof.Cmdline)
		guarded("GET /debug/pprof/profile", pprof.Profile)
		guarded("GET /debug/pprof/symbol", pprof.Symbol)
		guarded("POST /debug/pprof/symbol", pprof.Symbol)
		guarded("GET /debug/pprof/trace", pprof.Trace)
	} else {
		mux.HandleFunc("GET /debug/pprof/", func(w http.ResponseWriter, _ *http.Request) {
			fail(w, http.StatusNotFound, "profiles are off: set admin.pprof to true")
		})
	}
	return s.counted(secure(s.guard(http.MaxBytesHandler(mux, maxBody))))
}

// counted makes Shutdown wait for the request, and a panic in it an answer and a line in the log.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			fail(w, http.StatusServiceUnavailable, "vodrelay is stopping")
			return
		}
		defer s.requests.Done()
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p) // net/http's own way to break off an answer
			}
			s.log.Error("a request to the admin server panicked", zap.Any("panic", p), zap.Stack("stack"), zap.String("path", r.URL.Path))
			fail(w, http.StatusInternalServerError, "a fault in vodrelay: see its log")
		}()
		next.ServeHTTP(w, r)
	})
}

// promLog is where promhttp tells of metrics that could not be gathered.
type promLog struct{ log *zap.Logger }

func (p promLog) Println(v ...any) {
	p.log.Error("metrics are incomplete", zap.String("error", strings.TrimSpace(fmt.Sprintln(v...))))
}

// reply sends v as JSON.
func reply(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // it is JSON, and nosniff keeps it so
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		http.Error(w, "cannot be written as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(safetext.Text(body.Bytes())) // a client that went away needs no answer
}

// problem is the body of every refusal.
type problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	// Parcels is how many a change that failed midway had changed.
	Parcels int64 `json:"parcels,omitempty"`
	// Matches are parcels that the request could mean, and More that there are others.
	Matches []selection.Line `json:"matches,omitempty"`
	More    bool             `json:"more,omitempty"`
}

func fail(w http.ResponseWriter, status int, message string) {
	reply(w, status, problem{Error: message})
}
