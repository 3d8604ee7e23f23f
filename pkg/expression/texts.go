package expression

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

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
