package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What became of a mutant.
const (
	killed     = "killed"      // a test failed
	lived      = "lived"       // no test failed, though the line was run
	notCovered = "not covered" // no test failed, and none runs the line
	timedOut   = "timed out"   // the tests did not end
	unbuilt    = "unbuilt"     // it does not compile, as "a" - "b": no mutant at all
)

// replacements says what gremlins' default kinds put in the place of an operator.
var replacements = map[string]map[string]string{
	"ARITHMETIC_BASE":       {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*"},
	"CONDITIONALS_BOUNDARY": {"<": "<=", "<=": "<", ">": ">=", ">=": ">"},
	"CONDITIONALS_NEGATION": {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"},
	"INCREMENT_DECREMENT":   {"++": "--", "--": "++"},
	"INVERT_NEGATIVES":      {"-": "+"},
}

// A mutant is one change to one file.
type mutant struct {
	file    string
	kind    string
	line    int
	offset  int
	old     string
	new     string
	text    string // the line, with the operator marked: `if a «<» b {`
	code    []byte // the file unchanged
	covered bool
	status  string
}

func newMutant(file string, code []byte, kind string, line, column int) (mutant, error) {
	m := mutant{file: file, code: code, kind: kind, line: line}
	lines := bytes.SplitAfter(code, []byte("\n"))
	if line < 1 || line > len(lines) || column < 1 || column > len(lines[line-1]) {
		return m, fmt.Errorf("%s has no line %d, column %d", file, line, column)
	}
	before, rest := string(lines[line-1][:column-1]), string(lines[line-1][column-1:])
	for old, replacement := range replacements[kind] {
		if strings.HasPrefix(rest, old) && len(old) > len(m.old) { // the longest: `<=` is no `<`
			m.old, m.new = old, replacement
		}
	}
	if m.old == "" {
		return m, fmt.Errorf("%s:%d:%d has no operator that %s changes", file, line, column, kind)
	}
	m.offset = len(bytes.Join(lines[:line-1], nil)) + column - 1
	m.text = strings.TrimSpace(before + "«" + m.old + "»" + rest[len(m.old):])
	return m, nil
}

// changed returns the file with the mutant in it.
func (m *mutant) changed() []byte {
	return slices.Concat(m.code[:m.offset], []byte(m.new), m.code[m.offset+len(m.old):])
}

func (m *mutant) survived() bool { return m.status == lived || m.status == notCovered }

// try runs the tests with the mutant in place of its file.
func (m *mutant) try(ctx context.Context, t target, dir string, timeout time.Duration) error {
	original, err := filepath.Abs(m.file)
	if err != nil {
		return err
	}
	copied, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: copied}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(copied, m.changed(), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return err
	}
	_, failure := test(ctx, t, overlay, timeout)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case failure == nil && m.covered:
		m.status = lived
	case failure == nil:
		m.status = notCovered
	case strings.Contains(failure.Error(), "[build failed]"):
		m.status = unbuilt
	case strings.Contains(failure.Error(), "panic: test timed out after"):
		m.status = timedOut
	default:
		m.status = killed
	}
	return nil
}
