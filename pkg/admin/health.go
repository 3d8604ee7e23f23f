package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// check is one condition of health; err is nil when it holds.
type check struct {
	name string
	err  error
}

// reason is why it does not hold, without the name that stands before it.
func (c check) reason() string {
	return strings.TrimPrefix(safetext.Line(c.err.Error(), 0), c.name+": ")
}

// live asks only what a restart can cure.
func (s *Server) live() []check {
	c := check{name: "loops"}
	if s.opts.Alive != nil {
		c.err = s.opts.Alive()
	}
	return []check{c}
}

// ready asks whether events can be relayed.
func (s *Server) ready(ctx context.Context) []check {
	checks := []check{{name: "running"}}
	if s.stopping() {
		checks[0].err = errors.New("vodrelay is stopping")
	}
	if len(s.opts.Applications) > 0 {
		c := check{name: "authenticated"}
		if !s.opts.Observer.authenticated.Load() {
			c.err = errors.New("no pull has succeeded yet: see the log, or run `vodrelay check`")
		}
		checks = append(checks, c)
	}
	if s.health != nil {
		_, err := s.health.get(ctx)
		checks = append(checks, check{"store", err})
	}
	return checks
}

func (s *Server) stopping() bool { return s.opts.Stopping != nil && s.opts.Stopping() }

// reasons are those of the checks that do not hold.
func reasons(checks []check) []string {
	failed := []string{}
	for _, c := range checks {
		if c.err != nil {
			failed = append(failed, c.name+": "+c.reason())
		}
	}
	return failed
}

func (s *Server) livez(w http.ResponseWriter, r *http.Request) { probe(w, r, "livez", s.live()) }

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	probe(w, r, "readyz", s.ready(r.Context()))
}

// probe answers in the manner of Kubernetes' own servers: 200 or 503, and with ?verbose a line for each
// check.
func probe(w http.ResponseWriter, r *http.Request, name string, checks []check) {
	status, end := http.StatusOK, "ok"
	var names, lines []string
	for _, c := range checks {
		if c.err == nil {
			lines = append(lines, "[+]"+c.name+" ok")
			continue
		}
		status = http.StatusServiceUnavailable
		names = append(names, c.name)
		lines = append(lines, "[-]"+c.name+" failed: "+c.reason())
	}
	if names != nil {
		end = "failed: " + strings.Join(names, ", ")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if r.URL.Query().Has("verbose") {
		end = strings.Join(lines, "\n") + "\n" + name + " check " + end
	}
	_, _ = fmt.Fprintln(w, end) // a probe that went away needs no answer
}
