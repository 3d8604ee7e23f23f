package servers

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const limit = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// need skips a test where the machine has not what it needs, and fails it where CI is set.
func need(t *testing.T, missing error) {
	t.Helper()
	if missing != nil && os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	if missing != nil {
		t.Skip("NOT TESTED: ", missing)
	}
}

func TestPostgres(t *testing.T) {
	need(t, HasPostgres())
	p, err := NewPostgres(within(t, limit))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()); require.NoDirExists(t, p.dir) }()
	connect := func() *pgx.Conn {
		t.Helper()
		conn, err := pgx.Connect(within(t, limit), p.URL(p.Addr()))
		require.NoError(t, err)
		return conn
	}
	do := func(conn *pgx.Conn, statement string) error {
		_, err := conn.Exec(within(t, limit), statement)
		return err
	}
	count := func(conn *pgx.Conn) (n int) {
		t.Helper()
		require.NoError(t, conn.QueryRow(within(t, limit), "SELECT count(*) FROM kept").Scan(&n))
		return n
	}
	conn := connect()
	require.NoError(t, do(conn, "CREATE TABLE kept (n int)"))
	require.NoError(t, do(conn, "INSERT INTO kept VALUES (1)"))

	p.Kill()
	require.Error(t, do(conn, "SELECT"), "a crash ends the sessions")
	_, err = pgx.Connect(within(t, limit), p.URL(p.Addr()))
	require.Error(t, err)
	require.NoError(t, p.Start(within(t, limit)))
	conn = connect()
	defer func() { _ = conn.Close(context.Background()) }()
	require.Equal(t, 1, count(conn), "a crash loses nothing")

	require.NoError(t, p.ReadOnly(within(t, limit), true))
	require.Error(t, do(conn, "SELECT"), "a failover ends the sessions")
	conn = connect()
	require.ErrorContains(t, do(conn, "INSERT INTO kept VALUES (2)"), "25006")
	require.Equal(t, 1, count(conn))
	require.NoError(t, p.ReadOnly(within(t, limit), false))
	conn = connect()
	require.NoError(t, do(conn, "INSERT INTO kept VALUES (2)"))

	p.Freeze()
	_, err = conn.Exec(within(t, 300*time.Millisecond), "SELECT")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = pgx.Connect(within(t, 300*time.Millisecond), p.URL(p.Addr()))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	p.Thaw()
	conn = connect()
	require.Equal(t, 2, count(conn))
	require.Error(t, p.Start(within(t, limit)), "it runs")

	p.Freeze()
	require.NoError(t, p.Stop(), "also where it is frozen")
}

func TestRedis(t *testing.T) {
	need(t, HasRedis())
	r, err := NewRedis(within(t, limit))
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()); require.NoDirExists(t, r.dir) }()
	client := redis.NewClient(&redis.Options{Addr: r.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
	defer client.Close()
	require.NoError(t, client.Set(within(t, limit), "kept", "yes", 0).Err())
	r.Kill()
	require.Error(t, client.Get(within(t, limit), "kept").Err())
	require.NoError(t, r.Start(within(t, limit)))
	require.Eventually(t, func() bool { return client.Get(within(t, limit), "kept").Val() == "yes" }, limit, 10*time.Millisecond)
	r.Freeze()
	err = client.Get(within(t, 300*time.Millisecond), "kept").Err()
	require.True(t, errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err), "%v", err)
	r.Thaw()
	require.Equal(t, "yes", client.Get(within(t, limit), "kept").Val())
}
