// Package gate tests what decides whether a change may land.
package gate

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// firstTime fails a test whose file is not there yet, and makes the file: the second run passes.
const firstTime = `package p

import ("os"; "testing")

func first() bool { _, err := os.Stat("ran"); os.WriteFile("ran", nil, 0o600); return err != nil }
`

var packages = map[string]string{
	"passes":  "package p\nimport \"testing\"\nfunc TestOK(t *testing.T) {}\n",
	"fails":   "package p\nimport \"testing\"\nfunc TestAlways(t *testing.T) { t.Error(\"each time\") }\n",
	"unbuilt": "package p\nfunc broken() { nothing }\n",
	"flaky":   firstTime + "func TestOnce(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { if first() { t.Error(\"this time\") } }) }\nfunc TestOther(t *testing.T) {}\n",
	"panics":  firstTime + "func TestPanic(t *testing.T) { if first() { panic(\"this time\") } }\n",
	"crashes": firstTime + "func TestMain(m *testing.M) { code := m.Run(); if first() { code = 1 }; os.Exit(code) }\nfunc TestOK(t *testing.T) {}\n",
}

// TestGotest runs scripts/gotest over small packages.
func TestGotest(t *testing.T) {
	script, err := filepath.Abs("../../../scripts/gotest")
	if err != nil {
		t.Fatal(err)
	}
	const all = "FLAKY  example.com/m/"
	for name, c := range map[string]struct {
		packages []string
		passes   bool
		says     []string // in the report, which is written to a file as well
		silent   []string
	}{
		"nothing fails":           {packages: []string{"passes"}, passes: true, silent: []string{"FLAKY", "once more"}},
		"twice is a failure":      {packages: []string{"passes", "fails"}, silent: []string{"FLAKY"}},
		"once is flaky":           {packages: []string{"passes", "flaky"}, passes: true, says: []string{all + "flaky: -run ^(TestOnce)$ failed once and passed once; order: -shuffle=42"}},
		"a panic hides the rest":  {packages: []string{"panics"}, passes: true, says: []string{all + "panics: the package as a whole"}},
		"no test is to blame":     {packages: []string{"crashes"}, passes: true, says: []string{all + "crashes: the package as a whole"}},
		"flaky beside a failure":  {packages: []string{"flaky", "fails"}, says: []string{all + "flaky"}, silent: []string{all + "fails"}},
		"what does not build":     {packages: []string{"flaky", "unbuilt"}, silent: []string{"FLAKY", "once more"}},
		"nothing is named to run": {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(path, text string) {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("go.mod", "module example.com/m\n\ngo 1.26\n")
			args := []string{"-shuffle=42", "--"}
			for _, p := range c.packages {
				write(filepath.Join(p, "p_test.go"), packages[p])
				args = append(args, "./"+p)
			}
			reported := filepath.Join(dir, "report")
			run := exec.CommandContext(t.Context(), script, args...)
			run.Dir = dir
			run.Env = append(os.Environ(), "FLAKY_REPORT="+reported)
			out, err := run.CombinedOutput()
			if c.passes != (err == nil) {
				t.Errorf("passes: %v, expected %v\n%s", err == nil, c.passes, out)
			}
			report, _ := os.ReadFile(reported) // there is none without a flaky test
			for _, text := range c.says {
				if !strings.Contains(string(out), text) || !strings.Contains(string(report), text) {
					t.Errorf("%q is not both in the output and in the report %q:\n%s", text, report, out)
				}
			}
			for _, text := range c.silent {
				if strings.Contains(string(out), text) {
					t.Errorf("%q is in the output:\n%s", text, out)
				}
			}
		})
	}
}
