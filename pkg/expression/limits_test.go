package expression

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/expr-lang/expr/builtin"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

// hostile is an event with as large texts and lists as a post can have.
var hostile = func() event.Event {
	text := strings.Repeat("ab", 60_000)
	list := strings.TrimSuffix(strings.Repeat("1,", 60_000), ",")
	words := strings.TrimSuffix(strings.Repeat(`"w",`, 60_000), ",")
	nested := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	raw := fmt.Sprintf(`{"EventType":"t","P":{"T":%q,"U":%q,"I":"ІІ%s","A":[%s],"B":[%s],"W":[%s],"N":%s,"M":{%s},"Re":"(a{500}b{500})*","BigRe":%q,"n":9000000}}`,
		text, text[1:], strings.Repeat("І", 60_000), list, list, words, nested,
		strings.TrimSuffix(strings.Repeat(`"k":[1],`, 1000), ","), strings.Repeat("(a|b)", 1000))
	return event.Event{ID: "1", Type: "t", Raw: json.RawMessage(raw)}
}()

// Whatever an event holds, the expression ends soon, takes little memory, and says which function reached which
// limit.
func TestLimits(t *testing.T) {
	const steps, memory, text, elements = "10000000 steps", "67108864 bytes of memory", "more than 1048576 bytes", "more than 100000 elements"
	for src, want := range map[string]string{
		`len(replace(payload.T, "a", payload.T)) > 0`:                             "replace: the text would have " + text,
		`len(replace(payload.T, "", payload.T)) > 0`:                              "replace: the text would have " + text,
		`len(replace(payload.T, "a", payload.T, 9)) > 0`:                          "replace: the text would have " + text,
		`len(repeat(payload.T, payload.n)) > 0`:                                   "repeat: the text would have " + text,
		`len(repeat(payload.T, payload.n * 1e9)) > 0`:                             "repeat: the text would have " + text,
		`len(repeat("", 9) + repeat("ab", 600000)) > 0`:                           "repeat: the text would have " + text,
		`len(join(payload.W, payload.T)) > 0`:                                     "join: the text would have " + text,
		`len(split(payload.T, "")) > 0`:                                           "split: the list would have " + elements,
		`len(splitAfter(payload.T, "")) > 0`:                                      "splitAfter: the list would have " + elements,
		`len(map(1..20, payload.T)) > 0 and toJSON(map(1..20, payload.T)) == ""`:  "toJSON: the text would have " + text,
		`string(map(1..20, payload.T)) == ""`:                                     "string: the text would have " + text,
		`map(1..20, payload.T) | join("") | toBase64() == ""`:                     "join: the text would have " + text,
		`toBase64(repeat("x", 1000000)) == ""`:                                    "toBase64: the text would have " + text,
		`upper(repeat("ɐ", 500000)) == ""`:                                        "upper: the text would have " + text,
		`reduce(1..30, #acc + #acc, "x") == ""`:                                   "+: the text would have " + text,
		`len(concat(payload.A, payload.B)) > 0`:                                   "concat: the list would have " + elements,
		`len(flatten([payload.A, payload.B])) > 0`:                                "flatten: the list would have " + elements,
		`len(flatten(reduce(1..100, [#acc, #acc], [1]))) > 0`:                     "flatten: the event makes the expression take more than " + steps,
		`len(1..payload.n) > 0`:                                                   "..: the list would have " + elements,
		`len((-9223372036854775807)..9223372036854775807) > 0`:                    "..: the list would have " + elements,
		`len(map(payload.A, [1,2])) > 0`:                                          "lists and objects of more than 100000 elements in all",
		`len(map(payload.A, ({"a": 1}))) > 0`:                                     "lists and objects of more than 100000 elements in all",
		`len(filter(1..60000, true)) > 0 and len(filter(1..60000, true)) > 0`:     "lists and objects of more than 100000 elements in all",
		`len(map(1..1000, repeat("x", 1000000))) > 0`:                             "repeat: the event makes the expression take more than " + memory,
		`all(payload.A, # in payload.B) and all(payload.A, not (2 in payload.B))`: "in: the event makes the expression take more than " + steps,
		`all(payload.W, not (payload.T in payload.W))`:                            "in: the event makes the expression take more than " + steps,
		`any(payload.A, any(payload.B, # == 2))`:                                  "any: the event makes the expression take more than " + steps,
		`any(payload.A, let a = #; none(payload.B, # == a + 1))`:                  "", // 1 == 2
		`any(payload.A, all(payload.B, all(payload.A, # == 1)) and false)`:        "all: the event makes the expression take more than " + steps,
		`any(payload.A, payload.T < payload.T)`:                                   "<: the event makes the expression take more than " + steps,
		`any(payload.A, payload.T + "a" == payload.T + "b")`:                      "+: the event makes the expression take more than ",
		`any(payload.A, payload.T == payload.U + "x")`:                            "more than ",
		`any(payload.A, payload.T contains payload.U + "x")`:                      "more than ",
		`any(payload.A, payload.T contains payload.Re)`:                           "contains: the event makes the expression take more than " + steps,
		`any(payload.A, payload.T endsWith payload.Re)`:                           "endsWith: the event makes the expression take more than " + steps,
		`any(payload.A, indexOf(payload.T, "c") > 0)`:                             "indexOf: the event makes the expression take more than " + steps,
		`trim(payload.I, payload.I) == "x"`:                                       "trim: the event makes the expression take more than " + steps,
		`payload.T matches payload.Re`:                                            "matches: the event makes the expression take more than ",
		`payload.T matches payload.BigRe`:                                         "matches: a regular expression out of an event has 1024 bytes at most",
		`any(payload.A, payload.T matches "x")`:                                   "matches: the event makes the expression take more than ",
		`any(payload.A, not ("x" matches payload.Re))`:                            "matches: the event makes the expression take more than ",
		`len(uniq(payload.A)) == 1`:                                               "",
		`len(uniq(map(1..60000, #))) == 1`:                                        "uniq: the event makes the expression take more than " + steps,
		`len(uniq(payload.W)) == 1`:                                               "",
		`any(payload.A, len(sort(payload.A)) == 1)`:                               "sort: the event makes the expression take more than ",
		`any(payload.A, median(payload.A) == 2)`:                                  "median: the event makes the expression take more than ",
		`any(payload.A, max(payload.A) == 2)`:                                     "max: the event makes the expression take more than " + steps,
		`any(payload.A, len(reverse(payload.A)) == 2)`:                            "reverse: the event makes the expression take more than ",
		`any(payload.A, len(groupBy(payload.A, #)) == 2)`:                         "groupBy: the event makes the expression take more than ",
		`any(payload.A, len(sortBy(payload.A, #)) == 2)`:                          "sortBy: the event makes the expression make lists and objects of more than 100000 elements in all",
		`any(payload.A, fromJSON(toJSON(payload.A)) == 2)`:                        "more than ",
		`any(payload.A, timezone("Asia/Shanghai") == nil)`:                        "timezone: the event makes the expression take more than " + steps,
		`len(fromPairs(payload)) == 1`:                                            "fromPairs needs a list of lists of two elements",
		`len(fromPairs([payload])) == 1`:                                          "fromPairs needs a list of lists of two elements",
		`flatten(payload.N) == []`:                                                "flatten: the event makes the expression take more than " + steps,
		`string(reduce(1..20000, [#acc])) == ""`:                                  "string: lists and objects stand in each other more than 10000 deep",
		`reduce(1..20000, [#acc]) == reduce(1..20000, [#acc])`:                    "==: lists and objects stand in each other more than 10000 deep",
		`reduce(1..40, [#acc, #acc]) == reduce(1..40, [#acc, #acc])`:              "==: the event makes the expression take more than " + steps,
		`any(payload.A, any([], # == 1))`:                                         "",
		`any(map(1..90000, string(#)), any(map(1..90000, #), string(#) == "x"))`:  "more than ",
	} {
		t.Run(src, func(t *testing.T) {
			cond, err := CompileCondition(src)
			require.NoError(t, err)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = cond.Match(t.Context(), hostile)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(3*maxMemory), "bytes were taken in all")
			if want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, want)
			require.True(t, retry.IsPermanent(err))
		})
	}
}

