package postgres

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a sink for the database that is closed with the test.
func open(t testing.TB, database string, change ...func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.URL, cfg.CreateTable = database, true
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	t.Cleanup(func() { closeSink(t, s) })
	return s
}

func closeSink(t testing.TB, s *Sink) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, s.Close(ctx))
}

func send(t testing.TB, s *Sink, e event.Event) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.Send(ctx, e)
}

// query is what a client of its own reads; exec is what it does.
func query[T any](t testing.TB, database, sql string, args ...any) []T {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), database)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), sql, args...)
	require.NoError(t, err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return values
}

func exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), database)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for _, sql := range statements {
		_, err := conn.Exec(context.Background(), sql)
		require.NoError(t, err, sql)
	}
}

// socket is the path of the server's unix socket.
func socket(t testing.TB, database string) string {
	u, err := url.Parse(database)
	require.NoError(t, err)
	return u.Query().Get("host") + "/.s.PGSQL.5432"
}

// TestServer runs what needs a real server, each part with a database of its own.
func TestServer(t *testing.T) {
	server := pgtest.Start(t)
	for _, part := range []struct {
		name string
		test func(t *testing.T, database string)
	}{
		{"ExactlyOnce", testExactlyOnce},
		{"Applications", testApplications},
		{"NoDeadlock", testNoDeadlock},
		{"DefaultTable", testDefaultTable},
		{"Columns", testColumns},
		{"OneBadRow", testOneBadRow},
		{"Limits", testLimits},
		{"Depth", testDepth},
		{"Trouble", testTrouble},
		{"Refusals", testRefusals},
		{"Creation", testCreation},
		{"ChangedTable", testChangedTable},
		{"URLFile", testURLFile},
		{"TLS", testTLS},
		{"CloseGivesUp", testCloseGivesUp},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, server.Database()) })
	}
}

const bodies = `SELECT coalesce(content_bytes, convert_to(CAST(content AS text), 'UTF8')) FROM vodrelay_events`

func TestContract(t *testing.T) {
	server := pgtest.Start(t)
	for _, columns := range []string{"default", "jsonb and bytea"} {
		t.Run(columns, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Harness {
				database := server.Database()
				p := newProxy(t, socket(t, database))
				url, sql, own := p.url(database), bodies, columns != "default"
				strand := func(*testing.T) { p.strands.Add(1) }
				var mistakes []sinktest.Mistake
				var refused map[string]event.Event
				if own { // a table of somebody who likes jsonb all the same
					exec(t, database, `CREATE TABLE vodrelay_events (event_id uuid, event_type varchar(300) CHECK (event_type <> 'Refused'), sub_app_id bigint,
						subject text, content bytea, content_bytes bytea, UNIQUE (sub_app_id, event_id))`)
					sql = `SELECT coalesce(content_bytes, content) FROM vodrelay_events`
					strand = nil // it takes seconds, and is no different
					url = asWriter(t, database, url)
					mistakes = tableMistakes(database)
					refused = map[string]event.Event{"constraint": decode(`{"EventType":"Refused"}`)}
				}
				return sinktest.Harness{
					Sink:     open(t, url, func(c *Config) { c.CreateTable = !own }),
					Mistakes: mistakes,
					Refused:  refused,
					Received: func(t *testing.T) [][]byte {
						if !query[bool](t, database, `SELECT to_regclass('vodrelay_events') IS NOT NULL`)[0] {
							return nil
						}
						return query[[]byte](t, database, sql)
					},
					IDs: func(t *testing.T) []string {
						return query[string](t, database, `SELECT concat_ws('-', sub_app_id, event_id) FROM vodrelay_events`)
					},
					Deduplicates: true,

					Break:   func(*testing.T) { p.stop() },
					Mend:    p.start,
					Stall:   func(*testing.T) func() { return p.stall() },
					Strand:  strand,
					Secrets: []string{"s3cr3t-pw"},
				}
			})
		})
	}
}

