package expression

import (
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm/runtime"
)

// nullSafe rewrites an expression so that null spreads instead of failing: VOD leaves out or nulls any
// field, so a missing one is an ordinary value. The rules are at CompileCondition.
type nullSafe struct{}

// Visit replaces the operations that package expr refuses on null with the functions in nullSafeOptions.
// None of their names is an identifier, so that no expression can call or hide them.
func (nullSafe) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.ChainNode: // a?.b: every access is optional already
		*node = n.Node
	case *ast.MemberNode:
		call(node, ".", n.Node, n.Property)
	case *ast.SliceNode:
		call(node, "[:]", n.Node, orNil(n.From), orNil(n.To))
	case *ast.ConditionalNode:
		wrapTruth(&n.Cond)
	case *ast.UnaryNode:
		switch {
		case n.Operator == "!" || n.Operator == "not":
			wrapTruth(&n.Node)
		case n.Operator == "-" && !isNumberLiteral(n.Node):
			call(node, "unary -", n.Node)
		}
	case *ast.BinaryNode:
		visitBinary(node, n)
	case *ast.BuiltinNode:
		visitBuiltin(n)
	case *ast.CallNode: // of a built-in function that is not a loop
		n.Arguments = append([]ast.Node{theMeter()}, n.Arguments...)
	}
}

func visitBinary(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "and", "&&", "or", "||":
		wrapTruth(&n.Left)
		wrapTruth(&n.Right)
	case "-", "*", "/", "%", "**", "^":
		call(node, n.Operator, n.Left, n.Right)
	case "<", "<=", ">", ">=", "+", "contains", "startsWith", "endsWith", "..":
		meteredCall(node, n.Operator, n.Left, n.Right)
	case "==", "!=":
		if !isPlainLiteral(n.Left) && !isPlainLiteral(n.Right) {
			meteredCall(node, n.Operator, n.Left, n.Right)
		}
	case "in":
		meteredCall(node, "in", n.Left, constantList(n.Right))
	case "matches":
		meteredCall(node, "matches", n.Left, constantPattern(n.Right))
	}
}

func visitBuiltin(n *ast.BuiltinNode) {
	count := &countNodes{}
	for _, argument := range n.Arguments[1:] {
		ast.Walk(&argument, count)
	}
	does := constant(&loop{name: n.Name, weight: 1 + count.nodes, makes: loops[n.Name]}, n)
	meteredCall(&n.Arguments[0], "begin", n.Arguments[0], does)
	if len(n.Arguments) < 2 {
		return
	}
	predicate, ok := n.Arguments[1].(*ast.PredicateNode)
	if !ok {
		return
	}
	switch n.Name {
	case "all", "none", "any", "one", "filter", "find", "findIndex", "findLast", "findLastIndex", "count":
		wrapTruth(&predicate.Node)
	case "sum":
		call(&predicate.Node, "or zero", predicate.Node)
	}
}

func call(node *ast.Node, name string, args ...ast.Node) {
	ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: args})
}

// meterName is the variable that holds the evaluation's meter.
const meterName = "the meter"

func theMeter() ast.Node { return &ast.IdentifierNode{Value: meterName} }

// meteredCall is a call of a function that takes what it does from the meter.
func meteredCall(node *ast.Node, name string, args ...ast.Node) {
	call(node, name, append([]ast.Node{theMeter()}, args...)...)
}

// countNodes counts the operations in a part of an expression.
type countNodes struct{ nodes int }

func (c *countNodes) Visit(*ast.Node) { c.nodes++ }

func constant(value any, at ast.Node) ast.Node {
	c := &ast.ConstantNode{Value: value}
	c.SetLocation(at.Location())
	return c
}

func wrapTruth(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BoolNode:
		return
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			return
		}
	case *ast.BinaryNode: // those that are left as they are give a bool, except ??
		if n.Operator != "??" {
			return
		}
	case *ast.CallNode:
		switch n.Callee.(*ast.IdentifierNode).Value {
		case "<", "<=", ">", ">=", "==", "!=", "in", "contains", "startsWith", "endsWith", "matches":
			return
		}
	}
	call(node, "to truth", *node)
}

func orNil(n ast.Node) ast.Node {
	if n == nil {
		return &ast.NilNode{}
	}
	return n
}

