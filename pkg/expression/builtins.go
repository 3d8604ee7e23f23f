package expression

import (
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/expr-lang/expr/builtin"
)

// loops are the built-in functions that go through a list, and whether they make one of it. What they do to each
// element counts before they begin: see nullSafe.
var loops = map[string]bool{
	"all": false, "none": false, "any": false, "one": false, "count": false, "sum": false, "reduce": false,
	"find": false, "findIndex": false, "findLast": false, "findLastIndex": false,
	"filter": true, "map": true, "groupBy": true, "sortBy": true,
}

// cost takes from the meter, before a function runs, all that it will do and make. No argument is null.
type cost func(m *meter, name string, args []any) error

// costs has every other built-in function of package expr. One that is not here cannot be called, so that a new one
// is not without limits; a test fails for it.
var costs = map[string]cost{
	"abs": fixed, "ceil": fixed, "floor": fixed, "round": fixed,
	"bitand": fixed, "bitor": fixed, "bitxor": fixed, "bitnand": fixed, "bitnot": fixed, "bitshl": fixed, "bitshr": fixed, "bitushr": fixed,
	"now": fixed, "first": fixed, "last": fixed, "take": fixed, "len": fixed, "get": fixed,

	"trimPrefix": looksThrough, "trimSuffix": looksThrough, "hasPrefix": looksThrough, "hasSuffix": looksThrough,
	"indexOf": searches, "lastIndexOf": searches, "trim": trims,
	"int": parses, "float": parses, "duration": parses, "date": reads, "timezone": reads,
	"fromJSON": fixed, // it takes what it reads

	"upper": changesCase(unicode.ToUpper), "lower": changesCase(unicode.ToLower),
	"replace": replaces, "repeat": repeats, "join": joins, "split": splits, "splitAfter": splits,
	"string": writes, "toJSON": writes, "toBase64": encodes, "fromBase64": decodes,

	"max": goesThrough, "min": goesThrough, "mean": goesThrough, "median": flattens,
	"keys": copies, "values": copies, "toPairs": copies, "fromPairs": pairs, "reverse": copies, "concat": copies,
	"flatten": flattens, "sort": sorts,
	"uniq": fixed, // it takes what it compares
}

// own are the functions that differ from those of package expr.
var own = map[string]metered{
	"len": func(_ *meter, args []any) (any, error) {
		switch reflect.ValueOf(args[0]).Kind() {
		case reflect.String, reflect.Slice, reflect.Array, reflect.Map:
			return reflect.ValueOf(args[0]).Len(), nil
		}
		return nil, fmt.Errorf("a text, a list or an object is needed here, not %s", describe(args[0]))
	},
	"get":      func(_ *meter, args []any) (any, error) { return member(args[0], args[1]), nil },
	"fromJSON": fromJSON,
	"toJSON": func(m *meter, args []any) (any, error) {
		raw, err := encode(args[0])
		if err == nil && len(raw) > maxText {
			err = m.text("toJSON", len(raw))
		}
		return string(raw), err
	},
	"uniq": uniq,
}

// callable are the functions of package expr under their limits.
func callable() map[string]metered {
	functions := make(map[string]metered, len(costs))
	for _, f := range builtin.Builtins {
		take, ok := costs[f.Name]
		if !ok {
			continue
		}
		run := own[f.Name]
		if run == nil {
			run = plain(f)
		}
		functions[f.Name] = func(m *meter, args []any) (any, error) {
			for _, arg := range args {
				if arg == nil {
					if f.Name == "len" {
						return 0, nil
					}
					return nil, nil
				}
			}
			if err := take(m, f.Name, args); err != nil {
				return nil, err
			}
			return run(m, args)
		}
	}
	return functions
}

// unclassified are the functions of package expr that nobody has given limits: nothing can call them. type is a
// name of the event instead.
func unclassified() []string {
	var names []string
	for _, f := range builtin.Builtins {
		_, isLoop := loops[f.Name]
		if _, ok := costs[f.Name]; !ok && !isLoop || isLoop != f.Predicate {
			names = append(names, f.Name)
		}
	}
	return names
}

