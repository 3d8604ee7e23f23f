package container_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
)

// dockerfile is the stages of deploy/container/Dockerfile: build, and the image.
func dockerfile(t *testing.T) (build, image instructions.Stage) {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(repo.Read(t, "deploy/container/Dockerfile")))
	require.NoError(t, err)
	require.Empty(t, parsed.Warnings)
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		t.Errorf("%s: %s", rule, message)
	}})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	require.NoError(t, err)
	require.Len(t, stages, 2)
	require.Equal(t, "build", stages[0].Name)
	require.Equal(t, "scratch", stages[1].BaseName)
	return stages[0], stages[1]
}

// all are the instructions of one kind.
func all[T instructions.Command](stage instructions.Stage) []T {
	var found []T
	for _, c := range stage.Commands {
		if typed, ok := c.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// TestContext checks that what the build copies is there, and that .dockerignore lets it in, but not what
// the program is not built from.
func TestContext(t *testing.T) {
	patterns, err := ignorefile.ReadAll(strings.NewReader(repo.Read(t, ".dockerignore")))
	require.NoError(t, err)
	ignored, err := patternmatcher.New(patterns)
	require.NoError(t, err)
	isIgnored := func(path string) bool {
		match, err := ignored.MatchesOrParentMatches(path)
		require.NoError(t, err)
		return match
	}
	build, _ := dockerfile(t)
	var copied []string
	for _, c := range all[*instructions.CopyCommand](build) {
		for _, source := range c.SourcePaths {
			_, err := os.Stat(repo.Path(source))
			require.NoError(t, err)
			copied = append(copied, source)
		}
	}
	slices.Sort(copied)
	require.Equal(t, []string{"LICENSE", "cmd", "go.mod", "go.sum", "pkg", "scripts/licenses"}, copied)
	for _, path := range append(copied, "cmd/vodrelay/main.go", "pkg/admin/page.html", "pkg/emulator/samples/reliable-callback.json") {
		require.False(t, isIgnored(path), path)
	}
	for _, path := range []string{".git/HEAD", "README.md", "scripts/package", "bin/vodrelay", "vodrelay.yaml", "deploy/test/go.mod", "cmd/vodrelay/main_test.go"} {
		require.True(t, isIgnored(path), path)
	}
}

// TestFlags checks that the image has the same program as `make build` makes.
func TestFlags(t *testing.T) {
	const flags = "-s -w -X main.version="
	require.Contains(t, repo.Read(t, "Makefile"), flags+"$(VERSION)\n")
	require.Contains(t, repo.Read(t, "Makefile"), "build -trimpath -ldflags ")
	require.Contains(t, repo.Read(t, "deploy/container/Dockerfile"), `build -trimpath -ldflags "`+flags+`$VERSION" `)
}

// TestEmbedded checks that files which Go embeds are copied too: .dockerignore leaves out testdata.
func TestEmbedded(t *testing.T) {
	require.NoError(t, filepath.WalkDir(repo.Path("pkg"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "//go:embed ") {
				require.NotContains(t, line, "testdata", path)
			}
		}
		return err
	}))
}
