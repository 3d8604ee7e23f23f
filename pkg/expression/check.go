package expression

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

const (
	// maxSource is the longest expression in bytes.
	maxSource = 8 << 10
	// maxNodes is the most operations, names and values in one expression.
	maxNodes = 1000

	reference = "the language is at https://expr-lang.org/docs/language-definition"
)

// check parses src and holds it against the documented types. The tree is good for reading only.
func check(src string, condition bool) (*parser.Tree, error) {
	if strings.TrimSpace(src) == "" {
		return nil, errors.New(`the expression is empty: write one such as type == "NewFileUpload"`)
	}
	if len(src) > maxSource {
		return nil, fmt.Errorf("the expression has %d bytes: shorten it to %d, or write a Processor in Go", len(src), maxSource)
	}
	config := conf.New(documented)
	config.MaxNodes = maxNodes
	for _, name := range unclassified() {
		config.Disabled[name] = true
		delete(config.Builtins, name)
	}
	if condition {
		config.Expect, config.ExpectAny = reflect.Bool, true
	}
	tree, err := checker.ParseCheck(src, config)
	if err != nil {
		return nil, explain(src, tree, err)
	}
	forbidden := &forbidden{}
	ast.Walk(&tree.Node, forbidden)
	if forbidden.err != nil {
		return nil, explain(src, tree, forbidden.err.Bind(tree.Source))
	}
	return tree, nil
}

// forbidden finds what the checker lets pass because it cannot know the type.
type forbidden struct{ err *file.Error }

func (f *forbidden) Visit(node *ast.Node) {
	message := ""
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if n.Value == "$env" {
			message = "$env is not available: use event for the whole event"
		}
	case *ast.CallNode:
		message = "only the built-in functions can be called, as in upper(type)"
	}
	if message != "" && f.err == nil {
		f.err = &file.Error{Location: (*node).Location(), Message: message}
	}
}

// explain makes one line of an error: the expression, the place, what is wrong and what to do.
func explain(src string, tree *parser.Tree, err error) error {
	var at *file.Error
	if !errors.As(err, &at) { // the type of the whole expression
		message := strings.Replace(err.Error(), "expected bool, but got", "the result must be true or false, not", 1)
		return fault(src, nil, message+": compare it with something, as in x == ...")
	}
	message := at.Message
	if remedy := remedy(tree, at); remedy != "" {
		message += ": " + remedy
	}
	return fault(src, at, message)
}

func fault(src string, at *file.Error, message string) error {
	place := ""
	if at != nil && at.Line > 0 {
		place = fmt.Sprintf(", column %d", at.Column+1)
		if strings.ContainsRune(strings.TrimSpace(src), '\n') {
			place = fmt.Sprintf(", line %d%s", at.Line, place)
		}
	}
	return fmt.Errorf("expression '%s'%s: %s", safetext.Line(src, longest), place, safetext.Line(plainWords.Replace(message), longest))
}

// plainWords are for people who write expressions, not Go.
var plainWords = strings.NewReplacer(
	"map[string]interface {}", "object",
	"[]interface {}", "list",
	"interface {}", "any",
	`Operator("=")`, `"="`,
	"float64", "number",
	"nil", "null",
)

// longest is how much of an expression or of a message an error quotes, in bytes.
const longest = 400

func remedy(tree *parser.Tree, at *file.Error) string {
	if name, ok := strings.CutPrefix(at.Message, "unknown name "); ok {
		candidates := make([]string, 0, len(documented)+len(builtin.Builtins))
		for known := range documented {
			candidates = append(candidates, known)
		}
		for _, f := range builtin.Builtins {
			candidates = append(candidates, f.Name)
		}
		if near := nearest(name, candidates); near != "" {
			return "did you mean " + near + "?"
		}
		return "there are type, id, sub_app_id, subject, payload, event and the payload fields of EventContent, such as FileUploadEvent"
	}
	if name, ok := strings.CutPrefix(at.Message, "unknown field "); ok {
		return unknownField(tree, at, name)
	}
	switch {
	case strings.Contains(at.Message, `Operator("=")`):
		return "write == to compare"
	case strings.Contains(at.Message, "= (mismatched types string and int)"), strings.Contains(at.Message, "= (mismatched types int and string)"):
		return `a text is compared with a text: write quotes, as in FileId == "123"`
	case strings.Contains(at.Message, ": "): // it has its remedy
		return ""
	}
	return reference
}

func unknownField(tree *parser.Tree, at *file.Error, name string) string {
	find := &findMember{at: at.Location}
	ast.Walk(&tree.Node, find)
	if find.member == nil {
		return reference
	}
	fields := find.member.Node.Nature().Fields
	candidates := make([]string, 0, len(fields))
	for field := range fields {
		candidates = append(candidates, field)
	}
	unchecked := "what is not documented can be read through event"
	if root(find.member) != "" {
		unchecked += ", as event." + find.member.String()
	}
	if near := nearest(name, candidates); near != "" {
		return "did you mean " + near + "? (" + unchecked + ")"
	}
	return unchecked
}

type findMember struct {
	at     file.Location
	member *ast.MemberNode
}

func (f *findMember) Visit(node *ast.Node) {
	if m, ok := (*node).(*ast.MemberNode); ok && m.Property.Location() == f.at && m.Node.Nature().TypeData != nil {
		f.member = m
	}
}

// root is the name at which a chain of members starts, "" if it does not start at a name.
func root(n ast.Node) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value
	case *ast.MemberNode:
		return root(n.Node)
	case *ast.ChainNode:
		return root(n.Node)
	}
	return ""
}

// nearest is the candidate that name was probably meant to be, "" if none is near.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, candidate := range candidates {
		d := distance(strings.ToLower(name), strings.ToLower(candidate))
		if d < bestDistance || d == bestDistance && best != "" && candidate < best {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with their neighbour between a and b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := range len(a) {
		for j := range len(b) {
			cost := rows[i][j]
			if a[i] != b[j] {
				cost++
			}
			cost = min(cost, rows[i+1][j]+1, rows[i][j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, rows[i-1][j-1]+1)
			}
			rows[i+1][j+1] = cost
		}
	}
	return rows[len(a)][len(b)]
}
