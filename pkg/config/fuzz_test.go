package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

func FuzzLoad(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""},
		{secretive, "VODRELAY_LOG_LEVEL=debug"},
		{"vod: {sub_app_ids: [1, x]}\nlog: {level: a}", "VODRELAY_VOD_SUB_APP_IDS=1,,2"},
		{"sinks: [&a {type: stdout, <<: [*a, *a]}, *a]", "VODRELAY_SINKS=[{type: exec}]"},
		{"a: &a [*a]\nb: *a", "VODRELAY_PROCESSORS=- set: {a: b}"},
		{"? [a]\n: b\n\"a\\nb\": c", "VODRELAY_\n=\xff"},
		{"!!binary a: b\nvod: !!map []", "VODRELAY_VOD_ENDPOINT=http://%zz"},
		{"vod: {<<: {endpoint: x}, endpoint: y}", "VODRELAY_PORT=tcp://x"},
		{"---\n...\n---", "VODRELAY_RELAY_STOP_GRACE=null"},
		{"sinks: [{type: webhook, url: 'http://a', headers: {\"a\\u2028\": \"b\\u0085\"}}]", ""},
	} {
		f.Add([]byte(seed[0]), seed[1])
	}
	path := filepath.Join(f.TempDir(), "vodrelay.yaml") // each worker is a process with its own
	f.Fuzz(func(t *testing.T, text []byte, environ string) {
		for _, name := range []string{"/dev/", "/proc/"} { // files that do harm when they are read
			if strings.Contains(string(text)+environ, name) {
				return
			}
		}
		require.NoError(t, os.WriteFile(path, text, 0o600))
		c, err := Load(LoadOptions{Path: path, Environ: strings.Split(environ, "\x00")})
		if err == nil {
			shown, err := c.Redacted("json")
			require.NoError(t, err)
			require.NotEmpty(t, shown)
			return
		}
		var problems Errors
		require.ErrorAs(t, err, &problems)
		require.NotEmpty(t, problems)
		for _, p := range problems {
			line := p.Error()
			require.NotEmpty(t, strings.TrimSpace(line))
			require.False(t, strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }), "%q", line)
		}
		require.Len(t, strings.Split(err.Error(), "\n"), len(problems))
	})
}

// TestLargeInput: aliases make a short text long, which must cost neither time nor memory.
func TestLargeInput(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("a0: &a0 {type: stdout, name: a}\n")
	for i := range 9 {
		ten := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", ")
		fmt.Fprintf(&laughs, "a%d: &a%d {<<: [%s]}\n", i+1, i+1, ten)
	}
	laughs.WriteString("sinks: [*a9]\n")
	for name, text := range map[string]string{
		"laughs":   laughs.String(),
		"aliases":  "sinks:\n - &a {type: stdout, name: x}\n" + strings.Repeat(" - *a\n", 100_000),
		"ids":      "vod: {sub_app_ids: [" + strings.Repeat("1,", 400_000) + "]}",
		"sections": strings.Repeat("vod: {}\n", 100_000),
		"unknown":  strings.Repeat("x: 1\n", 10) + strings.Repeat("? y\n", 10_000),
		"nested":   strings.Repeat("[", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, text)
			require.Error(t, err)
			require.Less(t, len(err.Error()), 10<<20)
		})
	}
}
