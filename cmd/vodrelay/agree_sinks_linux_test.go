package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// webhookTo is a sink to an endpoint that answers HEAD with a status, and all else with 200.
func webhookTo(status int) func(*testing.T, *setup) string {
	return func(t *testing.T, _ *setup) string {
		t.Helper()
		endpoint := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.Header().Set("Location", "https://example.com/login")
				w.WriteHeader(status)
			}
		}))
		return fmt.Sprintf("sinks: [{type: webhook, url: %q}]\n", endpoint)
	}
}

// fileTo is a sink to a file.
func fileTo(path ...string) string {
	return fmt.Sprintf("sinks: [{type: file, path: %q, retry: {max_attempts: 1}}]\n", filepath.Join(path...))
}

var brokenSinks = []broken{
	{"file in a directory that is missing", 0, func(t *testing.T, _ *setup) string {
		return fileTo(t.TempDir(), "missing", "out")
	}, passing, "no such file or directory"},
	{"file in a directory of another owner", nobody, func(t *testing.T, _ *setup) string {
		return "store: {driver: none}\n" + fileTo(openDir(t), "out")
	}, passing, "permission denied"},
	{"file of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "out")
		require.NoError(t, os.WriteFile(path, nil, 0o644))
		return "store: {driver: none}\n" + fileTo(path)
	}, passing, "permission denied"},
	{"file on a full volume", 0, func(t *testing.T, _ *setup) string {
		dir := volume(t)
		fill(t, dir)
		return fileTo(dir, "out")
	}, passing, "no space left on device"},
	{"file that is there on a full volume", 0, func(t *testing.T, _ *setup) string {
		dir := volume(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "out"), []byte("line\n"), 0o600))
		fill(t, dir)
		require.NoError(t, os.Truncate(filepath.Join(dir, "out"), 4096))
		return fileTo(dir, "out")
	}, passing, "no space left on device"},
	{"file on a read-only volume", 0, func(t *testing.T, _ *setup) string {
		dir := volume(t)
		readOnly(t, dir)
		return fileTo(dir, "out")
	}, passing, "read-only file system"},
	{"webhook without HEAD", 0, webhookTo(http.StatusMethodNotAllowed), fine, "whether the endpoint accepts a POST"},
	{"webhook whose path is wrong", 0, webhookTo(http.StatusNotFound), warned, "404"},
	{"webhook that fails", 0, webhookTo(http.StatusInternalServerError), warned, "500"},
	{"webhook that asks for a login", 0, webhookTo(http.StatusUnauthorized), warned, "401"},
	{"webhook that leads elsewhere", 0, webhookTo(http.StatusFound), warned, "302"},
	{"webhook where nobody is", 0, func(t *testing.T, _ *setup) string {
		return fmt.Sprintf("sinks: [{type: webhook, url: %q, retry: {max_attempts: 1}}]\n", "http://"+programtest.FreeAddress(t))
	}, passing, "connection refused"},
	{"webhook secret of another owner", nobody, func(t *testing.T, _ *setup) string {
		path := filepath.Join(openDir(t), "secret")
		require.NoError(t, os.WriteFile(path, []byte("secret"), 0o600))
		return fmt.Sprintf("sinks: [{type: webhook, url: http://127.0.0.1:1, secret_file: %q}]\n", path)
	}, hopeless, "permission denied"},
	{"command that may not be run", 0, func(t *testing.T, _ *setup) string {
		path := filepath.Join(t.TempDir(), "command")
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600))
		return fmt.Sprintf("sinks: [{type: exec, command: [%q], retry: {max_attempts: 1}}]\n", path)
	}, passing, "permission denied"},
	{"command that is missing", 0, func(*testing.T, *setup) string {
		return "sinks: [{type: exec, command: [no-such-command], retry: {max_attempts: 1}}]\n"
	}, passing, "no-such-command"},
	{"rows without the right to insert", 0, func(t *testing.T, s *setup) string {
		database := s.postgres().Database()
		order(t, database, eventsTable, `CREATE ROLE sending LOGIN`, `GRANT SELECT ON events TO sending`)
		return rowsTo(user(t, database, "sending"))
	}, passing, "may not write to table"},
	{"rows without a table", 0, func(_ *testing.T, s *setup) string { return rowsTo(s.postgres().Database()) }, passing, "events"},
	{"rows for a server that is read-only", 0, func(t *testing.T, _ *setup) string {
		server := pgtest.Start(t)
		server.Order(eventsTable)
		server.MakeReadOnly()
		return rowsTo(server.URL("postgres"))
	}, passing, "takes no writes"},
	{"rows for a server that is away", 0, func(t *testing.T, _ *setup) string {
		server := pgtest.Start(t)
		server.Stop()
		return rowsTo(server.URL("postgres"))
	}, passing, "there is no socket of a server"},
	{"rows through PgBouncer", 0, func(t *testing.T, s *setup) string {
		database := s.postgres().Database()
		order(t, database, eventsTable)
		return rowsTo(bouncerBefore(t, s.postgres(), "transaction", database))
	}, fine, "constraints and triggers"},
	{"Kafka where nobody is", 0, func(t *testing.T, _ *setup) string {
		return fmt.Sprintf("sinks: [{type: kafka, brokers: [%q], topic: t, retry: {max_attempts: 1}}]\n", programtest.FreeAddress(t))
	}, passing, "connection refused"},
	{"NATS where nobody is", 0, func(t *testing.T, _ *setup) string {
		return fmt.Sprintf("sinks: [{type: nats, servers: [%q], subject: s, retry: {max_attempts: 1}}]\n", "nats://"+programtest.FreeAddress(t))
	}, passing, "refused"},
	{"Redis where nobody is", 0, func(t *testing.T, _ *setup) string {
		return fmt.Sprintf("sinks: [{type: redis, addresses: [%q], key: k, retry: {max_attempts: 1}}]\n", programtest.FreeAddress(t))
	}, passing, "connection refused"},
	{"RabbitMQ where nobody is", 0, func(t *testing.T, _ *setup) string {
		return fmt.Sprintf("sinks: [{type: rabbitmq, addresses: [%q], username: u, password: p, exchange: e, retry: {max_attempts: 1}}]\n", programtest.FreeAddress(t))
	}, passing, "connection refused"},
}

const eventsTable = `CREATE TABLE events (event_id text PRIMARY KEY)`

// rowsTo is a sink to the table events of a database.
func rowsTo(url string) string {
	return fmt.Sprintf("sinks: [{type: postgres, url: %q, table: events, sub_app_id_column: '', columns: {event_id: id}, retry: {max_attempts: 1}}]\n", url)
}
