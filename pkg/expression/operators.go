package expression

import (
	"errors"
	"fmt"
	"reflect"
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
