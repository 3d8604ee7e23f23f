// Package expression holds the expressions on events that conditions, processors and sinks are configured
// with: compiled at start against VOD's documented fields, so that a typo is told at once, and evaluated
// so that a field which an event lacks is null and no error.
package expression

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Expression is a compiled expression for a value. It is safe for concurrent use.
//
// It was compiled twice: once against the documented types, to find mistakes, and once without types, to
// run on whatever VOD sends.
type Expression struct {
	src     string
	program *vm.Program
	// names are what the program reads; nothing else of an event is decoded for it.
	names []string
	// path, when the expression is nothing but a way into the event, leads from Raw or, fromPayload, from
	// the payload to the value.
	path        []step
	isPath      bool
	fromPayload bool
}

// Compile compiles an expression for a value of any type; see CompileCondition for the language.
func Compile(src string) (*Expression, error) { return compile(src, false) }

// String is the expression as it was written.
func (x *Expression) String() string { return x.src }

func compile(src string, condition bool) (*Expression, error) {
	tree, err := check(src, condition)
	if err != nil {
		return nil, err
	}
	x := &Expression{src: src}
	names := &findNames{}
	ast.Walk(&tree.Node, names)
	x.names = names.found
	x.findPath(tree.Node)
	if x.program, err = expr.Compile(src, nullSafeOptions...); err != nil {
		return nil, explain(src, tree, err)
	}
	return x, nil
}

type findNames struct{ found []string }

func (f *findNames) Visit(node *ast.Node) {
	n, ok := (*node).(*ast.IdentifierNode)
	if !ok || slices.Contains(f.found, n.Value) {
		return
	}
	if _, known := documented[n.Value]; known {
		f.found = append(f.found, n.Value)
	}
}

// findPath sets path if n is a name of the event followed by members only.
func (x *Expression) findPath(n ast.Node) {
	path, ok := members(n, nil)
	if !ok {
		return
	}
	switch name := path[0].name; name {
	case "type", "id", "sub_app_id", "subject":
		return
	case "payload":
		x.path, x.fromPayload = path[1:], true
	case "event":
		x.path = path[1:]
	default:
		x.path = path
	}
	x.isPath = true
}

func members(n ast.Node, path []step) ([]step, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return append(path, step{name: n.Value}), true
	case *ast.ChainNode:
		return members(n.Node, path)
	case *ast.MemberNode:
		path, ok := members(n.Node, path)
		switch property := n.Property.(type) {
		case *ast.StringNode:
			return append(path, step{name: property.Value}), ok
		case *ast.IntegerNode:
			return append(path, step{index: property.Value, isIndex: true}), ok
		}
	}
	return nil, false
}

// eval runs the program on e. An error is permanent, since the same event gives the same one again. One of an
// evaluation that ctx ended is not: it wraps ctx's own and retry.ErrNotTried.
func (x *Expression) eval(ctx context.Context, e event.Event) (any, error) {
	v := begin(ctx)
	defer v.end()
	result, err := x.run(v, e)
	return result, x.classify(v.m, err)
}

func (x *Expression) classify(m *meter, err error) error {
	if err != nil && m.ended != nil {
		return &endedError{fmt.Errorf("expression '%s': was not evaluated to its end: %w", safetext.Line(x.src, longest), m.ended)}
	}
	return retry.Permanent(err)
}

// endedError is a retry.ErrNotTried: neither the event nor the target is to blame, and nothing was sent.
type endedError struct{ err error }

func (e *endedError) Error() string        { return e.err.Error() }
func (e *endedError) Unwrap() error        { return e.err }
func (e *endedError) Is(target error) bool { return target == retry.ErrNotTried }

func (x *Expression) run(v *evaluation, e event.Event) (any, error) {
	for _, name := range x.names {
		value, err := variable(v.m, e, name)
		var limit *limitError
		switch {
		case errors.As(err, &limit):
			return nil, fault(x.src, nil, limit.Error())
		case err != nil:
			return nil, fmt.Errorf("expression '%s': %s cannot be read: %w", safetext.Line(x.src, longest), name, err)
		}
		v.env[name] = value
	}
	result, err := v.machine.Run(x.program, v.env)
	if err == nil {
		return result, nil
	}
	var at *file.Error
	if !errors.As(err, &at) {
		return nil, fault(x.src, nil, err.Error())
	}
	message := at.Message
	if message == "memory budget exceeded" {
		message = wordAt(x.src, at) + fmt.Sprintf("the event makes the expression make lists and objects of more than %d elements in all", maxElements)
	}
	return nil, fault(x.src, at, message)
}

// wordAt is the function or the name at a place in an expression, with a colon; "" where another character is.
func wordAt(src string, at *file.Error) string {
	lines := strings.Split(src, "\n")
	if at.Line < 1 || at.Line > len(lines) {
		return ""
	}
	line := []rune(lines[at.Line-1])
	end := at.Column
	for end < len(line) && unicode.IsLetter(line[end]) {
		end++
	}
	if end <= at.Column {
		return ""
	}
	return string(line[at.Column:end]) + ": "
}

func variable(m *meter, e event.Event, name string) (any, error) {
	switch name {
	case "type":
		return e.Type, nil
	case "id":
		return e.ID, nil
	case "sub_app_id":
		if e.SubAppID > math.MaxInt64 {
			return e.SubAppID, nil
		}
		return int64(e.SubAppID), nil
	case "subject":
		return e.Subject(), nil
	case "payload":
		return decode(m, name, e.Payload())
	case "event":
		return decode(m, name, e.Raw)
	}
	raw := lookup(e.Raw, []step{{name: name}})
	if raw == nil {
		return nil, nil
	}
	return decode(m, name, raw)
}

// Text is the result as text, "" for null: what is in a string, and the JSON of everything else. An error is
// permanent, since the same event gives the same error again. One of an evaluation that ctx ended is not: it wraps ctx's
// own and retry.ErrNotTried.
func (x *Expression) Text(ctx context.Context, e event.Event) (string, error) {
	raw, err := x.JSON(ctx, e)
	if err != nil || len(raw) == 0 || raw[0] != '"' {
		return string(raw), err
	}
	text, _ := jsontext.AppendUnquote(nil, raw) // broken UTF-8 is an error, too, but the text is there
	return string(text), nil
}

// JSON is the result as JSON, nil for null: the exact bytes that VOD sent if the expression is only a way
// to a value, such as payload.MediaBasicInfo.Name. An error is as of Text.
func (x *Expression) JSON(ctx context.Context, e event.Event) (json.RawMessage, error) {
	if x.isPath {
		from := e.Raw
		if x.fromPayload {
			from = e.Payload()
		}
		raw := lookup(from, x.path)
		if strings.TrimSpace(string(raw)) == "null" {
			return nil, nil
		}
		return raw, nil
	}
	v := begin(ctx)
	defer v.end()
	raw, err := x.write(v, e)
	return raw, x.classify(v.m, err)
}

// write is the result as JSON.
func (x *Expression) write(v *evaluation, e event.Event) (json.RawMessage, error) {
	result, err := x.run(v, e)
	if err != nil || result == nil {
		return nil, err
	}
	if err := writes(v.m, "the result", []any{result}); err != nil {
		return nil, fault(x.src, nil, err.Error())
	}
	raw, err := encode(result)
	if err != nil {
		return nil, fault(x.src, nil, "the result cannot be written as JSON: "+err.Error())
	}
	if err := v.m.text("the result", len(raw)); err != nil {
		return nil, fault(x.src, nil, err.Error())
	}
	return raw, nil
}
