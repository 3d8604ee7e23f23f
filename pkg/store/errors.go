package store

import (
	"context"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/vodrelay/vodrelay/pkg/redact"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

var (
	// ErrFull is wrapped by the error of a Put that would exceed max_parcels or max_bytes. Nothing of that
	// Put is stored. It is transient: it ends when parcels are completed or dropped.
	ErrFull = errors.New("the store is full")
	// ErrClosed is wrapped by what is asked of a store after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked is wrapped by Open's error when another daemon has the SQLite file.
	ErrLocked = errors.New("another vodrelay uses the store")
	// ErrLost is wrapped by the error of a Put when the store's file was deleted, replaced or damaged while it was
	// open. What is there can still be worked off; nothing new is stored until the process is started again.
	ErrLost = errors.New("the store is lost")
	// ErrSchema is wrapped by Open's error when the tables are of another version of vodrelay.
	ErrSchema = errors.New("the store is of another version of vodrelay")
	// ErrPending is wrapped by Open's error with Checked when a daemon would make the store, or convert its tables, and
	// could.
	ErrPending = errors.New("at the next start")
)

// trouble is what an error of a database means.
type trouble struct {
	hint string
	// everywhere: no other statement can work now either, so there is no use in trying the members of a
	// failed group one by one.
	everywhere bool
	// session: another session with the same server may work.
	session bool
	// again: the transaction lost against another one, and is worth a second attempt at once.
	again bool
	// damaged: the file itself is, and no attempt cures that.
	damaged bool
	// person: a store that cannot be opened for it stays so until a person changes something.
	person bool
}

// isVague reports SQLite's errors that do not say what it could not do with which of its files.
func isVague(err error) bool {
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return false
	}
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR:
		return true
	}
	return false
}

// diagnose says what err, from either engine, means.
func diagnose(err error) trouble {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return diagnoseSQLite(lite.Code())
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return diagnosePostgres(pg.Code, pg.Message)
	}
	var network net.Error
	switch {
	case err != nil && strings.Contains(err.Error(), "server refused TLS connection"): // pgconn has no other sign of it
		return trouble{hint: "turn TLS on at the server (ssl = on), or choose another sslmode in url", everywhere: true, person: true}
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)):
		return trouble{hint: "the server's certificate is not trusted: name its CA with sslrootcert in url, and the server as its certificate does", everywhere: true, person: true}
	case errors.As(err, new(*pgconn.ConnectError)): // also for a socket that this user may not open
		return trouble{hint: hintServer, everywhere: true, session: true}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return trouble{hint: hintFull, everywhere: true}
	case errors.Is(err, fs.ErrPermission):
		return trouble{hint: hintReadOnly, everywhere: true, person: true}
	case errors.Is(err, syscall.EROFS): // a volume can be mounted again, also by itself
		return trouble{hint: hintReadOnly, everywhere: true}
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return trouble{hint: "correct path: it must name a file, in directories that are there or can be made", everywhere: true, person: true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, driver.ErrBadConn), errors.As(err, &network) && !isErrno(network),
		pgconn.SafeToRetry(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return trouble{hint: hintServer, everywhere: true, session: true}
	}
	return trouble{}
}

// isErrno: a syscall.Errno looks like an error of the network, whatever it is about.
func isErrno(err error) bool {
	_, is := err.(syscall.Errno) //nolint:errorlint // what wraps one is none
	return is
}

const (
	hintFull     = "free space on the store's volume or raise the quota; events stay in VOD's queue meanwhile"
	hintReadOnly = "let the user that runs vodrelay write the file and its directory, mount the volume for writing, or for systemd add it to StateDirectory or ReadWritePaths"
	hintSlow     = "the store's volume is too slow, or another program keeps the file locked: see what else has it open (fuser), and the kernel's log (dmesg)"
	hintServer   = "check that the PostgreSQL server runs and can be reached from here; vodrelay goes on by itself when it is back"
	hintAccount  = "the server refuses the user or its password: correct url, url_file or the server's pg_hba.conf"
	hintDamaged  = "stop vodrelay, keep a copy of the file and its -wal, and restore both from a backup, or recover them with sqlite3's .recover; to begin with an empty store move both away"
	// A text file, a directory's backup, the database of another program: nothing of it is changed.
	hintNoDatabase = "correct path; or restore the file from a backup; to begin with an empty store move it and its -wal away"
)

func diagnoseSQLite(code int) trouble {
	switch code & 0xff { // the primary code
	case sqlite3.SQLITE_FULL:
		return trouble{hint: hintFull, everywhere: true}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return trouble{hint: hintReadOnly, everywhere: true}
	case sqlite3.SQLITE_IOERR:
		// A full volume can show as this too, when SQLite extends its shared memory.
		return trouble{hint: "see that the store's volume is mounted and has space left, and the kernel's log (dmesg) for trouble with it", everywhere: true}
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return trouble{hint: "another program keeps the file locked: end what else has it open, such as a sqlite3 shell in a transaction or a backup", everywhere: true}
	case sqlite3.SQLITE_CORRUPT:
		return trouble{hint: hintDamaged, everywhere: true, damaged: true}
	case sqlite3.SQLITE_NOTADB:
		return trouble{hint: hintNoDatabase, everywhere: true, damaged: true}
	}
	return trouble{}
}

