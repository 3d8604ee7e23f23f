package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/safetext"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/group"
	"github.com/vodrelay/vodrelay/pkg/sink/internal/neterr"
)

var server = neterr.Target{Name: "PostgreSQL server", Key: "url", NoTLS: "write sslmode=disable in url and remove tls"}

func isCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// Codes and classes: https://www.postgresql.org/docs/current/errcodes-appendix.html.
const (
	undefinedTable  = "42P01"
	undefinedColumn = "42703"
)

func class(code string) string { return code[:min(2, len(code))] }

// concernsRows reports whether one row may be to blame for the failure of a batch, so that the others are worth a try.
func concernsRows(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch class(pg.Code) {
	case "08", "0A", "25", "28", "3D", "3F", "53", "55", "57", "58":
		return false
	case "42": // the table and the rights on it, unless a policy for rows refused one
		return pg.Code == "42501" && pg.Routine == "ExecWithCheckOptions"
	}
	return true
}

// concernsTable reports whether the failure may come of a table that was changed after it was read.
func concernsTable(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch class(pg.Code) {
	case "0A", "22", "23", "3F", "42":
		return true
	}
	return false
}

// spoilsSession reports a failure that comes of how the session began or what became of it, and would meet every batch
// over it: it is read-only, or both sides disagree on what was prepared or said before.
func spoilsSession(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return errors.Is(err, errReadOnly)
	}
	switch class(pg.Code) {
	case "08", "25", "26":
		return true
	}
	return pg.Code == "42P05" // duplicate_prepared_statement
}

// judge says what is wrong, what to do about it, and whether another attempt can help.
func (s *Sink) judge(err error) error {
	var (
		pg      *pgconn.PgError
		missing columnError
		cut     *pgconn.ConnectError
	)
	switch {
	case err == nil, errors.Is(err, group.ErrClosed):
		return err
	case errors.As(err, &pg):
		return s.refused(pg, err)
	case errors.As(err, &missing):
		hint := "add the column to the table, or correct columns"
		if keys := s.keys(); len(keys) > 1 && keys[1] == (pgx.Identifier{missing.name}).Sanitize() {
			hint = "add the column (ALTER TABLE " + s.name.Sanitize() + " ADD COLUMN " + keys[1] + " numeric(20) NOT NULL DEFAULT 0) and let the unique index be on (" +
				strings.Join(keys, ", ") + "); or set sub_app_id_column to \"\" if all events are those of one application"
		}
		return s.fail(s.about()+" "+missing.Error(), err, hint)
	case errors.Is(err, errReadOnly):
		return s.fail(errReadOnly.Error(), err, hintReadOnly)
	case retry.Hint(err) != "": // a file of ours
		return s.fail(err.Error(), err, retry.Hint(err))
	case errors.Is(err, fs.ErrNotExist) && errors.As(err, &cut):
		return s.fail("there is no socket of a server", err, "start the PostgreSQL server, or correct host and port in url")
	case errors.Is(err, fs.ErrPermission) && errors.As(err, &cut):
		return s.fail("the server's socket must not be used", err, "let the user that runs vodrelay write to the socket, or use TCP in url")
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgconn has no type for it
		return s.fail("it does not speak TLS", err, server.NoTLS+", or turn on ssl in postgresql.conf")
	case errors.As(err, &cut):
		text, hint := server.Explain(err)
		return s.fail(text, err, hint)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), pgconn.Timeout(err):
		return s.late(err)
	case neterr.IsClosed(err), errors.Is(err, pgconn.ErrConnClosed), pgconn.SafeToRetry(err):
		return s.fail("the connection was lost", err, "see the PostgreSQL server's log, and that of a pooler before it; vodrelay connects again by itself")
	}
	text, hint := server.Explain(err)
	return s.fail(text, err, hint)
}

// fail keeps the server's own messages out of the text: they quote what is in the events.
func (s *Sink) fail(text string, err error, hint string) error {
	target := s.target
	if dialled := neterr.At("", err); dialled != "" && s.several {
		target += " (" + dialled + ")"
	}
	return neterr.Fail(target+": "+text, err, hint)
}

// late is a row that was not committed in time.
func (s *Sink) late(err error) error {
	return s.fail("no commit in time", err,
		"check that the server can be reached from here, and its load and locks (pg_stat_activity); or make the sink's timeout longer")
}

func (s *Sink) about() string { return "table " + s.name.Sanitize() }

const (
	hintReadOnly = "it is a standby or read-only: name the primary in url, or add target_session_attrs=read-write"
	hintLog      = "see the PostgreSQL server's log"
)

