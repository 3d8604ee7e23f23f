package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// TestOutage sends a load while the server's processes are killed, connections are cut, replies are held back and lost,
// and the server is stopped, crashes, and comes back.
func TestOutage(t *testing.T) {
	const events = 3000
	server := pgtest.Start(t)
	database := server.Database()
	p := newProxy(t, socket(t, database))
	s := open(t, p.url(database), func(c *Config) { c.StatementTimeout = 2 * time.Second })
	load := sinktest.StartLoad(t, s, sinktest.LoadOptions{
		Events: events, Senders: 32, Attempt: time.Second, Pause: 5 * time.Millisecond, Limit: 3 * time.Minute,
	})
	at := func(share int, trouble func()) { load.After(events*share/100, trouble) }
	terminate := func() {
		exec(t, database, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vodrelay'`)
	}
	at(10, terminate)
	at(15, terminate)
	at(20, p.cut)
	at(30, func() { // what was committed is not acknowledged
		resume := p.stall()
		time.Sleep(200 * time.Millisecond)
		p.cut()
		resume()
	})
	at(40, func() {
		server.Stop()
		time.Sleep(time.Second)
		server.Run()
	})
	at(60, func() {
		server.Kill()
		time.Sleep(time.Second)
		server.Run()
	})
	at(70, func() { // takes what it is sent, but answers late
		resume := p.stall()
		time.Sleep(1500 * time.Millisecond)
		resume()
	})
	at(80, func() { p.stop(); p.start(t) })
	failures := load.Wait(t)
	require.Positive(t, failures, "the trouble was none")

	want := make(map[string]bool)
	for i := range events {
		want[string(sinktest.Body(t, sinktest.Upload(i)))] = true
	}
	got := query[[]byte](t, database, bodies)
	for _, body := range got {
		require.True(t, want[string(body)], "%.300s", body)
		delete(want, string(body))
	}
	require.Empty(t, want)
	t.Logf("%d events, %d failed attempts, %d duplicates", events, failures, len(got)-events)
	require.Len(t, got, events)
}
