//go:build linux

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sassoftware/go-rpmutils"
)

// TestRPM reads the package back: this system has no rpm to install it with.
func TestRPM(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(packages(t), "*.rpm"))
	check(t, err)
	if len(names) != 1 {
		t.Fatalf("%d packages", len(names))
	}
	file, err := os.Open(names[0])
	check(t, err)
	defer func() { _ = file.Close() }()
	rpm, err := rpmutils.ReadRpm(file)
	check(t, err)
	nevra, err := rpm.Header.GetNEVRA()
	check(t, err)
	same(t, "name, version and release", "vodrelay 1.0.0 1", nevra.Name+" "+nevra.Version+" "+nevra.Release)
	for tag, want := range map[int]string{
		rpmutils.LICENSE: "Apache-2.0",
		rpmutils.PREIN:   script(t, "preinstall.sh"), rpmutils.POSTIN: script(t, "postinstall.sh"),
		rpmutils.PREUN: script(t, "preremove.sh"), rpmutils.POSTUN: script(t, "postremove.sh"),
	} {
		text, err := rpm.Header.GetString(tag)
		check(t, err)
		same(t, fmt.Sprint("tag ", tag), want, strings.TrimSpace(text))
	}
	needs, err := rpm.Header.GetStrings(rpmutils.REQUIRENAME)
	check(t, err)
	contains(t, strings.Join(needs, " "), "shadow-utils")

	files, err := rpm.Header.GetFiles()
	check(t, err)
	found := map[string]string{}
	for _, f := range files {
		kept := ""
		if f.Flags()&rpmutils.RPMFILE_CONFIG != 0 && f.Flags()&rpmutils.RPMFILE_NOREPLACE != 0 {
			kept = " config(noreplace)"
		}
		if f.Flags()&rpmutils.RPMFILE_DOC != 0 {
			kept += " doc"
		}
		found[f.Name()] = fmt.Sprintf("%o %s %s%s", f.Mode()&0o777, f.UserName(), f.GroupName(), kept)
	}
	for path, want := range packaged {
		switch path {
		case "/usr/share/zsh/vendor-completions/_vodrelay":
			path = "/usr/share/zsh/site-functions/_vodrelay"
		case "/usr/share/doc/vodrelay/copyright":
			path = "/usr/share/licenses/vodrelay/LICENSE"
		case "/usr/share/doc/vodrelay/README.md", "/usr/share/doc/vodrelay/CHANGELOG.md":
			want += " doc"
		case config, "/etc/logrotate.d/vodrelay":
			want += " config(noreplace)"
		case "/usr/share/vodrelay/examples": // made by rpm as the parent of its files
			continue
		}
		same(t, path, want, found[path])
	}
	dir := t.TempDir()
	check(t, rpm.ExpandPayload(dir))
	text, err := os.ReadFile(filepath.Join(dir, "usr/share/licenses/vodrelay/LICENSE"))
	check(t, err)
	licensed(t, string(text))
}

func script(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../packages", name))
	check(t, err)
	return strings.TrimSpace(string(text))
}
