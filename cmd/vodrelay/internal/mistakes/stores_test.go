//go:build unix

package mistakes

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/vodrelay/vodrelay/cmd/vodrelay/internal/programtest"
)

// copied copies a file of the world.
func copied(from, to string) action {
	return func(w *world) {
		data, err := os.ReadFile(w.path(from))
		require.NoError(w.t, err)
		require.NoError(w.t, os.WriteFile(w.path(to), data, 0o600))
	}
}

// stopped stops the daemon.
func stopped(w *world) { w.halt() }

// started runs the daemon where it is expected to end.
func started(w *world) { w.ends("run") }

// inPostgres has the store in a database that the world's role owns nothing in but may use.
func inPostgres(w *world) {
	toSite(w)
	w.database = w.servers.postgres().Database()
	w.user = own("storing")
	w.order(w.database, "CREATE ROLE "+w.user+" LOGIN", "GRANT ALL ON SCHEMA public TO "+w.user)
	address := strings.Replace(w.database, "//postgres@", "//"+w.user+"@", 1)
	w.text = strings.Replace(w.text, fmt.Sprintf("store: {path: %q}", w.path("s.db")), fmt.Sprintf("store: {driver: postgres, url: %q, max_conns: 2}", address), 1)
}

// small is a world whose store has room for two parcels.
func small(w *world) {
	toSite(w)
	w.text = strings.Replace(w.text, "store: {", "store: {max_parcels: 2, ", 1)
}

// inSQLite runs a statement in the store's file.
func inSQLite(statement string) action {
	return func(w *world) {
		db, err := sql.Open("sqlite", w.path("s.db"))
		require.NoError(w.t, err)
		_, err = db.Exec(statement)
		require.NoError(w.t, err)
		require.NoError(w.t, db.Close())
	}
}

// onItsVolume is a world whose store has a small volume of its own.
func onItsVolume(w *world) {
	toSite(w)
	require.NoError(w.t, os.Mkdir(w.path("state"), 0o700))
	w.mount("state")
	w.text = strings.Replace(w.text, "/s.db", "/state/s.db", 1)
}

// again starts the daemon again with the configuration of before.
func again(w *world) {
	w.halt()
	restore(w)
}

