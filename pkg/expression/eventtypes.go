package expression

import (
	"maps"
	"slices"

	"github.com/expr-lang/expr/ast"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// UndocumentedType is a text that a condition compares the type of events with, and that VOD documents as none.
type UndocumentedType struct {
	Text string
	Near string // the documented type that was probably meant, "" if none is near
}

// UndocumentedTypes finds the texts which type, or event.EventType, is compared with by == and != or looked for in by
// in, and which are no documented event types; each once, in their order.
func (c *Condition) UndocumentedTypes() []UndocumentedType {
	tree, err := check(c.x.src, true)
	if err != nil { // it was compiled
		return nil
	}
	find := &findTypes{}
	ast.Walk(&tree.Node, find)
	var odd []UndocumentedType
	documented := slices.Sorted(maps.Keys(event.PayloadFields()))
	for _, text := range find.texts {
		seen := slices.ContainsFunc(odd, func(u UndocumentedType) bool { return u.Text == text })
		if !seen && !event.Known(text) {
			odd = append(odd, UndocumentedType{text, nearest(text, documented)})
		}
	}
	return odd
}

// findTypes finds what the type is compared with.
type findTypes struct{ texts []string }

func (f *findTypes) Visit(node *ast.Node) {
	n, ok := (*node).(*ast.BinaryNode)
	if !ok {
		return
	}
	switch {
	case (n.Operator == "==" || n.Operator == "!=" || n.Operator == "in") && isType(n.Left):
		f.add(n.Right)
	case (n.Operator == "==" || n.Operator == "!=") && isType(n.Right):
		f.add(n.Left)
	}
}

func (f *findTypes) add(n ast.Node) {
	switch n := n.(type) {
	case *ast.StringNode:
		f.texts = append(f.texts, n.Value)
	case *ast.ArrayNode:
		for _, element := range n.Nodes {
			f.add(element)
		}
	}
}

// isType reports whether the value of n is the event's type.
func isType(n ast.Node) bool {
	path, ok := members(n, nil)
	switch {
	case !ok:
		return false
	case len(path) == 1:
		return path[0].name == "type"
	}
	return len(path) == 2 && path[0].name == "event" && path[1].name == "EventType"
}