// refused is an answer of the server. Only what the event itself is to blame for is permanent: a table, a column or a
// right that is missing will be there when a person has seen to it, and no event should be a dead letter for that.
func (s *Sink) refused(pg *pgconn.PgError, err error) error {
	s.log.Debug("the server refused", zap.String("target", s.target), zap.String("sqlstate", pg.Code),
		zap.String("message", safetext.Line(pg.Message, 300)))
	where := ""
	switch {
	case pg.ConstraintName != "":
		where = fmt.Sprintf(" (constraint %q)", pg.ConstraintName)
	case pg.ColumnName != "":
		where = fmt.Sprintf(" (column %q)", pg.ColumnName)
	}
	state := ", SQLSTATE " + pg.Code
	if text, hint := s.operators(pg); text != "" {
		return s.fail(text+where+state, err, hint)
	}
	var text, hint string
	switch class(pg.Code) {
	case "22":
		text = s.about() + " does not take a value: " + neterr.Steady(pg.Message)
		hint = "let the expression in columns give what the column's type takes, or change the type; lists and objects want json or jsonb"
	case "23":
		text = s.about() + " refuses the row" + where
		hint = "correct the expressions in columns, or the constraint"
		if pg.Code == "23505" {
			hint = "another unique index than that on (" + strings.Join(s.keys(), ", ") + ") refuses it: only that one can have rows that come again; drop the other one"
		}
	case "44":
		text, hint = s.about()+" refuses the row", "correct the view's condition, or write to the table under it"
	case "54":
		text, hint = s.about()+" cannot hold the row: "+neterr.Steady(pg.Message), "an index on a column with long values, or JSON that is nested too deep: change the index or columns"
	case "P0":
		text, hint = "a trigger of "+s.about()+" refuses the row", "see the PostgreSQL server's log for what it says, and correct the trigger"
	default:
		text, hint = s.transient(pg)
		return s.fail(text+state, err, hint)
	}
	return retry.Permanent(s.fail(text+state, err, hint))
}

// operators is what has the code of a row's own fault, and would meet any row: "" for everything else.
func (s *Sink) operators(pg *pgconn.PgError) (text, hint string) {
	written := func(c column) bool { return c.name == pg.ColumnName }
	switch {
	case pg.Code == "23502" && !slices.ContainsFunc(s.columns, written):
		return s.about() + " wants a value in a column that is not written", "add the column to columns, or give it a default (ALTER TABLE)"
	case pg.Code == "23514" && pg.Routine == "ExecFindPartition":
		return s.about() + " has no partition for the row", "create the partition"
	case class(pg.Code) == "P0" && pg.Code != "P0001": // raise_exception
		return "a trigger of " + s.about() + " fails", "see the PostgreSQL server's log for what it says, and correct the trigger"
	}
	return "", ""
}

func (s *Sink) transient(pg *pgconn.PgError) (text, hint string) {
	switch pg.Code {
	case undefinedTable:
		return s.about() + " does not exist", "create it, or set create_table to true (without columns), or correct table or the search_path"
	case undefinedColumn:
		return s.about() + " lacks a column", "add the column to the table, or correct columns"
	case "3F000":
		return "the schema of " + s.about() + " does not exist", "create it (CREATE SCHEMA), or correct table"
	case "42501":
		return "the user may not write to " + s.about(), "GRANT INSERT, SELECT (" + strings.Join(s.keys(), ", ") + ") ON " + s.name.Sanitize() + " to the user, USAGE on its schema, and CREATE there for create_table"
	case "42P10", "55000":
		keys := s.keys()
		columns := "(" + strings.Join(keys, ", ") + ")"
		hint := "CREATE UNIQUE INDEX ON " + s.name.Sanitize() + " " + columns + ", without a condition and not deferrable, or correct id_column"
		if len(keys) > 1 {
			hint += " and sub_app_id_column; drop an index or primary key on " + keys[0] + " alone, which would keep out the events of a second application"
		}
		return s.about() + " has no unique index on " + columns + " alone", hint
	case "25006": // read_only_sql_transaction
		return errReadOnly.Error(), hintReadOnly
	case "3D000":
		return "the database does not exist", "create it (createdb), or correct url"
	case "53100":
		return "its disk is full", "free space on the server"
	case "53300":
		return "it has no connection left", "raise its max_connections, or lower max_conns"
	case "57014": // query_canceled
		return "it was too slow for statement_timeout", "see its load and its locks (pg_stat_activity), or raise statement_timeout"
	case "57P01", "57P02": // admin_shutdown, crash_shutdown
		return "it ended the connection", "see whether the PostgreSQL server runs, and its log"
	case "57P03": // cannot_connect_now
		return "it is starting or stopping", "wait until the PostgreSQL server is up"
	}
	switch class(pg.Code) {
	case "28":
		return "it refuses the user or the password", "correct url or url_file, or the server's pg_hba.conf"
	case "40":
		return "the transaction lost against another one", "see what else writes to the table"
	case "42":
		return s.about() + " cannot be written to: " + neterr.Steady(pg.Message), "correct table or columns, or the table"
	}
	return neterr.Steady(pg.Message), hintLog
}
