package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/store"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// storeAt is the configuration of an SQLite store.
func storeAt(path ...string) string {
	return fmt.Sprintf("store: {path: %q}\n", filepath.Join(path...))
}

// madeStore is a store that a vodrelay made, after the statements.
func madeStore(t *testing.T, dir string, statements ...string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "s.db")
	made, err := store.Open(t.Context(), store.Config{Driver: store.DriverSQLite, Path: path}, zap.NewNop())
	require.NoError(t, err)
	require.NoError(t, made.Close(t.Context()))
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	for _, statement := range statements {
		_, err := db.Exec(statement)
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	return path
}

// fill leaves no room on a volume.
func fill(t *testing.T, dir string) {
	t.Helper()
	err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 16<<20), 0o600)
	require.ErrorIs(t, err, syscall.ENOSPC)
}

func readOnly(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
}

const newerSchema = `UPDATE vodrelay_schema SET version = 99`

var brokenStores = []broken{
	{"store in a directory of another owner", nobody, func(t *testing.T, _ *setup) string {
		return storeAt(openDir(t), "s.db")
	}, hopeless, "permission denied"},
	{"store in a directory that may not be made", nobody, func(t *testing.T, _ *setup) string {
		return storeAt(openDir(t), "state", "vodrelay", "s.db")
	}, hopeless, "permission denied"},
	{"store of another owner", nobody, func(t *testing.T, _ *setup) string {
		dir := openDir(t)
		path := madeStore(t, dir)
		require.NoError(t, os.Chmod(dir, 0o777))
		return storeAt(path)
	}, hopeless, "permission denied"},
	{"store that may only be read", nobody, func(t *testing.T, _ *setup) string {
		dir := openDir(t)
		path := madeStore(t, dir)
		require.NoError(t, os.Chmod(dir, 0o777))
		require.NoError(t, os.Chmod(path, 0o444))
		return storeAt(path)
	}, hopeless, "permission denied"},
	{"store in a directory that may only be read", nobody, func(t *testing.T, _ *setup) string {
		path := madeStore(t, openDir(t))
		require.NoError(t, os.Chmod(path, 0o666))
		return storeAt(path)
	}, hopeless, "permission denied"},
	{"store to be made on a read-only volume", 0, func(t *testing.T, _ *setup) string {
		dir := volume(t)
		readOnly(t, dir)
		return storeAt(dir, "state", "s.db")
	}, passing, "read-only file system"},
	{"store on a read-only volume", 0, func(t *testing.T, _ *setup) string {
		dir := volume(t)
		path := madeStore(t, dir)
		readOnly(t, dir)
		return storeAt(path)
	}, passing, "read-only file system"},
	{"store to be made on a full volume", 0, func(t *testing.T, _ *setup) string {
		dir := volume(t)
		fill(t, dir)
		return storeAt(dir, "s.db")
	}, passing, "no space left on device"},
	{"store on a full volume", 0, func(t *testing.T, _ *setup) string {
		dir := volume(t)
		path := madeStore(t, dir)
		fill(t, dir)
		return storeAt(path)
	}, passing, "full"},
	{"store under a file", 0, func(t *testing.T, _ *setup) string {
		path := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		return storeAt(path, "s.db")
	}, hopeless, "not a directory"},
	{"store that is a directory", 0, func(t *testing.T, _ *setup) string { return storeAt(t.TempDir()) }, hopeless, "is not a regular file"},
	{"store that is a link to itself", 0, func(t *testing.T, _ *setup) string {
		path := filepath.Join(t.TempDir(), "s.db")
		require.NoError(t, os.Symlink(path, path))
		return storeAt(path)
	}, hopeless, "too many levels of symbolic links"},
	{"store that is no database", 0, func(t *testing.T, _ *setup) string {
		path := filepath.Join(t.TempDir(), "s.db")
		require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("a text\n", 1000)), 0o600))
		return storeAt(path)
	}, hopeless, "is not an SQLite database"},
	{"store of a newer version", 0, func(t *testing.T, _ *setup) string {
		return storeAt(madeStore(t, t.TempDir(), newerSchema))
	}, hopeless, "this program knows up to"},
	{"store of an older version", 0, func(t *testing.T, _ *setup) string {
		return storeAt(madeStore(t, t.TempDir(), `DROP TABLE vodrelay_settled`, `UPDATE vodrelay_schema SET version = 1`))
	}, fine, "converted"},
	{"store that is not there yet", 0, func(t *testing.T, _ *setup) string {
		return storeAt(t.TempDir(), "state", "s.db")
	}, fine, "will be made"},
	{"store of a vodrelay that runs elsewhere", 0, func(t *testing.T, _ *setup) string {
		path := filepath.Join(t.TempDir(), "s.db")
		other, err := store.Open(t.Context(), store.Config{Driver: store.DriverSQLite, Path: path}, zap.NewNop())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, other.Close(context.Background())) })
		return storeAt(path)
	}, busy, "another process has locked"},
	{"store that another program keeps locked", 0, func(t *testing.T, _ *setup) string {
		path := madeStore(t, t.TempDir())
		db, err := sql.Open("sqlite", path+"?_txlock=immediate")
		require.NoError(t, err)
		tx, err := db.Begin()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, tx.Rollback()); require.NoError(t, db.Close()) })
		return storeAt(path)
	}, passing, "database is locked"},
}

