package postgres

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
)

// testTrouble is what a person has to mend: never the end of an event, told by Check and Send alike, and over when it is
// mended.
func testTrouble(t *testing.T, database string) {
	name := query[string](t, database, `SELECT current_database()`)[0]
	asApp := strings.Replace(database, "postgres@", "app@", 1)
	exec(t, database, `CREATE ROLE app LOGIN`, `GRANT USAGE, CREATE ON SCHEMA public TO app`)
	t.Cleanup(func() { exec(t, database, `DROP OWNED BY app`, `DROP ROLE app`) })
	const key = `PRIMARY KEY (event_id, sub_app_id)`
	const plain = `CREATE TABLE vodrelay_events (event_id text, event_type text, sub_app_id numeric, subject text, content json, content_bytes bytea, ` + key + `)`
	for _, c := range []struct {
		name, url    string
		change       func(*Config)
		before, mend []string
		text, hint   string
		blind        bool // Check does not see it
	}{
		{name: "no table", text: `table "vodrelay_events" does not exist, SQLSTATE 42P01`, hint: "create_table", mend: []string{plain}},
		{name: "no schema", change: func(c *Config) { c.Table = "media.vodrelay_events" }, text: `the schema of table "media"."vodrelay_events" does not exist`, hint: "CREATE SCHEMA",
			mend: []string{`CREATE SCHEMA media`, strings.Replace(plain, "vodrelay", "media.vodrelay", 1)}},
		{name: "no schema to create in", change: func(c *Config) { c.Table, c.CreateTable = "media2.vodrelay_events", true }, text: `does not exist, SQLSTATE 3F000`, hint: "CREATE SCHEMA",
			mend: []string{`CREATE SCHEMA media2`}},
		{name: "no column", before: []string{`CREATE TABLE vodrelay_events (event_id text, event_type text, sub_app_id numeric, subject text, content json, ` + key + `)`},
			text: `has no column "content_bytes"`, hint: "add the column", mend: []string{`ALTER TABLE vodrelay_events ADD content_bytes bytea`}},
		{name: "no index", before: []string{strings.Replace(plain, ", "+key, "", 1), `CREATE UNIQUE INDEX ON vodrelay_events (event_id, subject)`},
			text: `has no unique index on ("event_id", "sub_app_id") alone`, hint: `CREATE UNIQUE INDEX ON "vodrelay_events" ("event_id", "sub_app_id")`, mend: []string{`CREATE UNIQUE INDEX ON vodrelay_events (event_id, sub_app_id)`}},
		{name: "index on the ID alone", before: []string{strings.Replace(plain, key, "PRIMARY KEY (event_id)", 1)},
			text: `has no unique index on ("event_id", "sub_app_id") alone`, hint: `drop an index or primary key on "event_id" alone`, mend: []string{`ALTER TABLE vodrelay_events DROP CONSTRAINT vodrelay_events_pkey, ADD ` + key}},
		{name: "no application", before: []string{`CREATE TABLE vodrelay_events (event_id text PRIMARY KEY, type text)`}, change: func(c *Config) { c.Columns = map[string]string{"type": "type"} },
			text: `has no column "sub_app_id"`, hint: `ADD COLUMN "sub_app_id" numeric(20) NOT NULL DEFAULT 0`,
			mend: []string{`ALTER TABLE vodrelay_events ADD COLUMN sub_app_id numeric(20) NOT NULL DEFAULT 0, DROP CONSTRAINT vodrelay_events_pkey, ADD ` + key}},
		{name: "no index on the ID alone", before: []string{plain}, change: func(c *Config) { c.SubAppIDColumn = "" },
			text: `has no unique index on ("event_id") alone`, hint: `CREATE UNIQUE INDEX ON "vodrelay_events" ("event_id"), without`, mend: []string{`ALTER TABLE vodrelay_events ADD UNIQUE (event_id)`}},
		{name: "deferrable index", before: []string{strings.Replace(plain, "PRIMARY KEY", "UNIQUE", 1), `ALTER TABLE vodrelay_events DROP CONSTRAINT vodrelay_events_event_id_sub_app_id_key, ADD CONSTRAINT late UNIQUE (event_id, sub_app_id) DEFERRABLE`}, blind: true,
			text: `has no unique index on ("event_id", "sub_app_id") alone`, hint: "not deferrable", mend: []string{`ALTER TABLE vodrelay_events DROP CONSTRAINT late`, `CREATE UNIQUE INDEX ON vodrelay_events (event_id, sub_app_id)`}},
		{name: "no grant", url: asApp, before: []string{plain}, text: `the user may not write to table "vodrelay_events", SQLSTATE 42501`, hint: `GRANT INSERT, SELECT ("event_id", "sub_app_id") ON "vodrelay_events"`, mend: []string{`GRANT INSERT, SELECT (event_id, sub_app_id) ON vodrelay_events TO app`}},
		{name: "row policy", url: asApp, before: []string{plain, `GRANT INSERT, SELECT ON vodrelay_events TO app`, `ALTER TABLE vodrelay_events ENABLE ROW LEVEL SECURITY`,
			`CREATE POLICY p ON vodrelay_events FOR SELECT USING (true)`}, blind: true,
			text: `the user may not write to table`, hint: "GRANT", mend: []string{`CREATE POLICY q ON vodrelay_events FOR INSERT WITH CHECK (true)`}},
		{name: "read-only", before: []string{plain, `ALTER DATABASE ` + name + ` SET default_transaction_read_only = on`}, text: "takes no writes", hint: "primary",
			mend: []string{`SET default_transaction_read_only = off`, `ALTER DATABASE ` + name + ` RESET default_transaction_read_only`}},
		{name: "no database", url: strings.Replace(database, name, "nowhere", 1), text: "database nowhere on " + filepath.Dir(socket(t, database)) + ": the database does not exist, SQLSTATE 3D000", hint: "createdb"},
		{name: "no user", url: strings.Replace(database, "postgres@", "nobody:s3cr3t-pw@", 1), text: "refuses the user or the password", hint: "pg_hba.conf"},
		{name: "no connection left", url: asApp, before: []string{plain, `ALTER ROLE app CONNECTION LIMIT 0`, `GRANT INSERT, SELECT ON vodrelay_events TO app`}, text: "no connection left", hint: "max_connections",
			mend: []string{`ALTER ROLE app CONNECTION LIMIT -1`}},
		{name: "wrong type", before: []string{`CREATE TABLE vodrelay_events (event_id text, event_type text GENERATED ALWAYS AS (event_id) STORED, sub_app_id numeric, subject text, content json, content_bytes bytea, ` + key + `)`},
			text: "cannot be written to: cannot insert a non-DEFAULT value", hint: "correct table or columns"},
		{name: "no socket", url: "postgres://app:s3cr3t-pw@/db?host=/nowhere", text: "database db on /nowhere: there is no socket", hint: "start the PostgreSQL server"},
		{name: "nothing there", url: "postgres://app:s3cr3t-pw@127.0.0.1:1/db", text: "database db on 127.0.0.1: connection refused", hint: "nothing listens there: start the PostgreSQL server"},
		{name: "nothing at two hosts", url: "postgres://app:s3cr3t-pw@127.0.0.1:1,localhost:2/db", text: "database db on 127.0.0.1,localhost (127.0.0.1:1): connection refused", hint: "nothing listens there"},
		{name: "no host", url: "postgres://app:s3cr3t-pw@nowhere.invalid/db", text: `host "nowhere.invalid"`, hint: "DNS"},
		{name: "no TLS", url: newProxy(t, socket(t, database)).url(database) + "&sslmode=require", text: "does not speak TLS", hint: "sslmode=disable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			exec(t, database, append([]string{`DROP TABLE IF EXISTS vodrelay_events`}, c.before...)...)
			s := open(t, database, func(cfg *Config) {
				cfg.CreateTable = false
				if c.url != "" {
					cfg.URL = c.url
				}
				if c.change != nil {
					c.change(cfg)
				}
			})
			errs := []error{send(t, s, sinktest.Upload(0)), send(t, s, sinktest.Upload(0)), send(t, s, sinktest.Upload(1))}
			if !c.blind {
				errs = append(errs, s.Check(t.Context()))
			} else {
				require.NoError(t, s.Check(t.Context()))
			}
			for _, err := range errs {
				require.ErrorContains(t, err, c.text)
				require.NotContains(t, err.Error(), "s3cr3t-pw")
				require.Contains(t, retry.Hint(err), c.hint)
				require.False(t, retry.IsPermanent(err), err)
			}
			require.Equal(t, errs[0].Error(), errs[1].Error())
			if c.mend == nil {
				return
			}
			exec(t, database, c.mend...)
			require.Eventually(t, func() bool { return send(t, s, sinktest.Upload(0)) == nil }, 20*time.Second, 10*time.Millisecond)
			require.NoError(t, s.Check(t.Context()))
		})
	}
	t.Run("locked", func(t *testing.T) {
		exec(t, database, `DROP TABLE IF EXISTS vodrelay_events`, plain)
		conn, err := pgx.Connect(t.Context(), database)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(t.Context(), `BEGIN; LOCK TABLE vodrelay_events`)
		require.NoError(t, err)
		s := open(t, database, func(c *Config) { c.CreateTable = false; c.StatementTimeout = 200 * time.Millisecond })
		err = send(t, s, sinktest.Upload(0))
		require.ErrorContains(t, err, "it was too slow for statement_timeout, SQLSTATE 57014")
		require.False(t, retry.IsPermanent(err))
		_, err = conn.Exec(t.Context(), `ROLLBACK`)
		require.NoError(t, err)
		require.NoError(t, send(t, s, sinktest.Upload(0)))
	})
}