// plain is a built-in function in the one form that all have in common. Its error names the kinds of the
// arguments and not, as package expr does, the values: those are the events', and differ with each.
func plain(f *builtin.Function) metered {
	return func(_ *meter, args []any) (result any, err error) {
		defer func() {
			if recover() != nil || err != nil {
				of := "nothing"
				if len(args) > 0 {
					of = describe(args[0])
				}
				err = fmt.Errorf("%s does not take %s of this kind or content", f.Name, of)
			}
		}()
		switch {
		case f.Fast != nil:
			return f.Fast(args[0]), nil
		case f.Safe != nil:
			result, _, err = f.Safe(args...)
			return result, err
		}
		return f.Func(args...)
	}
}

func fixed(*meter, string, []any) error { return nil }

func looksThrough(m *meter, name string, args []any) error {
	return m.scan(name, textLength(args[0]))
}

// searches is at worst a comparison at each byte.
func searches(m *meter, name string, args []any) error {
	return m.work(name, 1+len(textAt(args, 0))/2)
}

// trims looks for each letter of the text in the letters to trim.
func trims(m *meter, name string, args []any) error {
	return m.work(name, 1+len(textAt(args, 0))*(1+len(textAt(args, 1)))/bytesInStep)
}

// parses reads short texts, and repeats what is none of them in an error.
func parses(m *meter, name string, args []any) error {
	n := 0
	for _, arg := range args {
		n += textLength(arg)
	}
	if err := m.take(name, 8*n); err != nil {
		return err
	}
	return m.work(name, 100+n)
}

// reads may read the rules of a time zone from a file.
func reads(m *meter, name string, args []any) error {
	if err := m.work(name, 5000); err != nil {
		return err
	}
	return parses(m, name, args)
}

func changesCase(change func(rune) rune) cost {
	return func(m *meter, name string, args []any) error {
		s, n := textAt(args, 0), 0
		if err := m.scan(name, len(s)); err != nil {
			return err
		}
		for _, r := range s {
			if r < utf8.RuneSelf {
				n++
			} else {
				n += utf8.RuneLen(change(r))
			}
		}
		return m.text(name, n)
	}
}

func replaces(m *meter, name string, args []any) error {
	s, old, with := textAt(args, 0), textAt(args, 1), textAt(args, 2)
	if err := searches(m, name, args); err != nil {
		return err
	}
	n := strings.Count(s, old) // one more than letters for ""
	if limit := countAt(args, 3, -1); limit >= 0 {
		n = min(n, limit)
	}
	size, ok := times(n, len(with))
	if !ok {
		size = maxText
	}
	return m.text(name, len(s)-n*len(old)+size)
}

func repeats(m *meter, name string, args []any) error {
	n, ok := times(len(textAt(args, 0)), max(0, countAt(args, 1, 0)))
	if !ok {
		n = maxText + 1
	}
	return m.text(name, n)
}

// times is a*b, of numbers that are not negative.
func times(a, b int) (int, bool) {
	high, low := bits.Mul64(uint64(a), uint64(b))
	return int(low), high == 0 && low < 1<<62
}

func joins(m *meter, name string, args []any) error {
	n := lengthOf(args[0])
	if err := m.list(name, n); err != nil {
		return err
	}
	size, _ := times(n, len(textAt(args, 1)))
	switch list := args[0].(type) {
	case []any:
		for _, v := range list {
			size += textLength(v)
		}
	case []string:
		for _, s := range list {
			size += len(s)
		}
	}
	return m.text(name, size)
}

func splits(m *meter, name string, args []any) error {
	s, separator := textAt(args, 0), textAt(args, 1)
	if err := searches(m, name, args); err != nil {
		return err
	}
	n := strings.Count(s, separator) + 1
	if limit := countAt(args, 2, -1); limit >= 0 {
		n = min(n, limit)
	}
	return m.list(name, n)
}

