package httpserver

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Guard refuses what a foreign web page has a browser send. Programs send none of what it looks at but Host.
//
// A page can have its own name resolve to an address of this server (DNS rebinding); for the browser the answer
// is then the page's own. Such a request gives itself away by its Host, which is the page's name. So a server
// answers to no name that a stranger can have.
type Guard struct {
	// Loopback says whether only this machine reaches the server by the way that a request came.
	Loopback func(*http.Request) bool
	// Hosts are further names that the server answers to, without a port.
	Hosts []string
	// Key is what to add a name to, for the hint; "" if it cannot be configured.
	Key string
	// Fail writes a refusal.
	Fail func(w http.ResponseWriter, status int, text string)
}

// Handler is next behind the guard.
func (g Guard) Handler(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	machine, _ := os.Hostname() // without it there is one name less
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := hostName(r.Host)
		own := IsLocalName(name) || slices.ContainsFunc(g.Hosts, func(host string) bool { return name == hostName(host) })
		if !own && !g.Loopback(r) {
			own = name == hostName(machine) || isPrivateName(name)
		}
		if !own {
			hint := "use an IP address"
			if g.Key != "" {
				hint += ", or add the name to " + g.Key
			}
			g.Fail(w, http.StatusMisdirectedRequest, "this server does not answer to the name in Host, which may be a stranger's: "+hint)
			return
		}
		// To follow a link to here is fine; to embed the answer is not.
		embedded := r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
		if err := crossOrigin.Check(r); err != nil || embedded {
			g.Fail(w, http.StatusForbidden, "refused: the request comes from another web site")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// CameByLoopback reports whether the request came to a loopback address of this machine.
func CameByLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && IsLoopback(local.String())
}

// CheckHost says what is wrong with one of Guard's Hosts.
func CheckHost(host string) error {
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/:*?#@[]", r) }) || host == "" {
		return errors.New("write a host name alone, such as relay.example.com; one of other letters as its browsers send it, beginning with xn--")
	}
	return nil
}

// hostName is a host without its port, as names are compared.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// IsLocalName reports whether host, with or without a port, cannot be a name that somebody else gave to this
// machine: an IP address, localhost, or nothing.
func IsLocalName(host string) bool {
	name := hostName(host)
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// isPrivateName reports whether only whoever runs the network can give the name, which is then in it anyway and
// needs no browser to ask: a name of one label, and those under what the public DNS does not have. Sources:
// RFC 6762 for local, which Kubernetes' cluster.local is in too; RFC 8375 for home.arpa; ICANN's resolution
// 2024.07.29.06 for internal. svc, behind which Kubernetes' search list puts the rest, is no top-level domain.
func isPrivateName(name string) bool {
	foreign := func(r rune) bool { return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }
	if strings.IndexFunc(name, foreign) < 0 {
		return true
	}
	for _, suffix := range []string{".local", ".home.arpa", ".internal", ".svc"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
