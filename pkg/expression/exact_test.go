package expression

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/expr-lang/expr/file"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// What is at a limit passes, and what is beyond it by one does not.
func TestLimitsAreMet(t *testing.T) {
	for src, ok := range map[string]bool{
		`len(repeat("xx", 524288)) == 1048576`:                   true,
		`len(repeat("x", 349526) + repeat("xx", 349526)) > 0`:    false,
		`repeat("", 5) + upper("") == ""`:                        true,
		`len(1..100000) == 100000`:                               true,
		`len(1..100001) > 0`:                                     false,
		`len(split(repeat(",", 99999), ",")) == 100000`:          true,
		`len(split(repeat(",", 100000), ",")) > 0`:               false,
		`len(split(repeat(",", 200000), ",", 2)) == 2`:           true,
		`len(split(repeat(",", 200000), ",", 0)) == 0`:           true,
		`replace("aaaa", "a", repeat("x", 900000), 0) == "aaaa"`: true,
		`len(replace("aaaa", "a", repeat("x", 900000), 1)) > 9`:  true,
		`len(replace("aaaa", "a", repeat("x", 900000), 2)) > 9`:  false,
		`len(toJSON(repeat("xx", 524285))) == 1048572`:           true,
		`len(toJSON(repeat("\u0001", 200000))) > 9`:              false, // 6 bytes for each
		`not ("b" matches repeat("a", 1024))`:                    true,
		`"b" matches repeat("a", 1025)`:                          false,
		`type matches "` + strings.Repeat("t", 2000) + `|t"`:     true, // not out of the event
		`trim(" t ") == "t" and trim("xtx", "x") == "t"`:         true,
		`true` + strings.Repeat(" ", maxSource-4):                true,
	} {
		cond, err := CompileCondition(src)
		require.NoError(t, err, "%.80s", src)
		matched, err := cond.Match(t.Context(), event.Event{Type: "t", Raw: json.RawMessage(`{}`)})
		require.Equal(t, ok, err == nil, "%.80s: %v", src, err)
		require.Equal(t, ok, matched, "%.80s", src)
	}
}

func TestMeter(t *testing.T) {
	m := newMeter(t.Context())
	require.NoError(t, m.work("x", maxSteps))
	require.Error(t, m.work("x", 1))
	require.Error(t, newMeter(t.Context()).work("x", -1), "more than an int holds")

	// Up to freeMemory no place is needed, and beyond it one.
	require.NoError(t, m.take("x", freeMemory))
	require.False(t, m.hasPlace)
	require.NoError(t, m.take("x", 1))
	require.True(t, m.hasPlace)
	require.NoError(t, m.take("x", maxMemory-m.memory))
	require.Error(t, m.take("x", 1))
	require.Error(t, newMeter(t.Context()).take("x", -1))
	<-places

	// Reading needs it, too.
	m = newMeter(t.Context())
	_, err := decode(m, "x", []byte(`"`+strings.Repeat("x", freeMemory)+`"`))
	require.NoError(t, err)
	require.True(t, m.hasPlace)
	<-places

	// A context is asked at every so many steps.
	looks := &endsAfter{Context: t.Context(), looks: math.MaxInt}
	m = newMeter(looks)
	for range 10 * stepsBetweenLooks {
		require.NoError(t, m.work("x", 1))
	}
	require.Equal(t, 10, math.MaxInt-looks.looks)
}

// used is what f takes from a new meter.
func used(t *testing.T, f func(m *meter) error) (steps, memory int) {
	t.Helper()
	m := newMeter(t.Context())
	require.NoError(t, f(m))
	if m.hasPlace {
		<-places
	}
	return maxSteps - m.steps, m.memory
}

