package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The columns of the default table that hold the event itself. The type is json, not jsonb: it keeps every byte, such as
// the order of fields, 0.10 and 1e21, and a name that comes twice. What it cannot hold, or what would have its functions
// fail (\u0000, half surrogate pairs, broken UTF-8) is U+FFFD in content, and then content_bytes has the exact bytes.
const (
	contentColumn = "content"
	exactColumn   = "content_bytes"
	// applicationColumn has the application also where it is no part of the key.
	applicationColumn = "sub_app_id"
)

// defaultColumns are the others, with their expressions; beside them are those of the key.
var defaultColumns = map[string]string{
	"event_type": "type",
	"subject":    `subject != "" ? subject : nil`,
}

// defaultTable has, for its name, those of the columns with ID and application, and the key, a number without a limit
// for the application, which VOD calls an unsigned integer of 64 bits.
const defaultTable = `CREATE TABLE IF NOT EXISTS %s (
	%s text NOT NULL,
	event_type text NOT NULL,
	%s numeric(20) NOT NULL,
	subject text,
	content json NOT NULL,
	content_bytes bytea,
	received_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (%s)
)`

// createLock keeps replicas from creating the table at the same moment, at which IF NOT EXISTS fails. Any number that
// nobody else takes.
const createLock = 8246913507742020

// table is the target as the server describes it.
type table struct {
	kinds   []kind // of the sink's columns
	insert  string // with an array of texts for each column
	explain string // of an insert without rows
}

// tableOf is the target, asked for once.
func (s *Sink) tableOf(ctx context.Context, conn *pgx.Conn) (*table, error) {
	if t := s.table.Load(); t != nil {
		return t, nil
	}
	t, err := s.readTable(ctx, conn)
	if s.cfg.CreateTable && isCode(err, undefinedTable) {
		if err := s.createTable(ctx, conn); err != nil {
			return nil, err
		}
		t, err = s.readTable(ctx, conn)
	}
	if err != nil {
		return nil, err
	}
	s.table.Store(t)
	return t, nil
}

func (s *Sink) createTable(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, int64(createLock))); err != nil {
			return err
		}
		keys := s.keys()
		app := applicationColumn
		if len(keys) > 1 {
			app = keys[1]
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(defaultTable, s.name.Sanitize(), keys[0], app, strings.Join(keys, ", ")))
		return err
	})
}

// keys are the columns of the key as SQL has them: the ID's, and the application's unless there is none.
func (s *Sink) keys() []string {
	var names []string
	for _, c := range s.columns {
		if c.key {
			names = append(names, pgx.Identifier{c.name}.Sanitize())
		}
	}
	return names
}

// columnError is a column that the table does not have.
type columnError struct{ name string }

func (e columnError) Error() string { return fmt.Sprintf("has no column %q", e.name) }

// readTable asks for the types of the columns. A domain is written as the type under it.
func (s *Sink) readTable(ctx context.Context, conn *pgx.Conn) (*table, error) {
	const query = `SELECT a.attname, format_type(a.atttypid, -1),
			format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, -1)
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = CAST(CAST($1 AS text) AS regclass) AND a.attnum > 0 AND NOT a.attisdropped`
	rows, err := conn.Query(ctx, query, s.name.Sanitize())
	if err != nil {
		return nil, err
	}
	types, bases := make(map[string]string), make(map[string]string)
	var name, typ, base string
	if _, err := pgx.ForEachRow(rows, []any{&name, &typ, &base}, func() error {
		types[name], bases[name] = typ, base
		return nil
	}); err != nil {
		return nil, err
	}
	t := &table{}
	var names, values, arrays, empty, fields []string
	for i, c := range s.columns {
		if types[c.name] == "" {
			return nil, columnError{c.name}
		}
		t.kinds = append(t.kinds, kindOf(bases[c.name]))
		names = append(names, pgx.Identifier{c.name}.Sanitize())
		// The server's own name of the type, without its length: a cast to that would cut the value.
		values = append(values, fmt.Sprintf("CAST(v.c%d AS %s)", i, types[c.name]))
		arrays = append(arrays, fmt.Sprintf("CAST($%d AS text[])", i+1))
		empty = append(empty, "CAST('{}' AS text[])")
		fields = append(fields, fmt.Sprintf("c%d", i))
	}
	// The conflict has a target: without one, a clash on another unique index would drop the event in silence.
	insert := func(from []string) string {
		return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM unnest(%s) AS v(%s) ON CONFLICT (%s) DO NOTHING",
			s.name.Sanitize(), strings.Join(names, ", "), strings.Join(values, ", "), strings.Join(from, ", "),
			strings.Join(fields, ", "), strings.Join(s.keys(), ", "))
	}
	t.insert, t.explain = insert(arrays), "EXPLAIN "+insert(empty)
	return t, nil
}

func kindOf(base string) kind {
	switch base {
	case "json", "jsonb":
		return kindJSON
	case "bytea":
		return kindBytes
	}
	return kindText
}

// describe asks the server for the plan of an insert without rows, which it makes only if table, columns, rights and the
// unique index are there.
func (s *Sink) describe(ctx context.Context, conn *pgx.Conn) error {
	s.table.Store(nil)
	t, err := s.tableOf(ctx, conn)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, t.explain); err != nil {
		return err
	}
	var readOnly bool
	var fsync, encoding string
	const settings = `SELECT CAST(current_setting('transaction_read_only') AS boolean), current_setting('fsync'), current_setting('server_encoding')`
	if err := conn.QueryRow(ctx, settings).Scan(&readOnly, &fsync, &encoding); err != nil {
		return err
	}
	if readOnly {
		return errReadOnly
	}
	if fsync != "on" {
		s.log.Warn(s.target + " runs with fsync off: a power failure there can lose events; set fsync = on in postgresql.conf")
	}
	if encoding != "UTF8" && encoding != "SQL_ASCII" {
		s.log.Warn(s.target + " has encoding " + encoding + ": events with other characters are refused; use a database with encoding UTF8")
	}
	return nil
}

var errReadOnly = errors.New("takes no writes")
