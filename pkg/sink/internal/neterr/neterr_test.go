package neterr

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSteady(t *testing.T) {
	for text, want := range map[string]string{
		"read tcp 127.0.0.1:43210->10.0.0.1:443: broken":    "read tcp N->N: broken",
		"http2: stream error: stream ID 17; INTERNAL_ERROR": "http2: stream error: stream ID N; INTERNAL_ERROR",
		`odd line "s3cret 5" in header`:                     `odd line "..." in header`,
		"a\r\nb\x1b[31m\u2028c\xff":                         "a b\\u001b[31m\\u2028c\uFFFD",
	} {
		require.Equal(t, want, Steady(text))
	}
	require.LessOrEqual(t, len(Steady(strings.Repeat("é", 500))), 200)
}

func TestAddScheme(t *testing.T) {
	const example = "https://example.com/vod"
	for address, want := range map[string]string{
		"example.com": "https://example.com", "localhost:8080/vod": "https://localhost:8080/vod", "[::1]:80": "https://[::1]:80",
		"https:/example.com": "https://example.com", "http//example.com/a": "https://example.com/a", "https:example.com": "https://example.com",
		"//example.com": "https://example.com", "://example.com": "https://example.com",
		"exa mple.com": example, "": example, "https:/": example, "a,b": example, "a:b:c": example, "/": example, "x\u202ey": example,
	} {
		require.Equal(t, want, AddScheme(address, "https", example), address)
	}
}

func FuzzSteady(f *testing.F) {
	f.Add("read tcp [::1]:5->[fe80::1%eth0]:443: x")
	f.Fuzz(func(t *testing.T, text string) {
		once := Steady(text)
		require.LessOrEqual(t, len(once), 200)
		require.NotContains(t, once, "\n")
	})
}
