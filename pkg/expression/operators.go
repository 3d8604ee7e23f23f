package expression

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/expr-lang/expr/vm/runtime"
)

// maxText is the longest text in bytes that an expression may put together; the budget of package expr
// counts list elements only.
const maxText = 1 << 20

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
func list(args ...any) (any, error) {
	if args[0] == nil {
		return []any{}, nil
	}
	switch reflect.ValueOf(args[0]).Kind() {
	case reflect.Slice, reflect.Array:
		return args[0], nil
	}
	return nil, fmt.Errorf("a list is needed here, not %s", describe(args[0]))
}

// text is for the operators on texts, which take null as it is.
func text(args ...any) (any, error) {
	switch args[0].(type) {
	case nil, string:
		return args[0], nil
	}
	return nil, fmt.Errorf("a text is needed here, not %s", describe(args[0]))
}

func in(args ...any) (any, error) {
	needle, haystack := args[0], args[1]
	switch hay := haystack.(type) {
	case nil:
		return false, nil
	case []any:
		for _, v := range hay {
			if equal(needle, v) {
				return true, nil
			}
		}
		return false, nil
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
	return runtime.In(needle, haystack), nil
}

// compare is an ordering: false when a side is null, an error when the two have no order.
func compare(want func(int) bool, other func(a, b any) bool) function {
	return func(args ...any) (any, error) {
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

func equal(a, b any) bool {
	if isNumber(a) && isNumber(b) {
		c, ok := order(a, b)
		return ok && c == 0
	}
	return runtime.Equal(a, b)
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

func add(args ...any) (any, error) {
	if s, ok := args[0].(string); ok {
		t, ok := args[1].(string)
		if !ok {
			return nil, fmt.Errorf("%s cannot be added to a text: write string(...) around it", describe(args[1]))
		}
		if len(s)+len(t) > maxText {
			return nil, fmt.Errorf("the text is longer than %d bytes", maxText)
		}
		return s + t, nil
	}
	return runtime.Add(widen(args[0]), widen(args[1])), nil
}

// fromJSON reads JSON out of a text such as SourceContext; null when it is not JSON, since what an
// uploader passed through is not VOD's to guarantee.
func fromJSON(args ...any) (any, error) {
	s, ok := args[0].(string)
	if !ok {
		return nil, nil
	}
	v, err := decode([]byte(s))
	if err != nil {
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