// Every function takes, before it runs, what it will look at and make, at least.
func TestCosts(t *testing.T) {
	text := strings.Repeat("x", 1600)
	words := []any{text, text}
	pair := []any{"a", "b"}
	for _, c := range []struct {
		name          string
		args          []any
		steps, memory int
	}{
		{"int", []any{text}, 1600, 1600},
		{"date", []any{text}, 5000 + 1600, 1600},
		{"upper", []any{text}, 100, 1600},
		{"upper", []any{strings.Repeat("\u0080", 1600)}, 200, 3200},
		{"replace", []any{text, "x", "yy"}, 100, 3200},
		{"repeat", []any{text, 3}, 300, 4800},
		{"join", []any{words, ","}, 200, 3201},
		{"split", []any{text, "x"}, 1601, 1601 * sizeOfValue},
		{"toJSON", []any{words}, 200, 3200},
		{"toBase64", []any{text}, 100, 2134},
		{"max", []any{words, words}, 6, 0},
		{"reverse", []any{words}, 2, 2 * sizeOfValue},
		{"fromPairs", []any{[]any{pair, pair}}, 2, 2 * sizeOfFields},
		{"flatten", []any{[]any{pair, pair}}, 4 + 8, 4 * sizeOfValue},
		{"median", []any{[]any{1, 2}, []any{3, 4}}, 2 * (1 + 2*2), 4 * sizeOfValue}, // of each argument
		{"sort", []any{words}, 4, 2 * sizeOfValue},
	} {
		steps, memory := used(t, func(m *meter) error { return costs[c.name](m, c.name, c.args) })
		require.GreaterOrEqual(t, steps, c.steps, c.name)
		require.GreaterOrEqual(t, memory, c.memory, c.name)
	}
	steps, memory := used(t, func(m *meter) error { return m.text("x", 1600) })
	require.Equal(t, []int{100, 1600}, []int{steps, memory})
	steps, memory = used(t, func(m *meter) error { return m.list("x", 10) })
	require.Equal(t, []int{10, 480}, []int{steps, memory})
	steps, _ = used(t, func(m *meter) error { _, err := matches(m, []any{"x", text[:100]}); return err })
	require.Greater(t, steps, 100*1000, "a regular expression of an event is dear")
	fields := strings.ReplaceAll(`{"`+strings.Repeat(`z":1,"`, 200)+`z":1}`, "z", "name")
	for i := range 200 {
		fields = strings.Replace(fields, "name", string(rune('一'+i)), 1)
	}
	_, memory = used(t, func(m *meter) error { _, err := decode(m, "x", []byte(fields)); return err })
	require.GreaterOrEqual(t, memory, 200*sizeOfField)
}

// The size of a value as a text is never less than that text.
func TestMeasure(t *testing.T) {
	for _, v := range []any{
		nil, true, "x", 1, int64(math.MinInt64), uint64(math.MaxUint64), -math.MaxFloat64, []any{}, []any{"a", "b", nil}, map[string]any{},
		map[string]any{"a": "b", "c": []any{1.5, "d"}}, []string{"a", "b", "c"}, [2]any{"a", "b"}, map[any]any{"a": "b", "c": "d", "e": "f"}, map[any][]any{1: {"a"}, 2: {}},
	} {
		m := newMeter(t.Context())
		size, err := m.measure("x", v, maxText)
		require.NoError(t, err)
		written, err := encode(v)
		require.NoError(t, err)
		require.GreaterOrEqual(t, size.text, len(written), "%s", written)

		_, err = m.measure("x", v, size.text)
		require.NoError(t, err, "%s", written)
		for limit := range size.text { // also when that is reached in the middle
			_, err = m.measure("x", v, limit)
			require.Error(t, err, "%s", written)
		}
	}
}

// Lists may stand in each other as deep as in the JSON that is read, and not deeper.
func TestDepth(t *testing.T) {
	nested := func(depth int) (v any) {
		for v = 1; depth > 0; depth-- {
			v = []any{v}
		}
		return v
	}
	for depth, ok := range map[int]bool{maxDepth: true, maxDepth + 1: false} {
		_, err := newMeter(t.Context()).measure("x", nested(depth), maxText)
		require.Equal(t, ok, err == nil)
		_, err = newMeter(t.Context()).equal("==", nested(depth), nested(depth), 0)
		require.Equal(t, ok, err == nil)
	}
	m := newMeter(t.Context())
	m.steps = math.MaxInt // which end first as a rule
	_, err := m.leaves("x", nested(maxDepth+1), 0)
	require.NoError(t, err)
	_, err = m.leaves("x", nested(maxDepth+2), 0)
	require.ErrorContains(t, err, "deep")
}

