package expression

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"regexp/syntax"
	"time"

	"github.com/expr-lang/expr/vm/runtime"
)

// member is a field of an object or an element of a list, counted from the end below 0; null for whatever
// does not exist.
func member(of, at any) any {
	switch of := of.(type) {
	case nil:
		return nil
	case map[string]any:
		name, _ := at.(string)
		return of[name]
	}
	v := reflect.ValueOf(of)
	switch v.Kind() { // lists and maps that functions make have types of their own
	case reflect.Slice, reflect.Array:
		if i, ok := position(at, v.Len()); ok {
			return v.Index(i).Interface()
		}
	case reflect.Map:
		key := reflect.ValueOf(at)
		if key.IsValid() && key.Type().AssignableTo(v.Type().Key()) && key.Comparable() {
			if value := v.MapIndex(key); value.IsValid() {
				return value.Interface()
			}
		}
	}
	return nil
}

func position(at any, length int) (int, bool) {
	var i int64
	switch at := at.(type) {
	case int:
		i = int64(at)
	case int64:
		i = at
	default:
		return 0, false
	}
	if i < 0 {
		i += int64(length)
	}
	return int(i), i >= 0 && i < int64(length)
}

func slice(args ...any) (any, error) {
	of, from, to := args[0], args[1], args[2]
	if of == nil {
		return nil, nil
	}
	if from == nil {
		from = 0
	}
	switch reflect.ValueOf(of).Kind() {
	case reflect.String, reflect.Slice, reflect.Array:
	default:
		return nil, fmt.Errorf("a text or a list is needed here, not %s", describe(of))
	}
	if to == nil {
		to = runtime.Len(of)
	}
	return runtime.Slice(of, from, to), nil
}

// truth is what counts as true where true or false is needed: null is false.
func truth(v any) (bool, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	}
	return false, fmt.Errorf("true or false is needed here, not %s", describe(v))
}

// list is the list that a function such as filter goes through: null has no elements.
func list(v any) (any, error) {
	if v == nil {
		return []any{}, nil
	}
	switch reflect.ValueOf(v).Kind() {
	case reflect.Slice, reflect.Array:
		return v, nil
	}
	return nil, fmt.Errorf("a list is needed here, not %s", describe(v))
}

// loop is what a function does to each element of a list.
type loop struct {
	name   string
	weight int // steps for each element
	makes  bool
}

// beginLoop takes what a loop costs, before its first turn: args are the list and the loop.
func beginLoop(m *meter, args []any) (any, error) {
	of, err := list(args[0])
	if err != nil {
		return nil, err
	}
	does, n := args[1].(*loop), lengthOf(of) //nolint:forcetypeassert // nullSafe has put it there
	m.loops++
	if err := m.take(does.name, sizeOfLoop); err != nil {
		return nil, err
	}
	if does.makes {
		if err := m.list(does.name, n); err != nil {
			return nil, err
		}
	}
	return of, m.work(does.name, 1+n*does.weight)
}

// texts are the two sides of an operator on texts; ok is false when one of them is null.
func texts(args []any) (a, b string, ok bool, err error) {
	for _, arg := range args {
		switch arg.(type) {
		case nil, string:
		default:
			return "", "", false, fmt.Errorf("a text is needed here, not %s", describe(arg))
		}
	}
	a, okA := args[0].(string)
	b, okB := args[1].(string)
	return a, b, okA && okB, nil
}

// onTexts is an operator that is true or false, and false for null.
func onTexts(name string, op func(a, b string) bool) metered {
	return func(m *meter, args []any) (any, error) {
		a, b, ok, err := texts(args)
		if err != nil || !ok {
			return false, err
		}
		if err := m.work(name, 1+len(a)/2); err != nil {
			return nil, err
		}
		return op(a, b), nil
	}
}

// pattern is a regular expression, and what it costs for each byte of a text.
type pattern struct {
	re    *regexp.Regexp
	steps int
}