// asWriter is the url for a user that has only the rights which it needs.
func asWriter(t *testing.T, database, url string) string {
	t.Helper()
	exec(t, database, `CREATE ROLE writer LOGIN`, `GRANT INSERT, SELECT ON vodrelay_events TO writer`)
	t.Cleanup(func() { exec(t, database, endSessions, `DROP OWNED BY writer`, `DROP ROLE writer`) })
	return strings.Replace(url, "//postgres", "//writer", 1)
}

// endSessions has the changed settings of a user apply, as a restart or a failover does.
const endSessions = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'`

func tableMistakes(database string) []sinktest.Mistake {
	run := func(statements ...string) func(t *testing.T) {
		return func(t *testing.T) { exec(t, database, statements...) }
	}
	mistake := func(name string, statements, fix []string) sinktest.Mistake {
		return sinktest.Mistake{Name: name, Make: run(statements...), Fix: run(fix...)}
	}
	return []sinktest.Mistake{
		mistake("right withdrawn", []string{`REVOKE INSERT ON vodrelay_events FROM writer`}, []string{`GRANT INSERT ON vodrelay_events TO writer`}),
		mistake("table missing", []string{`ALTER TABLE vodrelay_events RENAME TO away`}, []string{`ALTER TABLE away RENAME TO vodrelay_events`}),
		mistake("column missing", []string{`ALTER TABLE vodrelay_events RENAME subject TO away`}, []string{`ALTER TABLE vodrelay_events RENAME away TO subject`}),
		mistake("index missing", []string{`ALTER TABLE vodrelay_events DROP CONSTRAINT vodrelay_events_sub_app_id_event_id_key`}, []string{`ALTER TABLE vodrelay_events ADD UNIQUE (sub_app_id, event_id)`}),
		mistake("column that nobody fills", []string{`ALTER TABLE vodrelay_events ADD more text NOT NULL DEFAULT ''`, `ALTER TABLE vodrelay_events ALTER more DROP DEFAULT`},
			[]string{`ALTER TABLE vodrelay_events DROP more`}),
		mistake("login withdrawn", []string{`ALTER ROLE writer NOLOGIN`, endSessions}, []string{`ALTER ROLE writer LOGIN`}),
		// The sessions stay what they began as.
		mistake("read-only", []string{`ALTER ROLE writer SET default_transaction_read_only = on`, endSessions},
			[]string{`ALTER ROLE writer RESET default_transaction_read_only`}),
		// No code tells that the session is to blame.
		mistake("wrong search path", []string{`ALTER ROLE writer SET search_path = nowhere`, endSessions}, []string{`ALTER ROLE writer RESET search_path`}),
		mistake("partition missing", []string{`ALTER TABLE vodrelay_events RENAME TO away`,
			`CREATE TABLE vodrelay_events (LIKE away, UNIQUE (sub_app_id, event_id)) PARTITION BY HASH (event_id)`,
			`GRANT INSERT, SELECT ON vodrelay_events TO writer`},
			[]string{`CREATE TABLE all_of_it PARTITION OF vodrelay_events FOR VALUES WITH (MODULUS 1, REMAINDER 0)`}),
	}
}

// testExactlyOnce sends the same events many times at once, through two sinks as two replicas would.
func testExactlyOnce(t *testing.T, database string) {
	one, two := open(t, database), open(t, database)
	const events, times = 200, 8
	errs := make(chan error, events*times)
	for n := range times {
		for i := range events {
			go func() { errs <- []*Sink{one, two}[n%2].Send(context.Background(), sinktest.Upload((i+n)%events)) }()
		}
	}
	for range events * times {
		require.NoError(t, <-errs)
	}
	require.Equal(t, []int64{events}, query[int64](t, database, `SELECT count(*) FROM vodrelay_events`))
	received := query[time.Time](t, database, `SELECT max(received_at) FROM vodrelay_events`)[0]
	require.NoError(t, send(t, one, sinktest.Upload(0)))
	require.Equal(t, received, query[time.Time](t, database, `SELECT max(received_at) FROM vodrelay_events`)[0], "the first row stays as it is")
}

