package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"
)

func TestValidate(t *testing.T) {
	const url = "postgres://vod:s3cr3t-pw@db.example.com:5432/app"
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte(url+"\n"), 0o600))
	bad := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(bad, []byte("postgres://vod:s3cr3t-pw@[/app"), 0o600))
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // "" for a good one
	}{
		{"good", func(*Config) {}, ""},
		{"file", func(c *Config) { c.URL, c.URLFile = "", file }, ""},
		{"keywords", func(c *Config) { c.URL = "host=/run/postgresql dbname=app" }, ""},
		{"no url", func(c *Config) { c.URL = "" }, `url: "": name the database`},
		{"both", func(c *Config) { c.URLFile = file }, "url_file: is set beside url: remove one"},
		{"odd url", func(c *Config) { c.URL = "postgres://vod:s3cr3t-pw@[" }, "url: (hidden): cannot be read: write postgres://"},
		{"no file", func(c *Config) { c.URL, c.URLFile = "", "/nowhere" }, `url_file: "/nowhere": no such file`},
		{"odd file", func(c *Config) { c.URL, c.URLFile = "", bad }, "cannot be read: write postgres://"},
		{"tls", func(c *Config) { c.TLS.CAFile = "/nowhere" }, `tls.ca_file: "/nowhere"`},
		{"schema", func(c *Config) { c.Table = `media."Vod Events"` }, ""},
		{"no table", func(c *Config) { c.Table = "" }, `table: "": lacks a name`},
		{"odd table", func(c *Config) { c.Table = "a; DROP TABLE b" }, "table: \"a; DROP TABLE b\": is not a name in SQL"},
		{"created with columns", func(c *Config) { c.CreateTable, c.Columns = true, map[string]string{"a": "id"} }, "create_table: true: only the default table"},
		{"odd column", func(c *Config) { c.Columns = map[string]string{"a.b": "id"} }, `columns: "a.b": has 2 parts`},
		{"odd expression", func(c *Config) { c.Columns = map[string]string{"a": "payloat.FileId"} }, `columns: "a": `},
		{"column twice", func(c *Config) { c.Columns = map[string]string{"A": "id", "a": "id"} }, `columns: "a": names the column a a second time`},
		{"own id", func(c *Config) { c.Columns = map[string]string{"Event_ID": "id"} }, ""},
		{"no id", func(c *Config) { c.IDColumn = "" }, `id_column: "": lacks a name`},
		{"id is content", func(c *Config) { c.IDColumn = "content" }, `id_column: "content": is the column of the content`},
		{"no application", func(c *Config) { c.SubAppIDColumn = "" }, ""},
		{"application is id", func(c *Config) { c.SubAppIDColumn = "EVENT_ID" }, `sub_app_id_column: "EVENT_ID": is the column of id_column`},
		{"application is content", func(c *Config) { c.SubAppIDColumn = "content_bytes" }, `sub_app_id_column: "content_bytes": is the column of the content`},
		{"odd application", func(c *Config) { c.SubAppIDColumn = "a b" }, `sub_app_id_column: "a b": `},
		{"own application", func(c *Config) { c.Columns = map[string]string{"SUB_app_id": "5"} }, ""},
		{"id replaces", func(c *Config) { c.IDColumn = "subject" }, ""},
		{"connections", func(c *Config) { c.MaxConns = 0 }, "max_conns: 0: must be from 1 to 100"},
		{"rows", func(c *Config) { c.BatchRows = 0 }, "batch_rows: 0: must be from 1"},
		{"timeout", func(c *Config) { c.StatementTimeout = time.Millisecond }, "statement_timeout: 1ms: must be from 100ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.URL = url
			c.change(&cfg)
			err := cfg.Validate()
			if c.want == "" {
				require.NoError(t, err)
				s, err := New(cfg, zaptest.NewLogger(t))
				require.NoError(t, err)
				closeSink(t, s)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "s3cr3t-pw")
			_, err = New(cfg, zaptest.NewLogger(t))
			require.Error(t, err)
		})
	}
	all := Config{Table: "", IDColumn: "", Columns: map[string]string{"a-b": "("}}.Validate()
	require.Len(t, strings.Split(all.Error(), "\n"), 7)
}

func TestParseName(t *testing.T) {
	for text, want := range map[string]string{
		"events":                            `"events"`,
		"Media.VOD_Events2":                 `"media"."vod_events2"`,
		`"Media"."a.b"`:                     `"Media"."a.b"`,
		`"a""b"`:                            `"a""b"`,
		"视频.événements":                     `"视频"."événements"`,
		"ÉA":                                `"Éa"`,
		`a."b";--`:                          "",
		`"a`:                                "",
		`""`:                                "",
		"a.":                                "",
		".a":                                "",
		"a.b.c":                             "",
		"2a":                                "",
		"a b":                               "",
		`a"b"`:                              "",
		"\"a\x00\"":                         "",
		strings.Repeat("é", 32):             "",
		`"` + strings.Repeat("a", 63) + `"`: `"` + strings.Repeat("a", 63) + `"`,
	} {
		name, err := parseName(text, 2)
		if want == "" {
			require.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, name.Sanitize())
	}
}

func FuzzParseName(f *testing.F) {
	for _, seed := range []string{"a.b", `"a""."."B"`, "É.$", `";--`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := parseName(text, 2)
		if err != nil {
			return
		}
		again, err := parseName(name.Sanitize(), 2)
		require.NoError(t, err)
		require.Equal(t, name, again)
	})
}
