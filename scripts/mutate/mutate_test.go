package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAMutantChangesOneOperator(t *testing.T) {
	code := []byte("package p\n\nfunc f(a, b int) bool { return a <= b && a-1 < b }\n")
	tests := []struct {
		kind        string
		column      int
		text, after string
	}{
		{"CONDITIONALS_BOUNDARY", 34, "a «<=» b &&", "a < b && a-1 < b"},
		{"CONDITIONALS_NEGATION", 34, "a «<=» b &&", "a > b && a-1 < b"},
		{"CONDITIONALS_BOUNDARY", 46, "a-1 «<» b", "a <= b && a-1 <= b"},
		{"INVERT_NEGATIVES", 43, "a«-»1 < b", "a <= b && a+1 < b"},
	}
	for _, test := range tests {
		m, err := newMutant("p.go", code, test.kind, 3, test.column)
		require.NoError(t, err)
		require.Contains(t, m.text, test.text)
		require.Contains(t, string(m.changed()), "return "+test.after+" }\n")
	}
	_, err := newMutant("p.go", code, "CONDITIONALS_BOUNDARY", 3, 35)
	require.ErrorContains(t, err, "p.go:3:35 has no operator")
	_, err = newMutant("p.go", code, "CONDITIONALS_BOUNDARY", 9, 1)
	require.ErrorContains(t, err, "no line 9")
}

// A module of its own, and all that can become of a mutant.
func TestWhatBecomesOfAMutant(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	code := `package p

func less(a, b int) bool { return a < b }

func sum(n int) (all int) {
	for ; n != 0; n-- {
		all += n
	}
	return all
}

func name() string { return "a" + "b" }
`
	write("go.mod", "module p\n\ngo 1.26\n")
	write("p.go", code)
	write("p_test.go", `package p

import "testing"

func TestLess(t *testing.T) {
	if !less(1, 2) || sum(2) != 3 || name() == "" {
		t.Fail()
	}
}
`)
	t.Chdir(dir)
	for kind, want := range map[string]string{
		"CONDITIONALS_NEGATION  return a «<» b": killed,
		"CONDITIONALS_BOUNDARY  return a «<» b": lived,
		"INCREMENT_DECREMENT  n«--»":            timedOut, // it never gets to 0
		`ARITHMETIC_BASE  "a" «+» "b"`:          unbuilt,
	} {
		kind, text, _ := strings.Cut(kind, "  ")
		at := strings.Index(code, strings.NewReplacer("«", "", "»", "").Replace(text)) + strings.Index(text, "«")
		line := strings.Count(code[:at], "\n")
		m, err := newMutant("p.go", []byte(code), kind, line+1, at-strings.LastIndex(code[:at], "\n"))
		require.NoError(t, err)
		m.covered = true
		require.NoError(t, m.try(context.Background(), target{path: "."}, filepath.Join(t.TempDir(), "worker"), 2*time.Second))
		require.Equal(t, want, m.status, text)
	}
	after, err := os.ReadFile("p.go")
	require.NoError(t, err)
	require.Equal(t, code, string(after), "the code stays as it is")
}

func TestReport(t *testing.T) {
	accepted, err := parseAccepted(`# a comment
pkg/a/a.go  CONDITIONALS_BOUNDARY  if a «<» b {
pkg/a/a.go  ARITHMETIC_BASE  return a «+» 0
	Makes no
	difference.
pkg/a/a.go  ARITHMETIC_BASE  gone «-» 1
	It was here.

pkg/b/b.go  ARITHMETIC_BASE  elsewhere «-» 1
	Not measured.
`)
	require.NoError(t, err)
	require.Equal(t, "Makes no difference.", accepted[place{"pkg/a/a.go", "CONDITIONALS_BOUNDARY", "if a «<» b {"}])
	mutants := []mutant{
		{file: "pkg/a/a.go", kind: "CONDITIONALS_BOUNDARY", text: "if a «<» b {", line: 3, status: lived},
		{file: "pkg/a/a.go", kind: "ARITHMETIC_BASE", text: "return a «+» 0", line: 4, status: notCovered},
		{file: "pkg/a/a.go", kind: "CONDITIONALS_BOUNDARY", text: "if a «>» b {", line: 5, status: lived},
		{file: "pkg/a/a.go", kind: "CONDITIONALS_NEGATION", text: "if a «<» b {", line: 3, status: killed},
		{file: "pkg/a/a.go", kind: "CONDITIONALS_NEGATION", text: "if a «>» b {", line: 3, status: killed},
	}
	var out strings.Builder
	report(&out, mutants, accepted)
	require.Equal(t, `  package  killed  lived  timed out  not covered  unbuilt  accepted  efficacy  coverage
    pkg/a       2      2          0            1        0         2    50.0 %    80.0 %

Survived, and not accepted:
pkg/a/a.go  CONDITIONALS_BOUNDARY  if a «>» b {
	line 5, lived

Accepted, but no longer there:
pkg/a/a.go  ARITHMETIC_BASE  gone «-» 1
`, out.String())
}

func TestTheListOfWhatIsAccepted(t *testing.T) {
	_, err := parseAccepted(acceptedText)
	require.NoError(t, err)
	for text, problem := range map[string]string{
		"a.go  KIND  a «<» b\n":                                 "has no reason",
		"\tA reason.\n":                                         "belongs to nothing",
		"a.go KIND a «<» b\n\tA reason.\n":                      "two blanks apart",
		"a.go  K  «<»\n\tA reason.\na.go  K  «<»\n\tAnother.\n": "stands there twice",
	} {
		_, err := parseAccepted(text)
		require.ErrorContains(t, err, problem)
	}
}