// An event is refused always or never, whatever else the machine does.
func TestLimitsCountWork(t *testing.T) {
	cond, err := CompileCondition(`any(payload.W, # in payload.A)`)
	require.NoError(t, err)
	_, first := cond.Match(t.Context(), hostile)
	_, second := cond.Match(t.Context(), hostile)
	require.ErrorContains(t, first, "in: the event makes the expression take more than 10000000 steps")
	require.EqualError(t, second, first.Error())
}

// A value that is made is bounded, too, and one that is only looked up is not.
func TestLimitsOfResults(t *testing.T) {
	text := strings.Repeat("x", 2<<20)
	large := event.Event{ID: "1", Type: "t", Raw: json.RawMessage(`{"EventType":"t","P":{"T":"` + text + `"}}`)}
	for src, want := range map[string]string{
		`map(1..1000, payload)`:   "the result: the text would have more than 1048576 bytes",
		`{"a": payload.T}`:        "the result: the text would have more than 1048576 bytes",
		`repeat("\u0001",900000)`: "the result: the text would have more than 1048576 bytes",
		`payload.T`:               "",
		`event`:                   "",
	} {
		x, err := Compile(src)
		require.NoError(t, err)
		_, err = x.Text(t.Context(), large)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want, src)
		require.True(t, retry.IsPermanent(err))
	}

	dense := event.Event{ID: "1", Type: "t", Raw: json.RawMessage(`{"EventType":"t","P":[` + strings.Repeat(`{"a":1},`, 400_000) + `1]}`)}
	cond, err := CompileCondition(`len(event.P) == 1`)
	require.NoError(t, err)
	_, err = cond.Match(t.Context(), dense)
	require.ErrorContains(t, err, "event: the event makes the expression take more than 67108864 bytes of memory")
	require.True(t, retry.IsPermanent(err))
}

