// Package redact shows what may carry a secret without it. Whatever quotes an address, or a text of a library or
// another program, in an error, a log line, a page or an answer lets it pass through here.
//
// The path of an address is as secret as its password: the webhooks of chat services are opened by it alone. So are
// query and fragment.
package redact

import (
	"regexp"
	"strconv"
	"strings"
)

// Hidden stands where a secret was.
const Hidden = "***"

// Secret says no more of a secret than whether there is one: Hidden, or "" for none.
func Secret(s string) string {
	if s == "" {
		return ""
	}
	return Hidden
}

// hosts are one or several, with or without ports, as lists of PostgreSQL's and MongoDB's addresses have them.
var hosts = regexp.MustCompile(`^` + oneHost + `(?:,` + oneHost + `)*$`)

// documentation are the hosts of pages that hints name, where no path is a secret.
var documentation = map[string]bool{"expr-lang.org": true, "console.cloud.tencent.com": true}

const oneHost = `(?:\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?::[0-9]*)?`

// Address is an address of any scheme, or of none, with its host alone: https://***@host/***. The values of a
// connection string such as "host=db password=x" are hidden but for those of host, port and database. What cannot be
// told apart from a secret is hidden too; the path of a file stays.
func Address(s string) string {
	scheme, rest, found := strings.Cut(s, "://")
	switch {
	case found && isScheme(scheme):
		return scheme + "://" + host(rest)
	case assignments.MatchString(s):
		return connection(s)
	case strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") && !strings.Contains(s, "@"):
		return s
	}
	return host(s)
}

// Addresses is a list with commas between.
func Addresses(list []string) string {
	shown := make([]string, 0, len(list))
	for _, s := range list {
		shown = append(shown, Address(s))
	}
	return strings.Join(shown, ",")
}

func isScheme(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s[:1]), "abcdefghijklmnopqrstuvwxyz") == "" &&
		strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789+.-") == ""
}

// host is what follows a scheme.
func host(s string) string {
	path := ""
	if i := strings.IndexAny(s, `/?#\`); i >= 0 {
		s, path = s[:i], s[i:]
	}
	if strings.Contains(path, "@") { // a password can hold a slash: what stands before it is no host then
		return Hidden
	}
	user := ""
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s, user = s[i+1:], Hidden+"@"
	}
	if !hosts.MatchString(s) {
		return Hidden
	}
	if path != "" && path != "/" && !documentation[s] {
		path = "/" + Hidden
	}
	return user + s + path
}

var (
	assignments = regexp.MustCompile(`^\s*[A-Za-z_]+\s*=`)
	assigned    = regexp.MustCompile(`([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']*)`)
	harmless    = regexp.MustCompile(`^(host|hostaddr|port|dbname|sslmode)$`)
)

// connection is a connection string of PostgreSQL in its key=value form:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE.
func connection(s string) string {
	var shown []string
	for _, pair := range assigned.FindAllStringSubmatch(s, -1) {
		value := pair[2]
		if !harmless.MatchString(pair[1]) || strings.ContainsAny(value, "@'") {
			value = Hidden
		}
		shown = append(shown, pair[1]+"="+value)
	}
	return strings.Join(shown, " ")
}

var (
	// One in quotes can hold spaces.
	quotedURL = regexp.MustCompile(`"[A-Za-z][A-Za-z0-9+.-]*://(?:[^"\\]|\\.)*"`)
	bareURL   = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>|` + "`" + `]+`)
	login     = regexp.MustCompile(`[^\s"'<>=,;(]+:[^\s"'<>]*@[^\s"'<>,;)]*`)
	named     = regexp.MustCompile(`(?i)((?:password|passwd|pwd|secret|token|signature|api_?key|access_?key|secret_?key) ?= ?)('[^']*'|"[^"]*"|[^\s&,;)'"=` + "`" + `]+)`)
	header    = regexp.MustCompile(`(?i)((?:authorization|cookie|x-api-key): ?)[^\n"]+`)
)

// Text is a text that others wrote, such as the error of a library or the answer of a server, with each address in it
// as Address has it, and without the values of what is named password, token and the like.
func Text(s string) string {
	if strings.Contains(s, "://") {
		s = quotedURL.ReplaceAllStringFunc(s, func(quoted string) string { return `"` + Address(quoted[1:len(quoted)-1]) + `"` })
		s = bareURL.ReplaceAllStringFunc(s, func(address string) string {
			address, rest := trimEnd(address)
			return Address(address) + rest
		})
	}
	if strings.Contains(s, "@") {
		s = login.ReplaceAllStringFunc(s, func(address string) string {
			if strings.Contains(address, "://") {
				return address // which was hidden above
			}
			address, rest := trimEnd(address)
			return host(address) + rest
		})
	}
	if strings.Contains(s, "=") {
		s = named.ReplaceAllString(s, "${1}"+Hidden)
	}
	if strings.Contains(s, ":") {
		s = header.ReplaceAllString(s, "${1}"+Hidden)
	}
	return s
}

// Error is err with the text that Text makes of its own; what is inside can still be found.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if shown := Text(err.Error()); shown != err.Error() {
		return &shownError{shown, err}
	}
	return err
}

type shownError struct {
	text string
	err  error
}

func (s *shownError) Error() string { return s.text }
func (s *shownError) Unwrap() error { return s.err }

// trimEnd cuts off what ends a sentence around an address.
func trimEnd(s string) (address, rest string) {
	address = strings.TrimRight(s, ".,;:!)}")
	return address, s[len(address):]
}

var quotes = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'`)

// Quoted is a text of ours in which values stand in quotes, as %q writes them, or between apostrophes: they are shown as Value has them, and
// what is said about them stays.
func Quoted(s string) string {
	return quotes.ReplaceAllStringFunc(s, func(quoted string) string {
		inner := quoted[1 : len(quoted)-1]
		value, err := strconv.Unquote(quoted)
		if err != nil || quoted[0] == '\'' {
			value = inner
		}
		shown := Value(value)
		switch {
		case shown == value:
			return quoted
		case quoted[0] == '\'':
			return "'" + shown + "'"
		}
		return strconv.Quote(shown)
	})
}

// Value is what was written for a key that may be an address and may be anything else.
func Value(s string) string {
	if user, _, found := strings.Cut(s, "@"); found && strings.Contains(user, ":") || strings.HasPrefix(s, "//") {
		return Address(s)
	}
	return Text(s)
}
