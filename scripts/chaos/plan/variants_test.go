package plan

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every variant of the emulator is met, or stands among those that are not. The emulator's code is read as text: this
// module shares none with what it tests.
func TestEachVariantIsThoughtOf(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../pkg/emulator/variants.go")
	require.NoError(t, err)
	var all []string
	for _, question := range strings.Split(string(text), "\n\task(")[1:] {
		for i, name := range regexp.MustCompile(`(?m)^\t\t(?:v|o|stale|pushMode|subApp)\("([a-z0-9-]+)"`).FindAllStringSubmatch(question, -1) {
			if i > 0 { // the first is the default
				all = append(all, name[1])
			}
		}
	}
	require.Greater(t, len(all), 30)
	known := slices.Concat(append(slices.Clone(Variants), Unmet)...)
	require.ElementsMatch(t, all, known)
}

func TestEachVariantHasAWorld(t *testing.T) {
	t.Parallel()
	p := Each(1, Options{Short: true, Length: 25 * time.Second})
	met := map[string]bool{}
	for _, w := range p.Worlds {
		require.NotEmpty(t, w.Actions)
		met[w.Variants[0]] = true
	}
	for _, name := range slices.Concat(Variants...) {
		require.True(t, met[name], name)
	}
}
