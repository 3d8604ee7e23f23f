package admin

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfigValidate(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for name, test := range map[string]struct {
		cfg  Config
		want string // part of the error; "" for none
	}{
		"default":                 {DefaultConfig(), ""},
		"off":                     {Config{}, ""},
		"loopback v6":             {Config{Listen: "[::1]:9464"}, ""},
		"loopback v4 in v6":       {Config{Listen: "[::ffff:127.0.0.1]:9464"}, ""},
		"localhost":               {Config{Listen: "localhost:0"}, ""},
		"127.8":                   {Config{Listen: "127.8.8.8:1"}, ""},
		"all without token":       {Config{Listen: ":9464"}, `listen: ":9464": others can reach this address: set token_file`},
		"all v4 without token":    {Config{Listen: "0.0.0.0:9464"}, "others can reach"},
		"all v6 without token":    {Config{Listen: "[::]:9464"}, "others can reach"},
		"name without token":      {Config{Listen: "localhost.example.com:9464"}, "others can reach"},
		"all with token":          {Config{Listen: ":9464", Token: goodToken}, ""},
		"all with file":           {Config{Listen: ":9464", TokenFile: file(goodToken + "\n")}, ""},
		"host":                    {Config{Listen: ":1", Token: goodToken, Hosts: []string{"relay.example.com"}}, ""},
		"host with port":          {Config{Listen: ":1", Token: goodToken, Hosts: []string{"relay.example.com:80"}}, `hosts[0]: "relay.example.com:80": write a host name alone`},
		"no port":                 {Config{Listen: "127.0.0.1"}, `listen: "127.0.0.1": write host:port`},
		"named port":              {Config{Listen: "127.0.0.1:http"}, `"http" is not a port`},
		"large port":              {Config{Listen: "127.0.0.1:70000"}, "is not a port"},
		"short token":             {Config{Listen: ":1", Token: "s3cr3t"}, "token: (hidden): is shorter than 16 characters"},
		"token of spaces":         {Config{Listen: ":1", Token: "s3cr3t s3cr3t s3cr3t"}, "printable ASCII"},
		"both":                    {Config{Listen: ":1", Token: goodToken, TokenFile: file(goodToken)}, "token_file: is set beside token"},
		"missing file":            {Config{Listen: ":1", TokenFile: "/nonexistent/token"}, `token_file: "/nonexistent/token": no such file or directory; let the user`},
		"empty file":              {Config{Listen: ":1", TokenFile: file(" \n")}, "shorter than 16"},
		"large file":              {Config{Listen: ":1", TokenFile: file(strings.Repeat("a", 5000))}, "is larger than"},
		"device":                  {Config{Listen: ":1", TokenFile: os.DevNull}, "not a regular file"},
		"short token on loopback": {Config{Listen: "127.0.0.1:1", Token: "s3cr3t"}, "shorter than 16"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.cfg.Validate()
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "s3cr3t")
			_, err = New(test.cfg, nil, someOptions(nil))
			require.Error(t, err)
		})
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	c := Config{Listen: ":1", Token: goodToken}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		require.NotContains(t, fmt.Sprintf(format, c), goodToken, format)
		require.NotContains(t, fmt.Sprintf(format, &c), goodToken, format)
	}
	text, err := json.Marshal(c)
	require.NoError(t, err)
	require.NotContains(t, string(text), goodToken)
	require.Contains(t, string(text), `"Listen":":1"`)
}

func TestNewNeedsItsParts(t *testing.T) {
	_, err := New(Config{}, nil, someOptions(nil))
	require.ErrorContains(t, err, "no admin server without an address")
	_, err = New(DefaultConfig(), nil, Options{})
	require.ErrorContains(t, err, "needs Stats and Observer")
}
