package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	known := []string{"url", "method", "format", "headers", "secret", "secret_file", "timeout"}
	for word, want := range map[string]string{
		"ulr": "url", "URL": "url", "metod": "method", "timeot": "timeout", "tiemout": "timeout", "header": "headers",
		"secretfile": "secret_file", "secret-file": "secret_file", "x": "", "": "", "body": "", "password": "",
	} {
		require.Equal(t, want, Nearest(word, known), word)
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "ab", 2}, {"ab", "ba", 1}, {"abc", "abd", 1}, {"abc", "ABC", 0}, {"abcd", "acbd", 1}, {"kitten", "sitting", 3}} {
		require.Equal(t, tt.want, distance(tt.a, tt.b), "%s %s", tt.a, tt.b)
		require.Equal(t, tt.want, distance(tt.b, tt.a), "%s %s", tt.b, tt.a)
	}
}
