package expression

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/expr-lang/expr/vm/runtime"
)

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