// A new version of package expr must not bring a function that nobody has given limits.
func TestEveryBuiltinHasLimits(t *testing.T) {
	require.Equal(t, []string{"type"}, unclassified(), "give each new function its cost in costs, or in loops")
	there := make(map[string]bool)
	for _, f := range builtin.Builtins {
		there[f.Name] = true
	}
	for name := range costs {
		require.True(t, there[name], "%s is no function of package expr any more", name)
	}
	for name := range loops {
		require.True(t, there[name], "%s is no function of package expr any more", name)
	}
}

// What the context ends is not the event's fault.
func TestEvaluationEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cond, err := CompileCondition(`any(payload.A, # == 2)`)
	require.NoError(t, err)
	_, err = cond.Match(ctx, hostile)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, retry.ErrNotTried)
	require.False(t, retry.IsPermanent(err))
	x, err := Compile(`len(payload.A)`)
	require.NoError(t, err)
	_, err = x.Text(ctx, hostile)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, retry.IsPermanent(err))

	// In the middle, too: the context ends while all places are taken, and between two steps of a loop.
	for range cap(places) {
		places <- struct{}{}
	}
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := cond.Match(ctx, hostile)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatal("it did not wait for a place", err)
	case <-time.After(10 * time.Millisecond):
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	for range cap(places) {
		<-places
	}
	m := newMeter(&endsAfter{Context: t.Context(), looks: 3})
	for err = nil; err == nil; err = m.work("x", 1000) {
	}
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, maxSteps-m.steps, 5*stepsBetweenLooks)
}

// endsAfter is a context that ends when it was looked at often enough.
type endsAfter struct {
	context.Context
	looks int
}

func (e *endsAfter) Err() error {
	if e.looks--; e.looks < 0 {
		return context.Canceled
	}
	return nil
}

// Many at a time take no more memory than there are places for, and all end.
func TestHostileEventsAtATime(t *testing.T) {
	cond, err := CompileCondition(`all(payload.A, # in payload.B) and len(replace(payload.T, "a", payload.U)) > 0`)
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			_, err := cond.Match(context.Background(), hostile)
			if err == nil || !retry.IsPermanent(err) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Empty(t, places, "every place was given back")
}

// Any expression on any event ends, with few steps and little memory.
func FuzzLimits(f *testing.F) {
	var functions []string
	for _, b := range builtin.Builtins {
		if b.Name != "type" && b.Name != "now" {
			functions = append(functions, b.Name)
		}
	}
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		src := randomExpression(random, functions, 4)
		x, err := Compile(src)
		if err != nil {
			t.Skip()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, err = x.Text(t.Context(), hostile)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 4*maxMemory || took > 20*time.Second {
			t.Fatalf("%s: %d bytes and %s: %v", src, taken, took, err)
		}
		if err != nil && !retry.IsPermanent(err) && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

func randomExpression(random *rand.Rand, functions []string, depth int) string {
	leaves := []string{"payload.T", "payload.U", "payload.I", "payload.A", "payload.W", "payload.N", "payload.M", "payload.Re", "payload.n", "payload", `"a"`, `""`, "3", "1e18", "#", "#acc", "nil", "[1,[2]]", `{"a":1}`}
	if depth == 0 || random.IntN(4) == 0 {
		return leaves[random.IntN(len(leaves))]
	}
	sub := func() string { return randomExpression(random, functions, depth-1) }
	switch random.IntN(4) {
	case 0:
		operators := []string{"+", "..", "in", "==", "<", "contains", "matches", "startsWith", "and", "??"}
		return "(" + sub() + " " + operators[random.IntN(len(operators))] + " " + sub() + ")"
	case 1:
		return "[" + sub() + ", " + sub() + "]"
	}
	name := functions[random.IntN(len(functions))]
	args := []string{sub()}
	if _, isLoop := loops[name]; isLoop {
		args = append(args, sub())
		if name == "reduce" {
			args = append(args, sub())
		}
	} else {
		for range random.IntN(4) {
			args = append(args, sub())
		}
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}