// databaseAt is the configuration of a PostgreSQL store.
func databaseAt(url string) string { return fmt.Sprintf("store: {driver: postgres, url: %q}\n", url) }

// order runs statements in a database.
func order(t *testing.T, database string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	require.NoError(t, conn.Close(t.Context()))
}

// user is url with another user.
func user(t *testing.T, address, name string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.User(name)
	return u.String()
}

// bouncerBefore is the address of a database through a PgBouncer.
func bouncerBefore(t *testing.T, server *pgtest.Server, mode, database string, settings ...string) string {
	t.Helper()
	address, err := pgtest.StartBouncer(t, server, mode, settings...).URL(database)
	require.NoError(t, err)
	return address
}

// overTCP is the address of a database that is otherwise reached through a unix socket.
func overTCP(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	socket := filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432")
	var pipes sync.WaitGroup
	pipes.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", socket)
			if err != nil {
				_ = client.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
				pipes.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() { _ = l.Close(); pipes.Wait() })
	u.Host, u.RawQuery = l.Addr().String(), ""
	return u.String()
}

var brokenServers = []broken{
	{"PostgreSQL that is away", 0, func(t *testing.T, _ *setup) string {
		server := pgtest.Start(t)
		database := server.Database()
		server.Stop()
		return databaseAt(database)
	}, passing, "failed to connect"},
	{"PostgreSQL", 0, func(_ *testing.T, s *setup) string { return databaseAt(s.postgres().Database()) }, fine, "will be made"},
	{"PostgreSQL without the right to create tables", 0, func(t *testing.T, s *setup) string {
		database := s.postgres().Database()
		order(t, database, `CREATE ROLE storing LOGIN`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
		return databaseAt(user(t, database, "storing"))
	}, hopeless, "permission denied"},
	{"PostgreSQL that is read-only", 0, func(t *testing.T, _ *setup) string {
		server := pgtest.Start(t)
		server.MakeReadOnly()
		return databaseAt(server.URL("postgres"))
	}, passing, "read-only transaction"},
	{"PostgreSQL without the database", 0, func(_ *testing.T, s *setup) string {
		return databaseAt(s.postgres().URL("nothing"))
	}, hopeless, "does not exist"},
	{"PostgreSQL without the user", 0, func(t *testing.T, s *setup) string {
		return databaseAt(user(t, s.postgres().Database(), "nobody"))
	}, hopeless, "does not exist"},
	{"PostgreSQL without TLS", 0, func(t *testing.T, s *setup) string {
		return databaseAt(overTCP(t, s.postgres().Database()) + "?sslmode=require")
	}, hopeless, "TLS"},
	{"PostgreSQL with tables of a newer version", 0, func(t *testing.T, s *setup) string {
		database := s.postgres().Database()
		made, err := store.Open(t.Context(), store.Config{Driver: store.DriverPostgres, URL: database, MaxConns: 2}, zap.NewNop())
		require.NoError(t, err)
		require.NoError(t, made.Close(t.Context()))
		order(t, database, newerSchema)
		return databaseAt(database)
	}, hopeless, "this program knows up to"},
	{"PostgreSQL whose address is in a file of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "url")
		require.NoError(t, os.WriteFile(path, []byte("postgres://127.0.0.1/vodrelay"), 0o600))
		return fmt.Sprintf("store: {driver: postgres, url_file: %q}\n", path)
	}, hopeless, "permission denied"},
	{"PgBouncer", 0, func(t *testing.T, s *setup) string {
		return databaseAt(bouncerBefore(t, s.postgres(), "transaction", s.postgres().Database()))
	}, fine, "will be made"},
	{"PgBouncer in statement mode", 0, func(t *testing.T, s *setup) string {
		return databaseAt(bouncerBefore(t, s.postgres(), "statement", s.postgres().Database()))
	}, hopeless, "statement pooling"},
	{"PgBouncer that refuses a parameter", 0, func(t *testing.T, s *setup) string {
		return databaseAt(bouncerBefore(t, s.postgres(), "transaction", s.postgres().Database()) + "&statement_timeout=1000")
	}, hopeless, "startup parameter"},
	{"PgBouncer without the right to create tables", 0, func(t *testing.T, s *setup) string {
		database := s.postgres().Database()
		order(t, database, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET role = pg_monitor', current_database()); END $$`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
		return databaseAt(bouncerBefore(t, s.postgres(), "transaction", database))
	}, hopeless, "permission denied"},
	{"PgBouncer whose server has no such database", 0, func(t *testing.T, s *setup) string {
		return databaseAt(bouncerBefore(t, s.postgres(), "transaction", s.postgres().URL("nothing")))
	}, hopeless, "does not exist"},
	{"PgBouncer whose server is away", 0, func(t *testing.T, _ *setup) string {
		server := pgtest.Start(t)
		address := bouncerBefore(t, server, "transaction", server.URL("postgres"))
		server.Stop()
		return databaseAt(address)
	}, passing, "PostgreSQL server"},
}