// diagnosePostgres goes by SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html.
func diagnosePostgres(code, message string) trouble {
	switch code {
	case "40001", "40P01", "23505": // serialization_failure, deadlock_detected, unique_violation: of a key that is seen next time
		return trouble{again: true}
	case "25006": // read_only_sql_transaction
		return trouble{hint: "the server is a standby or read-only: name the primary in url, or add target_session_attrs=read-write", everywhere: true, session: true}
	case "26000", "42P05": // a prepared statement that is not there, or is there already
		return trouble{hint: "a pooler such as PgBouncer stands before the database since vodrelay was started: restart vodrelay, which then does without prepared statements", everywhere: true, session: true}
	case "3D000":
		return trouble{hint: "the database does not exist: create it (createdb), or correct url", everywhere: true, person: true}
	case "3F000": // invalid_schema_name: search_path names none that is there
		return trouble{hint: "create the schema that search_path names, or correct url", everywhere: true, person: true}
	case "42501":
		return trouble{hint: "the user must be allowed to create tables in its schema and to read and write them: GRANT, or make it the owner of the database", everywhere: true, person: true}
	case "42P01", "42703": // undefined_table, undefined_column
		return trouble{hint: "somebody dropped, renamed or changed a table of the store, or search_path leads elsewhere: put it back as it was, or restore it from a backup", everywhere: true}
	case "53100":
		return trouble{hint: "the server's disk is full: free space there; events stay in VOD's queue meanwhile", everywhere: true}
	case "53300":
		return trouble{hint: "the server has no connection left: raise its max_connections, or lower max_conns", everywhere: true}
	case "57014": // query_canceled
		return trouble{hint: "the server was too slow for statement_timeout: see its load and its locks (pg_stat_activity)"}
	}
	if code == "08P01" { // what PgBouncer says of itself, and passes on of its server
		return diagnosePooler(message)
	}
	switch code[:min(2, len(code))] {
	case "28": // invalid authorization
		return trouble{hint: hintAccount, everywhere: true, person: true}
	case "08", "57": // connection, operator intervention
		return trouble{hint: hintServer, everywhere: true, session: true}
	case "58", "53": // system error, insufficient resources
		return trouble{hint: hintServer, everywhere: true}
	}
	return trouble{}
}

// diagnosePooler goes by the text, which is all that PgBouncer gives: https://github.com/pgbouncer/pgbouncer/tree/master/src.
func diagnosePooler(message string) trouble {
	if strings.Contains(message, "startup parameter") {
		return trouble{hint: "the pooler refuses a parameter of url: remove that from url, or add it to ignore_startup_parameters of PgBouncer", everywhere: true, person: true}
	}
	if strings.Contains(message, "statement pooling") {
		return trouble{hint: "set pool_mode of PgBouncer to transaction or session: the store needs transactions", everywhere: true, person: true}
	}
	for _, words := range []string{"does not exist", "no such database", "no such user", "authentication failed"} {
		if strings.Contains(message, words) {
			return trouble{hint: "create the database and its user, name them in PgBouncer's configuration and auth_file, or correct url", everywhere: true, person: true}
		}
	}
	return trouble{hint: hintServer, everywhere: true, session: true}
}

// Error is what fails in a store. Its text says so; Err is what is wrong, with its hint.
type Error struct{ Err error }

func (e *Error) Error() string { return "store: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Bare is err without the name of the store, for where that stands already.
func Bare(err error) error {
	if named := new(Error); errors.As(err, &named) {
		return named.Err
	}
	return err
}

// steadyError has a text that is the same each time.
type steadyError struct {
	text string
	err  error
}

func (e *steadyError) Error() string { return e.text }
func (e *steadyError) Unwrap() error { return e.err }

// steady is err without the port of this end of a connection, which is another one each time.
func steady(err error) error {
	op := new(net.OpError)
	if !errors.As(err, &op) || op.Source == nil {
		return err
	}
	far := *op
	far.Source = nil
	return &steadyError{strings.ReplaceAll(err.Error(), op.Error(), far.Error()), err}
}

// explain makes err an Error, with a hint, and takes the password out should a driver have put it in.
func (db *database) explain(err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	hint := retry.Hint(err)
	if hint == "" {
		hint = diagnose(err).hint
		if hint == hintServer && !db.server {
			hint = ""
			if errors.Is(err, context.DeadlineExceeded) {
				hint = hintSlow
			}
		}
	}
	if db.secret != "" && strings.Contains(err.Error(), db.secret) {
		err = errors.New(strings.ReplaceAll(err.Error(), db.secret, redact.Hidden)) // not wrapped: what is inside shows it
	}
	err = redact.Error(steady(err))
	if hint != "" {
		err = retry.WithHint(err, hint)
	}
	return &Error{err}
}