// testApplications has a table of a user's own, whose key has both columns under other names, one that a single
// application fills, and one that puts both into one column.
func testApplications(t *testing.T, database string) {
	exec(t, database, `CREATE TABLE own (id uuid, app bigint, type text, UNIQUE (app, id))`, `CREATE TABLE single (id text, UNIQUE (id))`, `CREATE TABLE joined (id text PRIMARY KEY)`)
	ours := open(t, database, func(c *Config) {
		c.CreateTable, c.Table, c.IDColumn, c.SubAppIDColumn, c.Columns = false, "own", "id", "app", map[string]string{"type": "type"}
	})
	single := open(t, database, func(c *Config) {
		c.CreateTable, c.Table, c.IDColumn, c.SubAppIDColumn, c.Columns = false, "single", "id", "", map[string]string{"id": "id"}
	})
	joined := open(t, database, func(c *Config) {
		c.CreateTable, c.Table, c.IDColumn, c.SubAppIDColumn = false, "joined", "id", ""
		c.Columns = map[string]string{"id": `string(sub_app_id) + "-" + id`}
	})
	created := open(t, database, func(c *Config) { c.SubAppIDColumn = "" })
	e := sinktest.Upload(0)
	for _, application := range []uint64{1, 2, 0, 2, 1} {
		e.SubAppID = application
		for _, s := range []*Sink{ours, single, joined, created} {
			require.NoError(t, s.Check(t.Context()))
			require.NoError(t, send(t, s, e))
		}
	}
	require.Equal(t, []string{"0", "1", "2"}, query[string](t, database, `SELECT CAST(app AS text) FROM own ORDER BY app`))
	require.Equal(t, []string{e.ID}, query[string](t, database, `SELECT id FROM single`))
	require.Equal(t, []string{"0-" + e.ID, "1-" + e.ID, "2-" + e.ID}, query[string](t, database, `SELECT id FROM joined ORDER BY id`))
	require.Equal(t, []string{"1"}, query[string](t, database, `SELECT CAST(sub_app_id AS text) FROM vodrelay_events`))
}

