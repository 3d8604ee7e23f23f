package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
)

func TestValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	postgres := Config{Driver: DriverPostgres, URL: "postgres://u:p@h/db", MaxConns: 2}
	require.NoError(t, postgres.Validate())
	require.NoError(t, Config{Driver: DriverPostgres, URLFile: "/run/secrets/url", MaxConns: 2}.Validate())
	require.NoError(t, Config{Driver: DriverNone}.Validate())
	for _, c := range []struct {
		cfg  Config
		want []string
	}{
		{Config{}, []string{`driver: "": use sqlite, postgres or none`}},
		{Config{Driver: DriverSQLite, Path: "~/x.db"}, []string{`path: "~/x.db": ~ has no meaning here, write the full path`}},
		{Config{Driver: DriverSQLite, Path: "/var/lib/"}, []string{`path: "/var/lib/": is a directory`}},
		{Config{Driver: DriverSQLite, Path: "a\x00"}, []string{`path: "a\x00": must not contain`}},
		{Config{Driver: DriverSQLite, URL: "postgres://h/db"}, []string{`url: is used by driver postgres only`}},
		{Config{Driver: DriverPostgres, Path: "x", MaxConns: 1}, []string{`url: "": driver postgres needs`, `max_conns: 1: must be from 2 to 100`, `path: "x": is used by driver sqlite only`}},
		{Config{Driver: DriverPostgres, URL: "postgres://h/db", URLFile: "f", MaxConns: 8}, []string{`url_file: is set beside url`}},
		{Config{Driver: DriverPostgres, URL: "postgres://u:canary@h:port/db", MaxConns: 8}, []string{`url: (hidden): cannot be read`}},
		{Config{Driver: DriverNone, MaxParcels: -1, MaxBytes: -1, MaxShare: 101, Retention: -time.Second}, []string{`max_parcels: -1`, `max_bytes: -1`, `max_share: 101`, `retention: -1s`}},
	} {
		err := c.cfg.Validate()
		require.Error(t, err)
		lines := strings.Split(err.Error(), "\n")
		require.Len(t, lines, len(c.want), err)
		for i, want := range c.want {
			require.Contains(t, lines[i], want)
		}
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestFile(t *testing.T) {
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	for _, c := range []struct{ path, state, xdg, want string }{
		{"/a/b.db", "/s", "/x", "/a/b.db"},
		{"", "/s", "/x", "/s/vodrelay.db"},
		{"", "/s:/t", "", "/s/vodrelay.db"},
		{"", "", "/x", "/x/vodrelay/vodrelay.db"},
		{"", "relative", "also", filepath.Join(home, ".local/state/vodrelay/vodrelay.db")},
	} {
		t.Setenv("STATE_DIRECTORY", c.state)
		t.Setenv("XDG_STATE_HOME", c.xdg)
		got, err := Config{Path: c.path}.File()
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "")
	_, err = Config{}.File()
	require.ErrorContains(t, err, "set path")
}

func TestText(t *testing.T) {
	for _, s := range []string{"", "a", "größer", "\x00", "a\x00", "\xff", "base64:", "base64:AAAA", "base64:!", "base64:base64:AA=="} {
		stored := toText(s)
		require.Equal(t, s, fromText(stored))
		require.NotContains(t, stored, "\x00")
	}
	require.Equal(t, "base64:!", fromText("base64:!"), "what someone else wrote")
}

func FuzzText(f *testing.F) {
	f.Add("base64:AAAA", "a\x00\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		require.Equal(t, a, fromText(toText(a)))
		require.Equal(t, a == b, toText(a) == toText(b))
		require.LessOrEqual(t, len(errorText(a)), event.MaxParcelError)
	})
}

func TestID(t *testing.T) {
	id := func(c Config) string {
		t.Helper()
		text, err := c.ID()
		require.NoError(t, err)
		return text
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Symlink(path, filepath.Join(dir, "link.db")))
	file := id(Config{Driver: DriverSQLite, Path: path})
	require.Equal(t, file, id(Config{Driver: DriverSQLite, Path: filepath.Join(dir, "link.db"), MaxBytes: 5}))
	require.NotEqual(t, file, id(Config{Driver: DriverSQLite, Path: path + "2"}))
	require.Len(t, file, 16)

	base := Config{Driver: DriverPostgres, URL: "postgres://a:hunter2@db:5432/vod"}
	require.Equal(t, id(base), id(Config{Driver: DriverPostgres, URL: "host=db user=b password=other dbname=vod"}))
	for _, url := range []string{"postgres://a@db:5433/vod", "postgres://a@db2/vod", "postgres://a@db/other", "postgres://a@db/vod?search_path=two"} {
		require.NotEqual(t, id(base), id(Config{Driver: DriverPostgres, URL: url}), url)
	}
	require.Empty(t, id(Config{Driver: DriverNone}))
	_, err := Config{Driver: DriverPostgres, URL: "postgres://a:hunter2@[/"}.ID()
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}