func isNumberLiteral(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return true
	}
	return false
}

// isPlainLiteral reports a literal for which the equality of package expr is right.
func isPlainLiteral(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.BoolNode, *ast.NilNode:
		return true
	}
	return false
}

// constantList makes a list of literal texts once instead of at each evaluation.
func constantList(n ast.Node) ast.Node {
	list, ok := n.(*ast.ArrayNode)
	if !ok {
		return n
	}
	values := make([]any, len(list.Nodes))
	for i, element := range list.Nodes {
		switch e := element.(type) {
		case *ast.StringNode:
			values[i] = e.Value
		case *ast.IntegerNode:
			values[i] = e.Value
		default:
			return n
		}
	}
	return constant(values, n)
}

// constantPattern makes a regular expression that is written as such once instead of at each evaluation.
func constantPattern(n ast.Node) ast.Node {
	src, ok := n.(*ast.StringNode)
	if !ok {
		return n
	}
	p, err := newPattern(src.Value)
	if err != nil { // which check has reported
		return n
	}
	return constant(p, n)
}

type function = func(args ...any) (any, error)

// metered is a function that takes from the meter what it does and makes.
type metered func(m *meter, args []any) (any, error)

// option makes a function callable under a name, with the meter as its first argument.
func (f metered) option(name string) expr.Option {
	return expr.Function(name, func(args ...any) (any, error) {
		return f(args[0].(*meter), args[1:]) //nolint:forcetypeassert // nullSafe has put it there
	})
}

// nullSafeOptions are how an expression is compiled to be run.
var nullSafeOptions = func() []expr.Option {
	options := []expr.Option{
		expr.Env(undocumented),
		expr.MaxNodes(maxNodes),
		expr.Optimize(false), // it would fold calls into operations that are not null-safe
		expr.Patch(nullSafe{}),
		expr.Function(".", func(args ...any) (any, error) { return member(args[0], args[1]), nil }),
		expr.Function("[:]", slice),
		expr.Function("to truth", func(args ...any) (any, error) { return truth(args[0]) }),
		expr.Function("or zero", func(args ...any) (any, error) {
			if args[0] == nil {
				return 0, nil
			}
			return args[0], nil
		}),
		expr.Function("unary -", nullIfNull(func(args ...any) (any, error) { return runtime.Negate(widen(args[0])), nil })),
	}
	for operator, op := range map[string]func(a, b any) any{
		"-":  runtime.Subtract,
		"*":  runtime.Multiply,
		"/":  func(a, b any) any { return runtime.Divide(a, b) },
		"%":  func(a, b any) any { return runtime.Modulo(a, b) },
		"**": func(a, b any) any { return runtime.Exponent(a, b) },
		"^":  func(a, b any) any { return runtime.Exponent(a, b) },
	} {
		options = append(options, expr.Function(operator, nullIfNull(func(args ...any) (any, error) {
			return op(widen(args[0]), widen(args[1])), nil
		})))
	}
	for name, f := range map[string]metered{
		"begin":      beginLoop,
		"in":         in,
		"matches":    matches,
		"+":          add,
		"..":         span,
		"contains":   onTexts("contains", strings.Contains),
		"startsWith": onTexts("startsWith", strings.HasPrefix),
		"endsWith":   onTexts("endsWith", strings.HasSuffix),
		"==":         func(m *meter, args []any) (any, error) { return m.equal("==", args[0], args[1], 0) },
		"!=": func(m *meter, args []any) (any, error) {
			same, err := m.equal("!=", args[0], args[1], 0)
			return !same, err
		},
		"<":  compare("<", func(c int) bool { return c < 0 }, runtime.Less),
		"<=": compare("<=", func(c int) bool { return c <= 0 }, runtime.LessOrEqual),
		">":  compare(">", func(c int) bool { return c > 0 }, runtime.More),
		">=": compare(">=", func(c int) bool { return c >= 0 }, runtime.MoreOrEqual),
	} {
		options = append(options, f.option(name))
	}
	for name, f := range callable() {
		options = append(options, f.option(name))
	}
	return options
}()

// nullIfNull gives null when an argument is null.
func nullIfNull(f function) function {
	return func(args ...any) (any, error) {
		for _, arg := range args {
			if arg == nil {
				return nil, nil
			}
		}
		return f(args...)
	}
}
