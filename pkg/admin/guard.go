package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/internal/httpserver"
)

// secure sets what keeps a browser from using an answer for anything else than to show it.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// guard keeps foreign web pages out.
func (s *Server) guard(next http.Handler) http.Handler {
	host, _, _ := net.SplitHostPort(s.cfg.Listen) // validated
	loopback := httpserver.IsLoopback(s.cfg.Listen)
	return httpserver.Guard{
		Loopback: func(*http.Request) bool { return loopback },
		Hosts:    append([]string{host}, s.cfg.Hosts...), Key: "admin.hosts", Fail: fail,
	}.Handler(next)
}

// withToken asks for the token if there is one: as Authorization: Bearer, or as the password of
// Authorization: Basic, which is what browsers and `go tool pprof` can send.
func (s *Server) withToken(next http.Handler) http.Handler {
	if !s.cfg.asksForToken() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := s.cfg.currentToken()
		if err != nil {
			s.denied.Do(func() {
				s.log.Error("the admin server refuses requests: its token cannot be read", zap.String("token_file", s.cfg.TokenFile), zap.Error(err))
			})
			fail(w, http.StatusServiceUnavailable, "the token cannot be read: see vodrelay's log")
			return
		}
		if !same(presented(r), token) {
			s.denied.Do(func() {
				s.log.Warn("a request to the admin server did not have the token", zap.String("from", r.RemoteAddr), zap.String("path", r.URL.Path))
			})
			w.Header().Add("WWW-Authenticate", `Bearer realm="vodrelay"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="vodrelay: any user, the token as password", charset="UTF-8"`)
			fail(w, http.StatusUnauthorized, "send the configured token: Authorization: Bearer TOKEN")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mayRead reports whether the request has the token, if there is one.
func (s *Server) mayRead(r *http.Request) bool {
	if !s.cfg.asksForToken() {
		return true
	}
	token, err := s.cfg.currentToken()
	return err == nil && same(presented(r), token)
}

func presented(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// same takes the same time whatever the two have in common, their length too.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
