package expression

import (
	"fmt"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
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
	}
}

func visitBinary(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "and", "&&", "or", "||":
		wrapTruth(&n.Left)
		wrapTruth(&n.Right)
	case "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "**", "^":
		call(node, n.Operator, n.Left, n.Right)
	case "==", "!=":
		if !isPlainLiteral(n.Left) && !isPlainLiteral(n.Right) {
			call(node, n.Operator, n.Left, n.Right)
		}
	case "in":
		call(node, "in", n.Left, constantList(n.Right))
	case "contains", "startsWith", "endsWith", "matches":
		wrapText(&n.Left)
		wrapText(&n.Right)
	}
}

func visitBuiltin(n *ast.BuiltinNode) {
	if _, ok := n.Arguments[0].(*ast.ArrayNode); !ok {
		call(&n.Arguments[0], "to list", n.Arguments[0])
	}
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

func wrapTruth(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BoolNode:
		return
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			return
		}
	case *ast.BinaryNode: // those that are left as they are give a bool, except ?? and ..
		if n.Operator != "??" && n.Operator != ".." {
			return
		}
	case *ast.CallNode:
		switch n.Callee.(*ast.IdentifierNode).Value {
		case "<", "<=", ">", ">=", "==", "!=", "in":
			return
		}
	}
	call(node, "to truth", *node)
}

func wrapText(node *ast.Node) {
	if _, ok := (*node).(*ast.StringNode); !ok {
		call(node, "to text", *node)
	}
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
	constant := &ast.ConstantNode{Value: values}
	constant.SetLocation(n.Location())
	return constant
}

type function = func(args ...any) (any, error)

// nullSafeOptions are how an expression is compiled to be run.
var nullSafeOptions = func() []expr.Option {
	options := []expr.Option{
		expr.Env(undocumented),
		expr.MaxNodes(maxNodes),
		expr.DisableBuiltin(unbounded),
		expr.Optimize(false), // it would fold calls into operations that are not null-safe
		expr.Patch(nullSafe{}),
		expr.Function(".", func(args ...any) (any, error) { return member(args[0], args[1]), nil }),
		expr.Function("[:]", slice),
		expr.Function("to truth", func(args ...any) (any, error) { return truth(args[0]) }),
		expr.Function("to list", list),
		expr.Function("to text", text),
		expr.Function("or zero", func(args ...any) (any, error) {
			if args[0] == nil {
				return 0, nil
			}
			return args[0], nil
		}),
		expr.Function("unary -", nullIfNull(func(args ...any) (any, error) { return runtime.Negate(widen(args[0])), nil })),
		expr.Function("==", func(args ...any) (any, error) { return equal(args[0], args[1]), nil }),
		expr.Function("!=", func(args ...any) (any, error) { return !equal(args[0], args[1]), nil }),
		expr.Function("in", in),
		expr.Function("<", compare(func(c int) bool { return c < 0 }, runtime.Less)),
		expr.Function("<=", compare(func(c int) bool { return c <= 0 }, runtime.LessOrEqual)),
		expr.Function(">", compare(func(c int) bool { return c > 0 }, runtime.More)),
		expr.Function(">=", compare(func(c int) bool { return c >= 0 }, runtime.MoreOrEqual)),
		expr.Function("+", nullIfNull(add)),
		expr.Function("len", func(args ...any) (any, error) {
			if args[0] == nil {
				return 0, nil
			}
			return runtime.Len(args[0]), nil
		}),
		expr.Function("get", func(args ...any) (any, error) { return member(args[0], args[1]), nil }),
		expr.Function("fromJSON", fromJSON),
		expr.Function("toJSON", nullIfNull(func(args ...any) (any, error) {
			raw, err := encode(args[0])
			return string(raw), err
		})),
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
	own := map[string]bool{"len": true, "get": true, "fromJSON": true, "toJSON": true, unbounded: true}
	for _, f := range builtin.Builtins {
		if !f.Predicate && !own[f.Name] {
			options = append(options, expr.Function(f.Name, nullIfNull(plain(f))))
		}
	}
	return options
}()

// plain is a built-in function in the one form that all have in common. Its error tells the kinds of the
// arguments and not, as package expr does, the values: those are the events', and differ with each.
func plain(f *builtin.Function) function {
	return func(args ...any) (result any, err error) {
		defer func() {
			if recover() != nil || err != nil {
				err = fmt.Errorf("%s does not take %s of this kind or content", f.Name, describe(args[0]))
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
