package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"go.uber.org/zap"
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

// fromHere refuses what a foreign web page has a browser send. A browser on this machine reaches the
// loopback address for every page that it shows, and for a page whose name is made to resolve to
// 127.0.0.1 the answer would even be readable.
func (s *Server) fromHere(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isLoopback(s.cfg.Listen) && !isOwnName(r.Host) {
			fail(w, http.StatusMisdirectedRequest, "this server is for this machine only: use http://localhost or the address itself")
			return
		}
		// To follow a link to here is fine; to embed the answer is not.
		embedded := r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
		if err := crossOrigin.Check(r); err != nil || embedded {
			fail(w, http.StatusForbidden, "refused: the request comes from another web site")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwnName reports whether host, with or without a port, cannot be a name that somebody else gave to this
// machine.
func isOwnName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost")
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
