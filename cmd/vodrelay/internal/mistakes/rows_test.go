//go:build unix

package mistakes

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

const tableOfEvents = `CREATE TABLE events (event_id text PRIMARY KEY, kind text)`

// toRows is a world with a table that the role writer may write to.
func toRows(w *world) {
	w.database = w.servers.postgres().Database()
	w.user = own("writer")
	w.order(w.database, tableOfEvents, "CREATE ROLE "+w.user+" LOGIN", "GRANT INSERT, SELECT ON events TO "+w.user)
	address := strings.Replace(w.database, "//postgres@", "//"+w.user+"@", 1)
	w.add("rows", fmt.Sprintf("type: postgres, url: %q, table: events, sub_app_id_column: '', columns: {event_id: id, kind: type}, timeout: 3s", address), func() map[string]bool {
		all := map[string]bool{}
		conn, err := pgx.Connect(w.t.Context(), w.database)
		if err != nil {
			return all
		}
		defer func() { _ = conn.Close(context.Background()) }()
		rows, err := conn.Query(w.t.Context(), `SELECT event_id FROM events`)
		require.NoError(w.t, err)
		ids, _ := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range ids {
			all[id] = true
		}
		return all
	})
}

// statements runs statements in the world's database; {user} is its role.
func statements(all ...string) action {
	return func(w *world) {
		for i := range all {
			w.order(w.database, strings.ReplaceAll(all[i], "{user}", w.user))
		}
	}
}

var rows = []mistake{
	{name: "rows: the right to insert is withdrawn", shows: `the user may not write to table "events" … GRANT INSERT, SELECT ("event_id") ON "events"`, world: toRows, make: statements("REVOKE INSERT ON events FROM {user}"), fix: statements("GRANT INSERT ON events TO {user}")},
	{name: "rows: the role may not log in", shows: `it refuses the user or the password … correct url or url_file, or the server's pg_hba.conf`, world: toRows, make: statements("ALTER ROLE {user} NOLOGIN", disconnect), fix: statements("ALTER ROLE {user} LOGIN")},
	{name: "rows: the table is renamed", shows: `table "events" does not exist … create it`, world: toRows, make: statements("ALTER TABLE events RENAME TO old"), fix: statements("ALTER TABLE old RENAME TO events")},
	{name: "rows: the table is dropped", shows: `table "events" does not exist … create it, or set create_table to true`, world: toRows, make: statements("DROP TABLE events"), fix: statements(tableOfEvents, "GRANT INSERT, SELECT ON events TO {user}")},
	{name: "rows: a column is dropped", shows: `table "events" has no column "kind": add the column to the table, or correct columns`, world: toRows, make: statements("ALTER TABLE events DROP COLUMN kind"), fix: statements("ALTER TABLE events ADD COLUMN kind text")},
	{name: "rows: a column of another type", log: `events became dead letters … table "events" does not take a value: invalid input syntax for type integer … let the expression in columns give what the column's type takes, or change the type`, world: toRows, make: statements("ALTER TABLE events DROP COLUMN kind", "ALTER TABLE events ADD COLUMN kind int"), fix: each(inTable, statements("ALTER TABLE events ALTER COLUMN kind TYPE text"), replay("rows"))},
	{name: "rows: a column that needs a value", shows: `wants a value in a column that is not written (column "owner") … add the column to columns, or give it a default`, world: toRows, make: statements("ALTER TABLE events ADD COLUMN owner text NOT NULL DEFAULT ''", "ALTER TABLE events ALTER COLUMN owner DROP DEFAULT"), fix: statements("ALTER TABLE events DROP COLUMN owner")},
	{name: "rows: a column that must be unique", log: `events became dead letters … refuses the row (constraint "events_kind_key") … drop the other one`, world: toRows, make: statements("DELETE FROM events", "ALTER TABLE events ADD UNIQUE (kind)", "INSERT INTO events VALUES ('x', 'NewFileUpload')"), fix: each(inTable, statements("ALTER TABLE events DROP CONSTRAINT events_kind_key", "DELETE FROM events WHERE event_id = 'x'"), replay("rows"))},
	{name: "rows: a column that is too short", log: `events became dead letters … value too long … or change the type`, world: toRows, make: statements("ALTER TABLE events DROP COLUMN kind", "ALTER TABLE events ADD COLUMN kind varchar(3)"), fix: each(inTable, statements("ALTER TABLE events ALTER COLUMN kind TYPE text"), replay("rows"))},
	{name: "rows: the primary key is dropped", shows: `has no unique index on ("event_id") alone … CREATE UNIQUE INDEX ON "events" ("event_id")`, world: toRows, make: statements("ALTER TABLE events DROP CONSTRAINT events_pkey"), fix: statements("ALTER TABLE events ADD PRIMARY KEY (event_id)")},
	{name: "rows: a typo in the table", shows: `table "event" does not exist … or correct table or the search_path`, world: toRows, make: edit("table: events", "table: event")},
	{name: "rows: a typo in a column", shows: `table "events" has no column "knid": add the column to the table, or correct columns`, world: toRows, make: edit("kind: type", "knid: type")},
	{name: "rows: a typo in an expression", log: refused + `(rows).columns: "kind": … unknown name tpye: did you mean type?`, world: toRows, make: edit("kind: type", "kind: tpye"), spares: true},
	{name: "rows: another database", shows: `the database does not exist … create it (createdb), or correct url`, world: toRows, make: func(w *world) { edit("/test", "/tset")(w) }},
	{name: "rows: the port of an HTTP server", world: toRows, make: func(w *world) {
		w.site()
		edit(w.text[strings.Index(w.text, `url: "postgres`):strings.Index(w.text, ", table")], fmt.Sprintf("url: %q", "postgres://u@"+w.endpoint.Listener.Addr().String()+"/d?sslmode=disable"))(w)
	}},
	{name: "rows: the table is locked", world: toRows, make: sqlLock, fix: sqlUnlock},
}

// inTable waits until every event is in the table or a parcel.
func inTable(w *world) { w.confirmed() }

// disconnect ends the sessions of the world's role.
const disconnect = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"

// sqlLock has somebody leave a transaction open that locks the table.
func sqlLock(w *world) {
	conn, err := pgx.Connect(w.t.Context(), w.database)
	require.NoError(w.t, err)
	_, err = conn.Exec(w.t.Context(), "BEGIN")
	require.NoError(w.t, err)
	_, err = conn.Exec(w.t.Context(), "LOCK TABLE events IN SHARE MODE")
	require.NoError(w.t, err)
	w.release = func() { _ = conn.Close(context.Background()) }
	w.t.Cleanup(w.release)
}

func sqlUnlock(w *world) { w.release() }