// testNoDeadlock has two replicas write the same events in opposite order.
func testNoDeadlock(t *testing.T, database string) {
	one, two := open(t, database), open(t, database)
	for batch := range 10 {
		var rows [2][]*row
		for i := range 500 {
			for n, s := range []*Sink{one, two} {
				r, err := s.row(t.Context(), sinktest.Upload(500*batch+[]int{i, 499 - i}[n]))
				require.NoError(t, err)
				rows[n] = append(rows[n], r)
			}
		}
		var both sync.WaitGroup
		both.Go(func() { one.write(rows[0]) })
		both.Go(func() { two.write(rows[1]) })
		both.Wait()
		for _, r := range append(rows[0], rows[1]...) {
			require.NoError(t, r.Err())
		}
	}
	require.Equal(t, []int64{5000}, query[int64](t, database, `SELECT count(*) FROM vodrelay_events`))
	time.Sleep(1200 * time.Millisecond) // the server's statistics come late
	require.Equal(t, []int64{0}, query[int64](t, database, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`))
}

func testDefaultTable(t *testing.T, database string) {
	s := open(t, database)
	for _, e := range sinktest.OddEvents() {
		require.NoError(t, send(t, s, e))
	}
	e := sinktest.Upload(3)
	require.NoError(t, send(t, s, e))
	row := query[string](t, database, `SELECT concat_ws('|', event_id, event_type, sub_app_id, subject, content->'FileUploadEvent'->'MediaBasicInfo'->>'Name',
		content_bytes IS NULL, received_at > now() - interval '1 minute') FROM vodrelay_events WHERE event_id = $1`, e.ID)
	require.Equal(t, []string{e.ID + "|NewFileUpload|1500000001|5285890784273533170|clip 3|t|t"}, row)
	// No event has a query over all of them fail.
	names := query[*string](t, database, `SELECT content->'FileUploadEvent'->'MediaBasicInfo'->>'Name' FROM vodrelay_events WHERE content_bytes IS NOT NULL AND event_type = 'NewFileUpload' ORDER BY 1`)
	require.Equal(t, "a\uFFFDb", *names[0])
	require.Len(t, query[string](t, database, `SELECT CAST(CAST(content AS jsonb) AS text) FROM vodrelay_events`), len(sinktest.OddEvents())+1)
	require.Equal(t, []int64{3}, query[int64](t, database, `SELECT count(content_bytes) FROM vodrelay_events`), "NUL twice, broken text once")
	largest := event.Event{ID: "largest", Type: "A\x00\xff", SubAppID: 1<<64 - 1, Raw: []byte(`{}`)}
	require.NoError(t, send(t, s, largest))
	require.Equal(t, []string{"18446744073709551615|A\uFFFD\uFFFD|none"},
		query[string](t, database, `SELECT concat_ws('|', sub_app_id, event_type, coalesce(subject, 'none')) FROM vodrelay_events WHERE event_id = 'largest'`))
}

func testColumns(t *testing.T, database string) {
	exec(t, database, `CREATE SCHEMA "Media"`, `CREATE DOMAIN doc AS jsonb`, `CREATE TABLE "Media"."Events;--" (id uuid UNIQUE, file_id text NOT NULL,
		size bigint, seconds numeric, name varchar(20), tags jsonb, tag_text text, whole json, document doc, raw bytea, "when" timestamptz, big boolean, fixed char(3), "Odd ""Name" text)`)
	s := open(t, database, func(c *Config) {
		c.CreateTable = false
		c.Table = `"Media"."Events;--"`
		c.IDColumn, c.SubAppIDColumn = "ID", ""
		c.Columns = map[string]string{
			"file_id":      "payload.FileId",
			"size":         "payload.MetaData.Size",
			"Seconds":      "payload.MetaData.Duration",
			"name":         "payload.MediaBasicInfo.Name",
			"tags":         "payload.MediaBasicInfo.TagSet",
			"tag_text":     "join(payload.MediaBasicInfo.TagSet ?? [], \",\")",
			"whole":        "payload.MediaBasicInfo.Name",
			"document":     "event",
			"raw":          "payload.MediaBasicInfo.Name",
			`"when"`:       "payload.MediaBasicInfo.CreateTime",
			"big":          "payload.MetaData.Size > 100",
			"fixed":        `"abc"`,
			`"Odd ""Name"`: "type",
		}
	})
	require.NoError(t, s.Check(t.Context()))
	e := decode(`{"EventType":"NewFileUpload","FileUploadEvent":{"FileId":"7","MediaBasicInfo":{"Name":"a\\b 'q' \u00e9","TagSet":["x","y"],` +
		`"CreateTime":"2018-06-05T08:00:00Z"},"MetaData":{"Size":9007199254740993,"Duration":0.10}}}`)
	require.NoError(t, send(t, s, e))
	require.NoError(t, send(t, s, e))
	got := query[string](t, database, `SELECT concat_ws('|', id, file_id, size, seconds, name, tags, tag_text, whole, document->'EventType',
		convert_from(raw, 'UTF8'), "when" AT TIME ZONE 'UTC', big, fixed, "Odd ""Name") FROM "Media"."Events;--"`)
	id := e.ID[:8] + "-" + e.ID[8:12] + "-" + e.ID[12:16] + "-" + e.ID[16:20] + "-" + e.ID[20:]
	require.Equal(t, []string{id + `|7|9007199254740993|0.10|a\b 'q' é|["x", "y"]|x,y|"a\\b 'q' \u00e9"|"NewFileUpload"|a\b 'q' é|2018-06-05 08:00:00|t|abc|NewFileUpload`}, got)

	// Missing fields are NULL; what breaks jsonb and text is U+FFFD.
	for i, item := range []string{`{"EventType":"A","P":{"FileId":"8"}}`, `{"EventType":"A","P":{"FileId":"9","MediaBasicInfo":{"Name":"\u0000\ud800"}}}`,
		"{\"EventType\":\"A\",\"P\":{\"FileId\":\"1\xff0\"}}"} {
		require.NoError(t, send(t, s, decode(item)), i)
	}
	require.Equal(t, []string{"1\uFFFD0", "7", "8", "9"}, query[string](t, database, `SELECT file_id FROM "Media"."Events;--" ORDER BY 1`))
	require.Equal(t, []string{"\uFFFD\uFFFD"}, query[string](t, database, `SELECT name FROM "Media"."Events;--" WHERE file_id = '9'`))
}

func decode(item string) event.Event {
	e, _, _ := event.Decode([]byte(item), 1500000001)
	return e
}

// testOneBadRow has rows that the table refuses among many that it takes.
func testOneBadRow(t *testing.T, database string) {
	exec(t, database, `CREATE TABLE events (event_id text PRIMARY KEY, n integer CHECK (n <> 7))`,
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.n = 9 THEN RAISE 'event % is not welcome', NEW.event_id; END IF; RETURN NEW; END $$`,
		`CREATE CONSTRAINT TRIGGER late AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	s := open(t, database, func(c *Config) {
		c.CreateTable, c.Table, c.SubAppIDColumn, c.MaxConns = false, "events", "", 1
		c.Columns = map[string]string{"n": "payload.n"}
	})
	const events = 300
	type result struct {
		i   int
		err error
	}
	results := make(chan result, events)
	for i := range events {
		n := fmt.Sprint(i)
		if i == 100 {
			n = `"x"`
		}
		go func() {
			results <- result{i, s.Send(context.Background(), decode(fmt.Sprintf(`{"EventType":"A","P":{"n":%s}}`, n)))}
		}()
	}
	for range events {
		r := <-results
		text := map[int]string{
			7:   `table "events" refuses the row (constraint "events_n_check"), SQLSTATE 23514`,
			9:   `a trigger of table "events" refuses the row, SQLSTATE P0001`, // at commit
			100: `table "events" does not take a value: invalid input syntax for type integer: "...", SQLSTATE 22P02`,
		}[r.i]
		if text == "" {
			require.NoError(t, r.err, r.i)
			continue
		}
		require.ErrorContains(t, r.err, text)
		require.True(t, retry.IsPermanent(r.err))
		require.NotEmpty(t, retry.Hint(r.err))
	}
	require.Equal(t, []int64{events - 3}, query[int64](t, database, `SELECT count(*) FROM events`))
}

// testLimits looks at the settings of the transactions.
func testLimits(t *testing.T, database string) {
	name := query[string](t, database, `SELECT current_database()`)[0]
	exec(t, database, `ALTER DATABASE `+name+` SET synchronous_commit = off`, `CREATE TABLE events (event_id text PRIMARY KEY,
		how text DEFAULT current_setting('synchronous_commit'), much text DEFAULT current_setting('statement_timeout'))`)
	s := open(t, database, func(c *Config) {
		c.CreateTable, c.Table, c.SubAppIDColumn, c.Columns = false, "events", "", map[string]string{"event_id": "id"}
	})
	for i := range 3 {
		require.NoError(t, send(t, s, sinktest.Upload(i)))
	}
	require.Equal(t, []string{"on 5s"}, query[string](t, database, `SELECT DISTINCT how || ' ' || much FROM events`))
}

// testDepth nests deeper than PostgreSQL likes.
func testDepth(t *testing.T, database string) {
	s := open(t, database)
	for _, depth := range []int{1000, 5000, 9990} {
		deep := make([]byte, 0, 2*depth)
		for range depth {
			deep = append(deep, '[')
		}
		for range depth {
			deep = append(deep, ']')
		}
		e := decode(fmt.Sprintf(`{"EventType":"A","P":{"FileId":"%d","x":%s}}`, depth, deep))
		require.NoError(t, send(t, s, e), depth)
		got := query[string](t, database, `SELECT CAST(content AS text) FROM vodrelay_events WHERE event_id = $1`, e.ID)
		require.Equal(t, []string{string(sinktest.Body(t, e))}, got)
	}
}