// writes is for functions that make one text of everything in a value.
func writes(m *meter, name string, args []any) error {
	size, err := m.measure(name, args[0], maxText)
	if err != nil {
		return err
	}
	return m.text(name, size.text)
}

func encodes(m *meter, name string, args []any) error {
	return m.text(name, (len(textAt(args, 0))+2)/3*4)
}

func decodes(m *meter, name string, args []any) error {
	return m.text(name, len(textAt(args, 0))/4*3)
}

// goesThrough is for functions that look at every value, however deep.
func goesThrough(m *meter, name string, args []any) error {
	for _, arg := range args {
		if _, err := m.measure(name, arg, maxMemory); err != nil {
			return err
		}
	}
	return nil
}

func copies(m *meter, name string, args []any) error {
	n := 0
	for _, arg := range args {
		n += lengthOf(arg)
	}
	return m.list(name, n)
}

// pairs sees to it that package expr has no reason to put the whole value into an error.
func pairs(m *meter, name string, args []any) error {
	wrong := errors.New(name + " needs a list of lists of two elements")
	list := reflect.ValueOf(args[0])
	if list.Kind() != reflect.Slice && list.Kind() != reflect.Array {
		return wrong
	}
	if err := m.list(name, list.Len()); err != nil {
		return err
	}
	for i := range list.Len() {
		pair := list.Index(i)
		if pair.Kind() == reflect.Interface {
			pair = pair.Elem()
		}
		if pair.Kind() != reflect.Slice && pair.Kind() != reflect.Array || pair.Len() != 2 {
			return wrong
		}
	}
	return m.take(name, list.Len()*sizeOfFields)
}

// flattens copies the values of the inner lists once for each list around them.
func flattens(m *meter, name string, args []any) error {
	for _, arg := range args {
		n, err := m.leaves(name, arg, 0)
		if err == nil {
			err = m.list(name, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leaves is how many values the lists in v have which are no lists; each takes work for each list around it.
func (m *meter) leaves(name string, v any, depth int) (int, error) {
	if err := m.work(name, 1+depth); err != nil {
		return 0, err
	}
	switch reflect.ValueOf(v).Kind() {
	case reflect.Slice, reflect.Array:
	default:
		return 1, nil
	}
	if depth > maxDepth {
		return 0, fmt.Errorf("%s: lists stand in each other more than %d deep", name, maxDepth)
	}
	n := 0
	list := reflect.ValueOf(v)
	for i := range list.Len() {
		inner, err := m.leaves(name, list.Index(i).Interface(), depth+1)
		if err != nil {
			return 0, err
		}
		n += inner
	}
	return n, nil
}

func sorts(m *meter, name string, args []any) error {
	n := lengthOf(args[0])
	if err := m.list(name, n); err != nil {
		return err
	}
	longest := 0
	if list, ok := args[0].([]any); ok {
		for _, v := range list {
			longest = max(longest, textLength(v))
		}
	}
	return m.work(name, n*bits.Len(uint(n))*(1+longest/1024))
}

// uniq has the first of the elements that equal each other.
func uniq(m *meter, args []any) (any, error) {
	if _, err := list(args[0]); err != nil {
		return nil, err
	}
	of := reflect.ValueOf(args[0])
	if err := m.list("uniq", of.Len()); err != nil {
		return nil, err
	}
	texts := make(map[string]bool)
	kept, others := []any{}, []any{}
	for i := range of.Len() {
		v := of.Index(i).Interface()
		if s, ok := v.(string); ok {
			if !texts[s] {
				texts[s] = true
				kept = append(kept, v)
			}
			continue
		}
		found, err := m.contains("uniq", others, v)
		if err != nil {
			return nil, err
		}
		if !found {
			kept, others = append(kept, v), append(others, v)
		}
	}
	return kept, nil
}