// testRefusals is what no further attempt can cure.
func testRefusals(t *testing.T, database string) {
	exec(t, database, `CREATE TABLE parents (id text PRIMARY KEY)`, `CREATE TABLE events (event_id text PRIMARY KEY, a text UNIQUE, b varchar(3), c text NOT NULL DEFAULT '', d integer,
		e text REFERENCES parents, f text, g date, h text[])`, `CREATE INDEX ON events (f)`)
	for _, c := range []struct{ column, value, text string }{
		{"a", `"x"`, `refuses the row (constraint "events_a_key"), SQLSTATE 23505`},
		{"b", `"longer"`, `does not take a value: value too long for type character varying(N), SQLSTATE 22001`},
		{"c", `null`, `refuses the row (column "c"), SQLSTATE 23502`},
		{"d", `1.5`, `does not take a value: invalid input syntax for type integer: "...", SQLSTATE 22P02`},
		{"d", `3000000000`, `SQLSTATE 22003`},
		{"e", `"x"`, `refuses the row (constraint "events_e_fkey"), SQLSTATE 23503`},
		{"f", `"` + random(9000) + `"`, `cannot hold the row: index row`},
		{"g", `"2018-13-01"`, `SQLSTATE 22008`},
		{"h", `["x"]`, `SQLSTATE 22P02`},
	} {
		s := open(t, database, func(cfg *Config) {
			cfg.CreateTable, cfg.Table, cfg.SubAppIDColumn, cfg.Columns = false, "events", "", map[string]string{c.column: "payload.x"}
		})
		require.NoError(t, s.Check(t.Context()))
		if c.column == "a" {
			require.NoError(t, send(t, s, decode(`{"EventType":"A","P":{"x":"x"}}`)))
		}
		err := send(t, s, decode(`{"EventType":"B","P":{"y":1,"x":`+c.value+`}}`))
		require.ErrorContains(t, err, `table "events" `)
		require.ErrorContains(t, err, c.text)
		require.True(t, retry.IsPermanent(err))
		require.NotEmpty(t, retry.Hint(err))
	}
	s := open(t, database, func(cfg *Config) {
		cfg.CreateTable, cfg.Table, cfg.SubAppIDColumn, cfg.Columns = false, "events", "", map[string]string{"event_id": "payload.FileId"}
	})
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	err := send(t, s, decode(`{"EventType":"B"}`))
	require.ErrorContains(t, err, "the expression gives null")
	require.True(t, retry.IsPermanent(err))
	require.Equal(t, []string{"5285890784273533167"}, query[string](t, database, `SELECT event_id FROM events WHERE event_id LIKE '5%' AND length(event_id) < 32`))
}

