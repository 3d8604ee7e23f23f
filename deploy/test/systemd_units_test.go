//go:build linux

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var units = []string{"vodrelay.service", "vodrelay-drain.service", "vodrelay-drain.timer"}

// unitsWithProgram are copies of the units in which the program exists, which verify looks for.
func unitsWithProgram(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		missing(t, "systemd-analyze is not there: run scripts/testdeps")
	}
	dir := t.TempDir()
	for _, name := range units {
		text, err := os.ReadFile(filepath.Join("../systemd", name))
		check(t, err)
		text = []byte(strings.ReplaceAll(string(text), "/usr/bin/vodrelay ", "/bin/true "))
		check(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return dir
}

// newer is what a systemd before the version says of lines that it does not know. It ignores them.
var newer = []struct {
	version int
	says    *regexp.Regexp
}{
	{253, regexp.MustCompile(`vodrelay\.service:\d+: Failed to parse service type, ignoring: notify-reload$`)},
	{254, regexp.MustCompile(`vodrelay\.service:\d+: Unknown key( name)? '(RestartSteps|RestartMaxDelaySec)' in section '?\[?Service\]?'?, ignoring\.$`)},
}

func TestUnitsVerify(t *testing.T) {
	dir := unitsWithProgram(t)
	version := systemdVersion()
	for _, name := range units {
		cmd := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(dir, name))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	lines:
		for line := range strings.Lines(string(out)) {
			for _, n := range newer {
				if version < n.version && n.says.MatchString(strings.TrimSpace(line)) {
					continue lines
				}
			}
			t.Errorf("%s: %s", name, line)
		}
	}
}

func TestUnitsAreHardened(t *testing.T) {
	dir := unitsWithProgram(t)
	for _, name := range units[:2] {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", filepath.Join(dir, name)).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more exposed than 1.5: %v\n%s", name, err, out)
		}
		level := regexp.MustCompile(`Overall exposure level for .*`).Find(out)
		if level == nil {
			t.Errorf("%s: no level in\n%s", name, out)
		}
		t.Logf("%s", level)
	}
}

// TestUnitsAreHardenedAlike keeps the drain's copy of the hardening the same.
func TestUnitsAreHardenedAlike(t *testing.T) {
	hardening := func(name string) string {
		text, err := os.ReadFile(filepath.Join("../systemd", name))
		check(t, err)
		_, part, ok := strings.Cut(string(text), "\nNoNewPrivileges=")
		if !ok {
			t.Fatalf("%s has no hardening", name)
		}
		part, _, _ = strings.Cut(part, "\n[Install]")
		return strings.TrimSpace(part)
	}
	same(t, "hardening", hardening(units[0]), hardening(units[1]))
}