func newPattern(src string) (*pattern, error) {
	re, err := regexp.Compile(src)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(src, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	return &pattern{re, 1 + len(program.Inst)/4}, nil
}

func matches(m *meter, args []any) (any, error) {
	const name = "matches"
	p, ok := args[1].(*pattern)
	if !ok {
		_, src, ok, err := texts(args)
		if err != nil || !ok {
			return false, err
		}
		if len(src) > maxPattern {
			return nil, fmt.Errorf("%s: a regular expression out of an event has %d bytes at most", name, maxPattern)
		}
		// What it becomes can be a thousand times as large: (a{1000})*
		if err := m.work(name, 10_000+1000*len(src)); err != nil {
			return nil, err
		}
		if err := m.take(name, 1<<20); err != nil {
			return nil, err
		}
		if p, err = newPattern(src); err != nil {
			return nil, fmt.Errorf("%s: what the event gives is no regular expression", name)
		}
	}
	text, _, ok, err := texts([]any{args[0], ""})
	if err != nil || !ok {
		return false, err
	}
	if err := m.work(name, (1+len(text))*p.steps); err != nil {
		return nil, err
	}
	return p.re.MatchString(text), nil
}

func in(m *meter, args []any) (any, error) {
	const name = "in"
	needle, haystack := args[0], args[1]
	switch hay := haystack.(type) {
	case nil:
		return false, nil
	case []any:
		return m.contains(name, hay, needle)
	case map[string]any:
		name, ok := needle.(string)
		if ok {
			_, ok = hay[name]
		}
		return ok, nil
	case string:
		return nil, fmt.Errorf("in looks into a list or an object, not into a text: write contains")
	}
	if _, err := list(haystack); err != nil {
		return nil, err
	}
	of := reflect.ValueOf(haystack)
	for i := range of.Len() {
		if same, err := m.equal(name, needle, of.Index(i).Interface(), 0); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

// contains reports whether an element equals v.
func (m *meter) contains(what string, elements []any, v any) (bool, error) {
	if s, ok := v.(string); ok { // the usual case
		if err := m.work(what, 1+len(elements)); err != nil {
			return false, err
		}
		for _, element := range elements {
			if t, ok := element.(string); ok && len(s) == len(t) {
				if err := m.work(what, len(s)/bytesInStep); err != nil {
					return false, err
				}
				if s == t {
					return true, nil
				}
			}
		}
		return false, nil
	}
	for _, element := range elements {
		if same, err := m.equal(what, v, element, 0); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

// compare is an ordering: false when a side is null, an error when the two have no order.
func compare(name string, want func(int) bool, other func(a, b any) bool) metered {
	return func(m *meter, args []any) (any, error) {
		a, b := args[0], args[1]
		if a == nil || b == nil {
			return false, nil
		}
		if isNumber(a) && isNumber(b) {
			c, ok := order(a, b)
			return ok && want(c), nil
		}
		if !ordered(a, b) {
			return nil, fmt.Errorf("%s and %s cannot be compared", describe(a), describe(b))
		}
		if err := m.scan(name, min(textLength(a), textLength(b))); err != nil {
			return nil, err
		}
		return other(a, b), nil
	}
}

func ordered(a, b any) bool {
	switch a.(type) {
	case string:
		_, ok := b.(string)
		return ok
	case time.Time:
		_, ok := b.(time.Time)
		return ok
	case time.Duration:
		_, ok := b.(time.Duration)
		return ok
	}
	return false
}

// equal compares two values however deep they are: numbers by what they are, whatever their type.
func (m *meter) equal(what string, a, b any, depth int) (bool, error) {
	if depth > maxDepth {
		return false, fmt.Errorf("%s: lists and objects stand in each other more than %d deep", what, maxDepth)
	}
	if err := m.work(what, 1); err != nil {
		return false, err
	}
	switch x := a.(type) {
	case nil, bool:
		return a == b, nil
	case string:
		y, ok := b.(string)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		return x == y, m.work(what, len(x)/bytesInStep)
	case int, int64, uint64, float64:
		if !isNumber(b) {
			return false, nil
		}
		c, ok := order(a, b)
		return ok && c == 0, nil
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		for name, value := range x {
			other, ok := y[name]
			if !ok {
				return false, nil
			}
			if same, err := m.equal(what, value, other, depth+1); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case time.Time, time.Duration:
		return runtime.Equal(a, b), nil
	}
	return m.equalLists(what, a, b, depth)
}

func (m *meter) equalLists(what string, a, b any, depth int) (bool, error) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for _, list := range []reflect.Value{x, y} {
		if list.Kind() != reflect.Slice && list.Kind() != reflect.Array {
			// Maps that functions have made; they are compared as they are.
			if err := goesThrough(m, what, []any{a, b}); err != nil {
				return false, err
			}
			return reflect.DeepEqual(a, b), nil
		}
	}
	if x.Len() != y.Len() {
		return false, nil
	}
	for i := range x.Len() {
		if same, err := m.equal(what, x.Index(i).Interface(), y.Index(i).Interface(), depth+1); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// order compares two numbers: integers exactly, whatever their size. It is false for a NaN.
func order(a, b any) (int, bool) {
	x, xLarge, xInt := integer(a)
	y, yLarge, yInt := integer(b)
	if !xInt || !yInt {
		f, g := runtime.ToFloat64(a), runtime.ToFloat64(b)
		return cmp.Compare(f, g), !math.IsNaN(f) && !math.IsNaN(g)
	}
	if xLarge != yLarge {
		if xLarge {
			return 1, true
		}
		return -1, true
	}
	return cmp.Compare(x, y), true
}

// integer takes an integer apart: large says that it is above the int64s, i then counts from 2^63.
func integer(v any) (i int64, large, ok bool) {
	switch v := v.(type) {
	case int:
		return int64(v), false, true
	case int64:
		return v, false, true
	case uint64:
		if v > math.MaxInt64 {
			return int64(v - 1<<63), true, true
		}
		return int64(v), false, true
	}
	return 0, false, false
}

func isNumber(v any) bool {
	switch v.(type) {
	case int, int64, uint64, float64:
		return true
	}
	return false
}

// widen makes a number that no int64 holds a float64, since package expr calculates in int.
func widen(v any) any {
	if u, ok := v.(uint64); ok && u > math.MaxInt64 {
		return float64(u)
	}
	return v
}

func add(m *meter, args []any) (any, error) {
	if args[0] == nil || args[1] == nil {
		return nil, nil
	}
	if s, ok := args[0].(string); ok {
		t, ok := args[1].(string)
		if !ok {
			return nil, fmt.Errorf("%s cannot be added to a text: write string(...) around it", describe(args[1]))
		}
		if err := m.text("+", len(s)+len(t)); err != nil {
			return nil, err
		}
		return s + t, nil
	}
	return runtime.Add(widen(args[0]), widen(args[1])), nil
}

// span is the list of the whole numbers from one to another.
func span(m *meter, args []any) (any, error) {
	if !isNumber(args[0]) || !isNumber(args[1]) {
		return nil, fmt.Errorf("..: a range goes from one number to another, not from %s to %s", describe(args[0]), describe(args[1]))
	}
	from, to := runtime.ToInt(args[0]), runtime.ToInt(args[1])
	if from > to {
		return []int{}, nil
	}
	// An int cannot hold the distance of all numbers: as an unsigned one it can.
	if n := uint64(to) - uint64(from); n >= maxElements {
		return nil, m.list("..", maxElements+1)
	}
	if err := m.list("..", to-from+1); err != nil {
		return nil, err
	}
	return runtime.MakeRange(from, to), nil
}

// fromJSON reads JSON out of a text such as SourceContext; null when it is not JSON, since what an
// uploader passed through is not VOD's to guarantee.
func fromJSON(m *meter, args []any) (any, error) {
	s, ok := args[0].(string)
	if !ok {
		return nil, nil
	}
	if err := m.take("fromJSON", len(s)); err != nil {
		return nil, err
	}
	v, err := decode(m, "fromJSON", []byte(s))
	var limit *limitError
	switch {
	case errors.As(err, &limit):
		return nil, limit.err
	case err != nil:
		return nil, nil //nolint:nilerr // that is the answer
	}
	return v, nil
}

// describe names what a value is, for error texts.
func describe(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case string:
		return "a text"
	case time.Time:
		return "a time"
	case time.Duration:
		return "a duration"
	}
	if isNumber(v) {
		return "a number"
	}
	switch reflect.ValueOf(v).Kind() {
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return "an object"
}