// random is a text of n bytes that cannot be compressed much.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return string(b)
}

// testCreation has many replicas come up at once, and the table go away.
func testCreation(t *testing.T, database string) {
	exec(t, database, `CREATE SCHEMA media`)
	sinks := make([]*Sink, 8)
	var all sync.WaitGroup
	errs := make([]error, 2*len(sinks))
	for i := range sinks {
		sinks[i] = open(t, database, func(c *Config) { c.Table, c.IDColumn = "media.vod", "Key" })
		all.Go(func() { errs[2*i] = sinks[i].Check(context.Background()) })
		all.Go(func() { errs[2*i+1] = sinks[i].Send(context.Background(), sinktest.Upload(i)) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, []int64{8}, query[int64](t, database, `SELECT count(DISTINCT key) FROM media.vod`))
	exec(t, database, `DROP TABLE media.vod`)
	require.NoError(t, send(t, sinks[0], sinktest.Upload(0)))
	require.NoError(t, sinks[1].Check(t.Context()))
	require.NoError(t, send(t, sinks[1], sinktest.Upload(0)))
	require.Equal(t, []int64{1}, query[int64](t, database, `SELECT count(*) FROM media.vod`))
}

// testChangedTable alters the table under the sink.
func testChangedTable(t *testing.T, database string) {
	exec(t, database, `CREATE TABLE events (event_id text PRIMARY KEY, a integer, b text)`)
	s := open(t, database, func(c *Config) {
		c.CreateTable, c.Table, c.SubAppIDColumn, c.Columns = false, "events", "", map[string]string{"a": "payload.a", "b": "payload.b"}
	})
	require.NoError(t, send(t, s, decode(`{"EventType":"A","P":{"a":1,"b":"one"}}`)))
	exec(t, database, `ALTER TABLE events ALTER a TYPE text, ALTER b TYPE jsonb USING to_jsonb(b)`)
	require.NoError(t, send(t, s, decode(`{"EventType":"A","P":{"a":"x","b":"two"}}`)))
	exec(t, database, `ALTER TABLE events DROP COLUMN b`)
	err := send(t, s, decode(`{"EventType":"A","P":{"a":"y","b":"three"}}`))
	require.ErrorContains(t, err, `has no column "b"`)
	require.False(t, retry.IsPermanent(err))
	exec(t, database, `ALTER TABLE events ADD b json`)
	require.NoError(t, send(t, s, decode(`{"EventType":"A","P":{"a":"y","b":"three"}}`)))
	require.Equal(t, []string{`1`, `x`, `y"three"`}, query[string](t, database, `SELECT a || coalesce(CAST(b AS text), '') FROM events ORDER BY a`))
}

// testURLFile moves the sink to another host while it runs, by its file.
func testURLFile(t *testing.T, database string) {
	old, moved := newProxy(t, socket(t, database)), newProxy(t, socket(t, database))
	file := filepath.Join(t.TempDir(), "url")
	write := func(text string) {
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write(old.url(database) + "\n")
	s := open(t, "", func(c *Config) { c.URLFile = file })
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	old.stop()
	write(moved.url(database))
	require.Eventually(t, func() bool { return send(t, s, sinktest.Upload(1)) == nil }, 20*time.Second, 10*time.Millisecond)
	moved.stop()
	write("postgres://u:s3cr3t-pw@[")
	require.Eventually(t, func() bool {
		err := send(t, s, sinktest.Upload(2))
		require.NotContains(t, err.Error(), "s3cr3t-pw")
		return strings.Contains(err.Error(), "url_file: (hidden): cannot be read") && retry.Hint(err) != ""
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, os.Remove(file))
	err := send(t, s, sinktest.Upload(2))
	require.ErrorContains(t, err, "url_file: ")
	require.Contains(t, retry.Hint(err), "read the file")
	require.False(t, retry.IsPermanent(err))
}

// certificate is one of 127.0.0.1 that signs itself.
func certificate(t *testing.T) (cert tls.Certificate, certFile, keyFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(kind string, content []byte) string {
		path := filepath.Join(t.TempDir(), "pem")
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
		return path
	}
	certFile, keyFile = write("CERTIFICATE", der), write("PRIVATE KEY", private)
	cert, err = tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	return cert, certFile, keyFile
}

func testTLS(t *testing.T, database string) {
	cert, ca, _ := certificate(t)
	client, clientFile, clientKey := certificate(t)
	clients := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(client.Certificate[0])
	require.NoError(t, err)
	clients.AddCert(leaf)
	p := newProxy(t, socket(t, database), &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert})

	for _, mode := range []string{"", "disable", "prefer", "verify-full"} { // the section decides
		s := open(t, strings.Replace(p.url(database), "disable", mode, 1), func(c *Config) {
			c.TLS.CAFile, c.TLS.CertFile, c.TLS.KeyFile = ca, clientFile, clientKey
		})
		require.NoError(t, s.Check(t.Context()), mode)
		require.NoError(t, send(t, s, sinktest.Upload(0)), mode)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		text   string
	}{
		"unknown authority": {func(c *Config) { c.TLS.CertFile, c.TLS.KeyFile = clientFile, clientKey }, "unknown authority"},
		"no certificate":    {func(c *Config) { c.TLS.CAFile = ca }, "certificate required"},
		"other name":        {func(c *Config) { c.TLS.CAFile, c.TLS.ServerName = ca, "db.example.com" }, "for another host"},
		"system's":          {func(c *Config) { c.URL = strings.Replace(c.URL, "disable", "verify-full", 1) }, "unknown authority"},
	} {
		s := open(t, p.url(database), c.change)
		err := send(t, s, sinktest.Upload(0))
		require.ErrorContains(t, err, c.text, name)
		require.NotEmpty(t, retry.Hint(err), name)
		require.False(t, retry.IsPermanent(err), name)
	}
}

func testCloseGivesUp(t *testing.T, database string) {
	p := newProxy(t, socket(t, database))
	s := open(t, p.url(database))
	require.NoError(t, send(t, s, sinktest.Upload(0)))
	resume := p.stall()
	sent := make(chan error, 1)
	go func() { sent <- s.Send(context.Background(), sinktest.Upload(1)) }()
	require.Eventually(t, func() bool { return s.pool.Stat().AcquiredConns() == 1 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.Close(ctx)
	require.ErrorContains(t, err, "rows were still on their way")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	err = <-sent
	require.Error(t, err)
	require.False(t, retry.IsPermanent(err))
	resume()

	// Without a limit it waits.
	s = open(t, p.url(database))
	resume = p.stall()
	go func() { sent <- s.Send(context.Background(), sinktest.Upload(2)) }()
	require.Eventually(t, func() bool { return s.pool.Stat().AcquiredConns()+s.pool.Stat().ConstructingConns() == 1 }, 10*time.Second, time.Millisecond)
	time.AfterFunc(100*time.Millisecond, resume)
	closeSink(t, s)
	require.NoError(t, <-sent)
}