var stores = []mistake{
	{name: "store: its file is deleted while it runs", shows: `store: … was deleted or moved while it was open: nothing more is stored, nor confirmed that would have to be; restart vodrelay when the right file is back`, make: each(removed("s.db"), answers(503)), fix: each(accept, stopped, removed("s.db-wal"), removed("s.db-shm"), restore)},
	{name: "store: its directory is deleted while it runs", shows: `store: … was deleted or moved while it was open: nothing more is stored`, world: inDirectory, make: each(removed("state"), answers(503)), fix: each(accept, func(w *world) { w.halt() }, restore)},
	{name: "store: a copy takes its place while it runs", shows: `store: … was replaced by another file while it was open: nothing more is stored`, make: each(answers(503), copied("s.db", "copy"), move("copy", "s.db")), fix: each(accept, again)},
	{name: "store: it is restored from a backup while it runs", shows: `store: … was replaced by another file while it was open: nothing more is stored`, make: each(stopped, copied("s.db", "backup"), launched, answers(503), copied("backup", "backup.2"), move("backup.2", "s.db")), fix: each(accept, again)},
	{name: "store: an old backup takes its place at a restart", make: each(stopped, copied("s.db", "backup"), launched, answers(503), parked, stopped, copied("backup", "s.db"), removed("s.db-wal"), removed("s.db-shm"), accept, launched), fix: nothing, misses: map[string]int{"site": batch}},
	{name: "store: its file is deleted at a restart", make: each(answers(503), parked, stopped, removed("s.db"), removed("s.db-wal"), accept, launched), fix: nothing, misses: map[string]int{"site": batch}},
	{name: "store: only its log is left at a restart", says: `what to do: it has parcels that are nowhere else: put the database back that it belongs to`, make: each(answers(503), parked, crash, move("s.db", "kept"), accept, started), code: 78, fix: each(move("kept", "s.db"), restore)},
	{name: "store: a directory takes its place at a restart", says: `s.db is not a regular file`, make: each(stopped, move("s.db", "kept"), directory("s.db"), started), code: 78, fix: each(removed("s.db"), move("kept", "s.db"), restore)},
	{name: "store: a text takes its place at a restart", says: `s.db is not an SQLite database`, make: each(stopped, move("s.db", "kept"), write("s.db", strings.Repeat("no database\n", 1000)), started), code: 78, fix: each(move("kept", "s.db"), restore)},
	{name: "store: a newer vodrelay has used it", says: `has tables of version 99, this program knows up to`, make: each(stopped, inSQLite("UPDATE vodrelay_schema SET version = 99"), started), code: 78, fix: each(inSQLite("UPDATE vodrelay_schema SET version = 2"), restore)},
	{name: "store: a second daemon on it", says: `what to do: stop the other vodrelay (fuser -v … or give this one another path`, make: func(w *world) { w.command("run", "--set", "admin.listen="+programtest.FreeAddress(w.t)) }, code: 1, spares: true},
	{name: "store: a drain beside the daemon", says: `what to do: stop the other vodrelay`, make: run("drain", "--quiet-for", "0"), code: 1, spares: true},
	{name: "store: another path at a restart", make: each(answers(503), parked, stopped, func(w *world) { w.replace("s.db", "other.db") }, accept, launched), fix: again},
	{name: "store: none beside a path at a restart", says: "store.path: … is used by driver sqlite only: remove it, or set driver: sqlite", make: restart("store: {", "store: {driver: none, "), code: 78},
	{name: "store: none at a restart", make: each(answers(503), parked, stopped, func(w *world) { w.replace(fmt.Sprintf("path: %q", w.path("s.db")), "driver: none") }, accept, launched), fix: again},
	{name: "store: a limit that is too small", log: `cannot store events of a sink … the store is full: the limit is 2 parcels … raise max_parcels and max_bytes; events stay in VOD's queue meanwhile`, world: small, make: answers(503), fix: accept},
	{name: "store: the disk is full", shows: `store: … database or disk is full … free space on the store's volume or raise the quota; events stay in VOD's queue meanwhile`, world: onItsVolume, make: each(fill("state"), answers(503), func(w *world) { w.publish(500) }), fix: each(removed("state/ballast"), accept)},
	{name: "store: its volume becomes read-only", shows: `store: … read-only file system: let the user that runs vodrelay write the file and its directory, mount the volume for writing`, world: onItsVolume, make: each(stopped, remount("state", syscall.MS_RDONLY), answers(503), spawned), fix: each(remount("state", 0), accept)},
	{name: "PostgreSQL: the right to write is withdrawn", log: `the store … permission denied … GRANT`, world: inPostgres, make: each(answers(503), statements("ALTER TABLE vodrelay_parcels OWNER TO postgres", "REVOKE ALL ON vodrelay_parcels FROM {user}")), fix: each(statements("ALTER TABLE vodrelay_parcels OWNER TO {user}", "GRANT ALL ON vodrelay_parcels TO {user}"), accept)},
	{name: "PostgreSQL: the table is renamed", log: `the store cannot be written … relation "vodrelay_parcels" does not exist … put it back as it was`, world: inPostgres, make: each(statements("ALTER TABLE vodrelay_parcels RENAME TO kept"), answers(503)), fix: each(statements("ALTER TABLE kept RENAME TO vodrelay_parcels"), accept)},
	{name: "PostgreSQL: the role may not log in", shows: `store: … is not permitted to log in … the server refuses the user or its password`, world: inPostgres, make: each(statements("ALTER ROLE {user} NOLOGIN", disconnect), answers(503)), fix: each(statements("ALTER ROLE {user} LOGIN"), accept)},
	{name: "PostgreSQL: a newer vodrelay has used it", says: `has tables of version 99, this program knows up to`, world: inPostgres, make: each(stopped, statements("UPDATE vodrelay_schema SET version = 99"), started), code: 78, fix: each(statements("UPDATE vodrelay_schema SET version = 2"), restore)},
	{name: "PostgreSQL: the URL of a web server", says: `store.url: … must begin with postgres://`, world: inPostgres, make: func(w *world) {
		w.replace("driver: postgres, url: \"postgres://", "driver: postgres, url: \"http://")
		w.halt()
		w.ends("run")
	}, code: 78},
}

// launched starts the daemon.
func launched(w *world) { w.launch() }

// spawned starts the daemon where it cannot get ready.
func spawned(w *world) { w.spawn() }

// crash kills the daemon.
func crash(w *world) {
	require.NoError(w.t, w.daemon.cmd.Process.Kill())
	w.daemon.wait()
	w.daemon = nil
}

// inDirectory is a world whose store has a directory of its own.
func inDirectory(w *world) {
	toSite(w)
	require.NoError(w.t, os.Mkdir(w.path("state"), 0o700))
	w.text = strings.Replace(w.text, "/s.db", "/state/s.db", 1)
}
