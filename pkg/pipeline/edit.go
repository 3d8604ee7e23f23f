package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
)

// Field is one value of a new or changed event.
type Field struct {
	// Key is where the value goes in the event's content: a name, or several joined with dots for an
	// object in an object. Letter case matters.
	Key string
	// Expr is the expression for the value; see CompileCondition for the language. A key whose value is
	// null is left out. When Expr is only a way to a value, such as payload.MediaBasicInfo.Name, the
	// value's exact bytes are copied; what is calculated is written anew.
	Expr string
}

// node is an object to write: what stands at each key of fields, in order.
type node struct {
	name   string
	quoted []byte
	key    string // from the top, for errors
	leaf   int    // which expression, or -1 for an object with fields; not asked of the root
	fields []*node
}

// template is a set of fields, compiled.
type template struct {
	root        node
	expressions []*expression.Expression
}

func newTemplate(fields []Field) (*template, error) {
	if len(fields) == 0 {
		return nil, errors.New("no fields: name at least one, as in FileId: payload.FileId")
	}
	t := &template{}
	var errs []error
	for _, f := range fields {
		x, err := expression.Compile(f.Expr)
		if err == nil {
			err = t.root.insert(f.Key, len(t.expressions))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", safetext.Name(f.Key), err))
			continue
		}
		t.expressions = append(t.expressions, x)
	}
	return t, errors.Join(errs...)
}

func (n *node) insert(key string, leaf int) error {
	names := strings.Split(key, ".")
	for i, name := range names {
		if name == "" {
			return errors.New("a part of the key is empty: write names with one dot between them")
		}
		child := n.child(name)
		last := i == len(names)-1
		if child == nil {
			quoted, err := jsontext.AppendQuote(nil, name)
			if err != nil {
				return errors.New("the key is not valid UTF-8")
			}
			child = &node{name: name, quoted: quoted, key: strings.Join(names[:i+1], "."), leaf: -1}
			if last {
				child.leaf = leaf
			}
			n.fields = append(n.fields, child)
		} else if last || child.leaf >= 0 {
			return fmt.Errorf("overlaps with %s: keep one of them", safetext.Name(child.key))
		}
		n = child
	}
	return nil
}

func (n *node) child(name string) *node {
	for _, c := range n.fields {
		if c.name == name {
			return c
		}
	}
	return nil
}

// maxValues is the most bytes that all values of a template have together: each may hold a copy of the whole event.
const maxValues = 16 << 20

// apply writes the fields into the object raw, evaluated on e, and returns the new object.
func (t *template) apply(ctx context.Context, e event.Event, raw json.RawMessage) (json.RawMessage, error) {
	values := make([]json.RawMessage, len(t.expressions))
	size := 0
	for i, x := range t.expressions {
		var err error
		if values[i], err = x.JSON(ctx, e); err != nil {
			return nil, err
		}
		if size += len(values[i]); size > maxValues {
			return nil, retry.Permanent(fmt.Errorf("the values of all fields would have more than %d bytes", maxValues))
		}
	}
	changed, err := t.root.object(make(json.RawMessage, 0, len(raw)+256), raw, values)
	if err != nil {
		return nil, retry.Permanent(err)
	}
	return changed, nil
}

// object appends raw with the fields written into it. What has no field keeps its bytes and its place; new
// fields follow.
func (n *node) object(dst, raw []byte, values []json.RawMessage) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if dec.PeekKind() != '{' {
		if n.key == "" {
			return nil, errors.New("the event's content is not an object: nothing can be set in it")
		}
		return nil, fmt.Errorf("%s is not an object: nothing can be set in it", safetext.Name(n.key))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	first := len(dst)
	written := make([]bool, len(n.fields))
	for dec.PeekKind() == '"' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		at, mark := n.find(quoted), len(dst)
		if mark > first {
			dst = append(dst, ',')
		}
		dst = append(append(dst, quoted...), ':')
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		if at < 0 {
			dst = append(dst, value...)
			continue
		}
		child := n.fields[at]
		if child.leaf < 0 && value.Kind() == 'n' { // as if it was not there
			dst = dst[:mark]
			continue
		}
		written[at] = true
		switch {
		case child.leaf < 0:
			if dst, err = child.object(dst, value, values); err != nil {
				return nil, err
			}
		case values[child.leaf] == nil:
			dst = dst[:mark]
		default:
			dst = append(dst, values[child.leaf]...)
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	for i, child := range n.fields {
		if written[i] || !child.hasValue(values) {
			continue
		}
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(append(dst, child.quoted...), ':')
		if child.leaf >= 0 {
			dst = append(dst, values[child.leaf]...)
			continue
		}
		var err error
		if dst, err = child.object(dst, []byte("{}"), values); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func (n *node) find(quoted jsontext.Value) int {
	name, _ := jsontext.AppendUnquote(nil, quoted) // fails for invalid UTF-8 only, which it replaces in the name
	for i, c := range n.fields {
		if c.name == string(name) {
			return i
		}
	}
	return -1
}

func (n *node) hasValue(values []json.RawMessage) bool {
	if n.leaf >= 0 {
		return values[n.leaf] != nil
	}
	for _, c := range n.fields {
		if c.hasValue(values) {
			return true
		}
	}
	return false
}
