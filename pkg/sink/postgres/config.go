package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/vodrelay/vodrelay/pkg/expression"
	"github.com/vodrelay/vodrelay/pkg/internal/conns"
	"github.com/vodrelay/vodrelay/pkg/internal/secretfile"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/tlsconf"
)

// Config is what the sink's own keys say.
type Config struct {
	URL              string            `mapstructure:"url" secret:"true" doc:"Database, such as postgres://user@host:5432/app?sslmode=verify-full. A password is better kept in url_file, PGPASSWORD or PGPASSFILE."`
	URLFile          string            `mapstructure:"url_file" doc:"Path of a file with the url, instead of url. Read again at each connection."`
	TLS              tlsconf.Config    `mapstructure:"tls" doc:"TLS of the connections; 1.2 or newer. With any of its keys the server is verified as they say, in place of the sslmode in url."`
	Table            string            `mapstructure:"table" default:"vodrelay_events" doc:"Table, such as vodrelay_events or media.events. As in SQL, capital letters count only in double quotes."`
	CreateTable      bool              `mapstructure:"create_table" default:"false" doc:"Create the table when it is not there. Only without columns."`
	Columns          map[string]string `mapstructure:"columns" doc:"Columns to fill, name to expression, such as {file_id: payload.FileId, received: event}. A json or jsonb column gets the JSON of the result, every other column its text. Empty: the columns of the default table."`
	IDColumn         string            `mapstructure:"id_column" default:"event_id" doc:"Column with a unique index or the primary key, by which an event that comes again is known, together with sub_app_id_column. It gets the event's ID (32 hexadecimal digits, which a uuid column takes too) unless columns has an expression for it."`
	SubAppIDColumn   string            `mapstructure:"sub_app_id_column" default:"sub_app_id" doc:"Second column of that unique index, since events of two applications can have one ID. It gets the application's number, 0 when none is named, unless columns has an expression for it. Empty: the index is on id_column alone, as is enough for the events of one application."`
	MaxConns         int               `mapstructure:"max_conns" default:"4" doc:"Most connections, 1 to 100. Each writes one batch at a time."`
	BatchRows        int               `mapstructure:"batch_rows" default:"500" doc:"Most rows in one batch, 1 to 10000. A batch is what waits when a connection is free; nothing waits for company."`
	StatementTimeout time.Duration     `mapstructure:"statement_timeout" default:"5s" doc:"Longest time that the server works on one batch, such as 5s; 100ms to 10m. Best shorter than the sink's timeout, so that the reason is told."`
}

// DefaultConfig lacks only the URL.
func DefaultConfig() Config {
	return Config{Table: "vodrelay_events", IDColumn: "event_id", SubAppIDColumn: "sub_app_id", MaxConns: 4, BatchRows: 500, StatementTimeout: 5 * time.Second}
}

// connectTimeout applies to each host of the URL, unless its connect_timeout says otherwise.
const connectTimeout = 5 * time.Second

// Validate reports every value that makes no sense, and every file that cannot be read.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.URL == "" && c.URLFile == "":
		fail(`url: "": name the database, such as postgres://user@host:5432/app`)
	case c.URL != "" && c.URLFile != "":
		fail("url_file: is set beside url: remove one of the two")
	case c.URLFile != "":
		errs = append(errs, secretfile.Validate("url_file", c.URLFile, func(text string) error {
			_, err := parseURL(text)
			return err
		}))
	default:
		if _, err := parseURL(c.URL); err != nil {
			fail("url: (hidden): %w", err)
		}
	}
	if _, err := c.TLS.Load(); err != nil {
		errs = append(errs, err)
	}
	if _, err := parseName(c.Table, 3); err != nil {
		fail("table: %q: %w", c.Table, err)
	}
	if c.CreateTable && len(c.Columns) > 0 {
		fail("create_table: true: only the default table can be created: remove columns, or create the table yourself and remove create_table")
	}
	_, err := c.columns()
	errs = append(errs, err)
	if c.MaxConns < 1 || c.MaxConns > 100 {
		fail("max_conns: %d: must be from 1 to 100", c.MaxConns)
	}
	if c.BatchRows < 1 || c.BatchRows > 10_000 {
		fail("batch_rows: %d: must be from 1 to 10000", c.BatchRows)
	}
	if c.StatementTimeout < 100*time.Millisecond || c.StatementTimeout > 10*time.Minute {
		fail("statement_timeout: %s: must be from 100ms to 10m", c.StatementTimeout)
	}
	return errors.Join(errs...)
}