func TestLargeNumbers(t *testing.T) {
	for _, c := range []struct {
		a, b any
		want int
	}{
		{uint64(math.MaxInt64), int64(math.MaxInt64), 0},
		{uint64(math.MaxInt64 + 1), int64(math.MaxInt64), 1},
		{int64(math.MinInt64), uint64(math.MaxUint64), -1},
	} {
		got, ok := order(c.a, c.b)
		require.True(t, ok)
		require.Equal(t, c.want, got)
	}
	require.Equal(t, uint64(math.MaxInt64), widen(uint64(math.MaxInt64)), "an int holds it")
	require.IsType(t, 0.0, widen(uint64(math.MaxInt64+1)))
	x, err := Compile(`string(sub_app_id)`)
	require.NoError(t, err)
	for _, id := range []string{"0", "9223372036854775807", "9223372036854775808", "18446744073709551615"} {
		var n uint64
		require.NoError(t, json.Unmarshal([]byte(id), &n))
		got, err := x.Text(t.Context(), event.Event{SubAppID: n, Raw: json.RawMessage(`{}`)})
		require.NoError(t, err)
		require.Equal(t, id, got)
	}
}

// An error says where it is, if that is known, and what is there.
func TestPlaces(t *testing.T) {
	at := func(line, column int) *file.Error {
		return &file.Error{Location: file.Location{}, Line: line, Column: column}
	}
	const src = "map([1])\nlen"
	for _, c := range []struct {
		line, column int
		word         string
	}{{1, 0, "map: "}, {1, 3, ""}, {1, 4, ""}, {2, 0, "len: "}, {2, 3, ""}, {1, 99, ""}, {0, 0, ""}, {3, 0, ""}} {
		require.Equal(t, c.word, wordAt(src, at(c.line, c.column)), c)
	}
	require.EqualError(t, fault("x", at(1, 2), "wrong"), "expression 'x', column 3: wrong")
	require.EqualError(t, fault("x", at(0, 0), "wrong"), "expression 'x': wrong")
	for src, want := range map[string]string{
		`len(fromPairs(payload)) == 1`: "fromPairs needs a list of lists of two elements",
		`date("x") == nil`:             "date does not take a text of this kind or content",
		`not (+payload.n)`:             "true or false is needed here, not a number",
		`uniq(payload.n) == nil`:       "a list is needed here, not a number",
	} {
		cond, err := CompileCondition(src)
		require.NoError(t, err)
		_, err = cond.Match(t.Context(), event.Event{Raw: json.RawMessage(`{"P":{"n":1}}`)})
		require.ErrorContains(t, err, want)
	}
}

// An event that takes many steps and little memory to read ends with its context, too.
func TestReadingEndsWithItsContext(t *testing.T) {
	raw := []byte(`{"":1` + strings.Repeat(`,"":1`, 2*stepsBetweenLooks) + `}`)
	_, err := decode(newMeter(t.Context()), "x", raw)
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = decode(newMeter(ended), "x", raw)
	require.True(t, errors.Is(err, context.Canceled), err)
}

// Memory of a large evaluation is not kept for the next one.
func TestEvaluationsThatAreKept(t *testing.T) {
	for range 20 {
		for _, large := range []func(m *meter){
			func(m *meter) { m.memory = freeMemory + 1 },
			func(m *meter) { m.loops = 101 },
		} {
			v := begin(t.Context())
			large(v.m)
			v.end()
			next := begin(t.Context())
			require.NotSame(t, v, next)
			next.end()
		}
	}
}
