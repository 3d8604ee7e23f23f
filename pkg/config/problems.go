package config

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Error is one thing that is wrong with the configuration.
type Error struct {
	// Where the value was set: a file and line (vodrelay.yaml:12), a variable of the environment, or a
	// flag. "" for a value that was not set at all.
	Where string
	// Key is the path of the key, such as "sinks[0] (site).url"; "" when the problem is with no key.
	Key string
	// Text is the value, unless it is a secret, and the remedy.
	Text string
}

// Error is the problem in one line: where, key, value, remedy.
func (e Error) Error() string {
	parts := make([]string, 0, 3)
	key := e.Key
	if strings.HasSuffix(e.Where, " "+key) { // --set names it already
		key = ""
	}
	for _, part := range []string{e.Where, key, e.Text} {
		if part != "" {
			parts = append(parts, safetext.Line(part, 0))
		}
	}
	return strings.Join(parts, ": ")
}

// Errors is all that is wrong with a configuration. Every error of this package is one.
type Errors []Error

// Error has one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, 0, len(e))
	for _, problem := range e {
		lines = append(lines, problem.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the problems one by one.
func (e Errors) Unwrap() []error {
	errs := make([]error, 0, len(e))
	for _, problem := range e {
		errs = append(errs, problem)
	}
	return errs
}

// report collects problems, and what is needed to say where they are.
type report struct {
	found  []finding
	wheres map[string]place  // of each key that was set
	names  map[string]string // of each sink, by its path
	failed map[string]bool   // keys with a problem, of which validation need not say more
	// unread means that the file's values are not known, so that to validate the others would mislead.
	unread bool
}

type finding struct {
	at   place
	path string
	text string
}

// place is where a value came from.
type place struct {
	name string // a file, variable or flag
	line int    // in the file, from 1; 0 for none
}

func (p place) String() string {
	if p.line == 0 {
		return p.name
	}
	return p.name + ":" + strconv.Itoa(p.line)
}

func newReport() *report {
	return &report{wheres: map[string]place{}, names: map[string]string{}, failed: map[string]bool{}}
}

// at adds a problem of reading the value of a key.
func (r *report) at(where place, path, text string) {
	r.found = append(r.found, finding{where, path, text})
	r.failed[path] = true
}

// add adds a problem with a value that was read, unless reading it had one already.
func (r *report) add(path, text string) {
	for failed := range r.failed {
		if failed == path || inside(path, failed) || inside(failed, path) {
			return
		}
	}
	r.found = append(r.found, finding{r.where(path), path, text})
}

// has reports whether there is a problem with a key already.
func (r *report) has(path string) bool {
	return slices.ContainsFunc(r.found, func(f finding) bool { return f.path == path })
}

// check adds the lines of a component's Validate. config is the component's Config, whose keys tell
// whether a line begins with one.
func (r *report) check(path string, err error, config any) {
	known := names(fieldsOf(reflect.TypeOf(config)))
	for _, text := range lines(err) {
		key, rest, ok := strings.Cut(text, ": ")
		first := key
		if end := strings.IndexAny(key, ".["); end >= 0 {
			first = key[:end]
		}
		if !ok || !slices.Contains(known, first) {
			r.add(path, text)
			continue
		}
		r.add(join(path, key), rest)
	}
}

// where is the place of a key, or of the closest section around it that was set.
func (r *report) where(path string) place {
	for path != "" {
		if at, ok := r.wheres[path]; ok {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return place{}
}

// err is nil, or all problems: in the order of the file's lines, the others after them.
func (r *report) err() error {
	if len(r.found) == 0 {
		return nil
	}
	slices.SortStableFunc(r.found, func(a, b finding) int {
		if (a.at.line == 0) != (b.at.line == 0) {
			return cmp.Compare(b.at.line, a.at.line)
		}
		return cmp.Compare(a.at.line, b.at.line)
	})
	var all Errors
	told := map[Error]bool{}
	for _, f := range r.found {
		e := Error{Where: f.at.String(), Key: redact.Text(r.named(f.path)), Text: redact.Quoted(f.text)}
		if !told[e] {
			told[e] = true
			all = append(all, e)
		}
	}
	return all
}

// named is the path with the sink's name: sinks[0] (site).url.
func (r *report) named(path string) string {
	end := strings.IndexByte(path, ']') + 1
	if name := redact.Value(r.names[path[:end]]); name != "" {
		return path[:end] + " (" + name + ")" + path[end:]
	}
	return path
}

// inside reports whether path is a key in the section or list at outer.
func inside(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "["))
}

// lines takes what errors.Join has joined apart.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var all, texts []string
	for _, e := range joined.Unwrap() {
		all = append(all, lines(e)...)
		texts = append(texts, e.Error())
	}
	if strings.Join(texts, "\n") != err.Error() { // an error with text of its own around several others
		return []string{err.Error()}
	}
	return all
}

// quote shows a value, shortened, without what is secret in an address.
func quote(s string) string {
	const longest = 80
	return safetext.Quote(redact.Value(s), longest)
}