// columns are what each row consists of, those of the key first. The errors are joined.
func (c Config) columns() ([]column, error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	id, err := parseColumn(c.IDColumn)
	if err != nil {
		fail("id_column: %q: %w", c.IDColumn, err)
	}
	keys := []string{id}
	if c.SubAppIDColumn != "" {
		app, err := parseColumn(c.SubAppIDColumn)
		switch {
		case err != nil:
			fail("sub_app_id_column: %q: %w", c.SubAppIDColumn, err)
		case app == id:
			fail("sub_app_id_column: %q: is the column of id_column, choose another one", c.SubAppIDColumn)
		default:
			keys = append(keys, app)
		}
	}
	sources := make(map[string]string)
	if len(c.Columns) == 0 {
		maps.Copy(sources, defaultColumns)
		if len(keys) == 1 {
			sources[applicationColumn] = "sub_app_id"
		}
	}
	for i, name := range keys {
		sources[name] = []string{"id", "sub_app_id"}[i]
	}
	for _, written := range slices.Sorted(maps.Keys(c.Columns)) {
		name, err := parseColumn(written)
		if err != nil {
			fail("columns: %q: %w", written, err)
			continue
		}
		if _, twice := sources[name]; twice && !slices.Contains(keys, name) {
			fail("columns: %q: names the column %s a second time, remove one of the two", written, name)
		}
		sources[name] = c.Columns[written]
	}
	columns := make([]column, 0, len(sources)+2)
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		x, err := expression.Compile(sources[name])
		if err != nil {
			fail("columns: %q: %w", name, err)
		}
		columns = append(columns, column{name: name, expr: x, key: slices.Contains(keys, name)})
	}
	if len(c.Columns) == 0 {
		for i, name := range keys {
			if name == contentColumn || name == exactColumn {
				fail("%s: %q: is the column of the content in the default table, choose another name", []string{"id_column", "sub_app_id_column"}[i], name)
			}
		}
		columns = append(columns, column{name: contentColumn}, column{name: exactColumn, exact: true})
	}
	place := func(c column) int {
		if i := slices.Index(keys, c.name); i >= 0 {
			return i
		}
		return len(keys)
	}
	slices.SortStableFunc(columns, func(a, b column) int { return place(a) - place(b) })
	return columns, errors.Join(errs...)
}

// parseURL reads an address. pgx's own error is left out, since it may show a part of a password.
func parseURL(text string) (*pgxpool.Config, error) {
	if scheme, _, found := strings.Cut(text, "://"); found && scheme != "postgres" && scheme != "postgresql" && !strings.Contains(scheme, "=") {
		return nil, errors.New("must begin with postgres://, as in postgres://user@host:5432/database") // pgx would take it for no address at all
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil || strings.TrimSpace(text) == "" {
		return nil, errors.New("cannot be read: write postgres://user:password@host:5432/database?sslmode=verify-full, special characters of the password percent-encoded, and check the files that it names")
	}
	return config, nil
}

// pool is the configuration of connections that are made with what the files say at that moment.
func (c Config) pool() (*pgxpool.Config, error) {
	file := secretfile.New("url_file", c.URLFile)
	fresh := func() (*pgxpool.Config, error) {
		url := c.URL
		if c.URLFile != "" {
			var err error
			if url, err = file.Get(); err != nil {
				return nil, err
			}
		}
		config, err := parseURL(url)
		if err != nil {
			return nil, retry.WithHint(fmt.Errorf("url_file: (hidden): %w", err), "correct the address in the file")
		}
		if err := c.secure(config.ConnConfig); err != nil {
			return nil, retry.WithHint(err, "let the user that runs vodrelay read the file")
		}
		dial := config.ConnConfig.DialFunc
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil && network != "unix" {
				err = &neterr.DialError{Address: address, Err: err}
			}
			return conn, err
		}
		// Nothing is prepared: every batch is one way to the server and back, under its own statement_timeout from the
		// first byte on, and a pooler may give each another connection.
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		if config.ConnConfig.ConnectTimeout == 0 {
			config.ConnConfig.ConnectTimeout = connectTimeout
		}
		for name, value := range map[string]string{"application_name": "vodrelay", "client_encoding": "UTF8"} {
			if _, set := config.ConnConfig.RuntimeParams[name]; !set {
				config.ConnConfig.RuntimeParams[name] = value
			}
		}
		return config, nil
	}
	config, err := fresh()
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(c.MaxConns)
	config.MinConns, config.MinIdleConns = 0, 0 // nothing connects before the first Send
	config.MaxConnIdleTime = 5 * time.Minute
	config.MaxConnLifetime, config.MaxConnLifetimeJitter = conns.MaxAge-conns.Jitter, conns.Jitter
	config.BeforeConnect = func(_ context.Context, next *pgx.ConnConfig) error {
		renewed, err := fresh()
		if err == nil {
			*next = *renewed.ConnConfig
		}
		return err
	}
	return config, nil
}

// secure has every host of config be spoken to as the section tls says, if it says anything.
func (c Config) secure(config *pgx.ConnConfig) error {
	if c.TLS == (tlsconf.Config{}) {
		return nil
	}
	base, err := c.TLS.Load()
	if err != nil {
		return err
	}
	forHost := func(host string) *tls.Config {
		if strings.HasPrefix(host, "/") { // a unix socket, on which PostgreSQL has no TLS
			return nil
		}
		named := base.Clone()
		if named.ServerName == "" {
			named.ServerName = host
		}
		return named
	}
	config.TLSConfig = forHost(config.Host)
	type address struct {
		host string
		port uint16
	}
	seen := map[address]bool{{config.Host, config.Port}: true}
	// sslmode=prefer has each host twice, with and without TLS.
	config.Fallbacks = slices.DeleteFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		f.TLSConfig = forHost(f.Host)
		twice := seen[address{f.Host, f.Port}]
		seen[address{f.Host, f.Port}] = true
		return twice
	})
	return nil
}

// hosts are those of a URL, each once.
func hosts(config *pgx.ConnConfig) []string {
	all := []string{config.Host}
	for _, f := range config.Fallbacks {
		if !slices.Contains(all, f.Host) {
			all = append(all, f.Host)
		}
	}
	return all
}
