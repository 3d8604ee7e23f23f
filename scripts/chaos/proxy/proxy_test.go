package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const limit = 20 * time.Second // of everything that should happen

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a target that sends back what it gets, through a proxy.
func echo(t *testing.T, seed uint64) *Proxy {
	t.Helper()
	return before(t, seed, func(conn *net.TCPConn) {
		_, _ = io.Copy(conn, conn)
		_ = conn.CloseWrite()
	})
}

// before runs a proxy before a target that serves each connection.
func before(t *testing.T, seed uint64, serve func(*net.TCPConn)) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); serve(conn.(*net.TCPConn)) }()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-served })
	return through(t, listener.Addr().String(), seed)
}

func through(t *testing.T, target string, seed uint64) *Proxy {
	t.Helper()
	p, err := New(target, seed)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	return conn.(*net.TCPConn)
}

func set(t *testing.T, p *Proxy, f Fault) {
	t.Helper()
	require.NoError(t, p.Set(f))
}

// exchange sends a word and returns how long its echo took.
func exchange(t *testing.T, conn net.Conn, word string) time.Duration {
	t.Helper()
	begin := time.Now()
	_, err := io.WriteString(conn, word)
	require.NoError(t, err)
	expect(t, conn, word)
	return time.Since(begin)
}

func expect(t *testing.T, conn net.Conn, word string) {
	t.Helper()
	got := make([]byte, len(word))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, word, string(got))
}

// silent requires that nothing arrives for a while.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	_, err := conn.Read(make([]byte, 1))
	var trouble net.Error
	require.True(t, errors.As(err, &trouble) && trouble.Timeout(), "%v", err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(limit)))
}

// cut requires that the connection ends by an RST, whatever comes before.
func cut(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func kinds(p *Proxy) []string {
	var kinds []string
	for _, r := range p.Log() {
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// TestNone: without a fault each byte passes, both ways, and so do both ends.
func TestNone(t *testing.T) {
	p := echo(t, 1)
	sent := make([]byte, 3<<20)
	_, _ = rand.Read(sent)
	conn := dial(t, p)
	go func() { _, _ = conn.Write(sent) }()
	got := make([]byte, len(sent))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
	require.NoError(t, conn.CloseWrite())
	_, err = conn.Read(got)
	require.ErrorIs(t, err, io.EOF)
	require.Eventually(t, func() bool { return p.Connections() == 0 }, limit, time.Millisecond)
	require.Empty(t, p.Log())
}

// TestAbort: an RST of the target is one for the client.
func TestAbort(t *testing.T) {
	p := before(t, 1, func(conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		hardClose(conn)
	})
	conn := dial(t, p)
	_, err := io.WriteString(conn, "x")
	require.NoError(t, err)
	cut(t, conn)
}

// TestNoTarget: where the target is away, the connection ends by an RST.
func TestNoTarget(t *testing.T) {
	conn, err := net.Dial("tcp", through(t, "127.0.0.1:1", 1).Addr())
	if err == nil {
		defer conn.Close()
		_, err = io.Copy(io.Discard, conn)
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestLatency(t *testing.T) {
	p := echo(t, 1)
	conn := dial(t, p)
	exchange(t, conn, "opening")
	set(t, p, Fault{Request: Direction{Latency: 200 * time.Millisecond}})
	require.GreaterOrEqual(t, exchange(t, conn, "slowly there"), 200*time.Millisecond)
	set(t, p, Fault{Reply: Direction{Latency: 300 * time.Millisecond}})
	require.GreaterOrEqual(t, exchange(t, conn, "slowly back"), 300*time.Millisecond)
	require.NoError(t, p.Clear())
	exchange(t, conn, "done")
	records := p.Log()
	require.Len(t, records, 2)
	require.Equal(t, "requests late by 200ms to 200ms", records[0].Kind)
	require.Equal(t, []int{1}, records[0].Connections)
	require.Equal(t, records[0].Until, records[1].From)
	require.False(t, records[1].Until.IsZero())
}

// TestLatencyIsNoBandwidth: many chunks can be on their way at once.
func TestLatencyIsNoBandwidth(t *testing.T) {
	p := echo(t, 1)
	set(t, p, Fault{Request: Direction{Latency: 500 * time.Millisecond}})
	conn := dial(t, p)
	begin := time.Now()
	for range 20 {
		_, err := io.WriteString(conn, "x")
		require.NoError(t, err)
		time.Sleep(5 * time.Millisecond) // chunks of their own
	}
	expect(t, conn, "xxxxxxxxxxxxxxxxxxxx")
	require.Less(t, time.Since(begin), 5*time.Second, "20 times the latency is 10 s")
}

// TestJitter: the same seed gives the same delays, another gives others, and nothing overtakes.
func TestJitter(t *testing.T) {
	delays := func(seed uint64) []time.Duration {
		l := &link{proxy: &Proxy{seed: seed}, number: 3}
		p := &pump{link: l, choose: l.choices(0)}
		begin, all := time.Now(), []time.Duration(nil)
		for range 10 {
			due, _ := p.due(Direction{Jitter: time.Hour})
			all = append(all, due.Sub(begin).Truncate(time.Minute))
		}
		return all
	}
	require.InDeltaSlice(t, seconds(delays(7)), seconds(delays(7)), 60)
	require.NotEqual(t, delays(7), delays(8))

	proxy := echo(t, 1)
	set(t, proxy, Fault{Reply: Direction{Jitter: 100 * time.Millisecond}})
	conn := dial(t, proxy)
	for _, word := range []string{"one", "two", "three", "four"} {
		_, err := io.WriteString(conn, word)
		require.NoError(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	expect(t, conn, "onetwothreefour")
}

func seconds(all []time.Duration) []float64 {
	var s []float64
	for _, d := range all {
		s = append(s, d.Seconds())
	}
	return s
}

// TestLoss: what is lost arrives, after a retransmission.
func TestLoss(t *testing.T) {
	p := echo(t, 1)
	conn := dial(t, p)
	exchange(t, conn, "opening")
	set(t, p, Fault{Request: Direction{Loss: 0.5}})
	slow := 0
	for range 10 {
		if exchange(t, conn, "some") >= retransmit {
			slow++
		}
	}
	require.NotZero(t, slow)
	require.Contains(t, kinds(p), "lost")
	require.NoError(t, p.Clear())
	exchange(t, conn, "done")
}

// TestReset: half of what was sent passes, and both sides see an RST.
func TestReset(t *testing.T) {
	half, end := make(chan int, 1), make(chan error, 1)
	p := before(t, 1, func(conn *net.TCPConn) {
		buffer := make([]byte, 100)
		n, err := conn.Read(buffer)
		half <- n
		if err == nil {
			_, err = conn.Read(buffer)
		}
		end <- err
	})
	set(t, p, Fault{Reset: 1})
	conn := dial(t, p)
	_, err := io.WriteString(conn, "12345678")
	require.NoError(t, err)
	cut(t, conn)
	require.Equal(t, 4, <-half)
	require.ErrorIs(t, <-end, syscall.ECONNRESET)
	require.Equal(t, []string{"reset 1", "reset"}, kinds(p))
	require.Equal(t, []int{1}, p.Log()[1].Connections)
}

// TestResetShare: which connections a share hits is the seed's choice.
func TestResetShare(t *testing.T) {
	fates := func(seed uint64) (fates []bool) {
		p := echo(t, seed)
		set(t, p, Fault{Reset: 0.3})
		for range 20 {
			conn := dial(t, p)
			_, err := io.WriteString(conn, "12345678")
			require.NoError(t, err)
			_, err = io.ReadFull(conn, make([]byte, 8))
			fates = append(fates, err == nil)
			_ = conn.Close()
		}
		return fates
	}
	one := fates(5)
	require.Contains(t, one, true)
	require.Contains(t, one, false)
	require.Equal(t, one, fates(5))
	require.NotEqual(t, one, fates(6))
}

// TestLostReply: the target has done what it was asked for, and its client does not learn of it.
func TestLostReply(t *testing.T) {
	var done atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		done.Add(1)
	}))
	defer server.Close()
	p := through(t, server.Listener.Addr().String(), 1)
	set(t, p, Fault{LostReply: 1})
	client := &http.Client{Transport: &http.Transport{}, Timeout: limit}
	defer client.CloseIdleConnections()
	post := func() error {
		res, err := client.Post("http://"+p.Addr(), "text/plain", bytes.NewReader(make([]byte, 100<<10)))
		if err == nil {
			_ = res.Body.Close()
		}
		return err
	}
	err := post()
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.EqualValues(t, 1, done.Load())
	require.Contains(t, kinds(p), "lost reply")
	require.NoError(t, p.Clear())
	require.NoError(t, post())
	require.EqualValues(t, 2, done.Load())
}

// TestGreeting: what a target says unasked is no reply.
func TestGreeting(t *testing.T) {
	p := before(t, 1, func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "hello")
		_, _ = conn.Read(make([]byte, 1))
		_, _ = io.WriteString(conn, "lost")
	})
	set(t, p, Fault{LostReply: 1})
	conn := dial(t, p)
	expect(t, conn, "hello")
	_, err := io.WriteString(conn, "x")
	require.NoError(t, err)
	cut(t, conn)
}

// TestUnanswered: a client that goes before the reply is noted, and one that goes after it is not.
func TestUnanswered(t *testing.T) {
	answer := make(chan struct{}, 1)
	p := before(t, 1, func(conn *net.TCPConn) {
		for {
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				return
			}
			<-answer
			_, _ = io.WriteString(conn, "ok")
		}
	})
	answer <- struct{}{}
	answered := dial(t, p)
	_, err := io.WriteString(answered, "question")
	require.NoError(t, err)
	expect(t, answered, "ok")
	require.NoError(t, answered.Close())

	begin := time.Now()
	unanswered := dial(t, p)
	_, err = io.WriteString(unanswered, "question")
	require.NoError(t, err)
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, unanswered.Close())
	require.Eventually(t, func() bool { return len(p.Log()) > 0 }, limit, time.Millisecond)
	answer <- struct{}{}
	require.Eventually(t, func() bool { return p.Connections() == 0 }, limit, time.Millisecond)
	require.Len(t, p.Log(), 1)
	r := p.Log()[0]
	require.Equal(t, Unanswered, r.Kind)
	require.Equal(t, []int{2}, r.Connections)
	require.False(t, r.From.Before(begin))
	require.GreaterOrEqual(t, r.Until.Sub(r.From), 50*time.Millisecond)
}

// TestPartition: one direction is closed, the other is not, and what waited arrives afterwards.
func TestPartition(t *testing.T) {
	came := make(chan string, 10)
	p := before(t, 1, func(conn *net.TCPConn) {
		buffer := make([]byte, 100)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			came <- string(buffer[:n])
			_, _ = conn.Write(buffer[:n])
		}
	})
	conn := dial(t, p)
	exchange(t, conn, "opening")
	require.Equal(t, "opening", <-came)

	set(t, p, Fault{Reply: Direction{Block: true}})
	_, err := io.WriteString(conn, "passes")
	require.NoError(t, err)
	require.Equal(t, "passes", <-came)
	silent(t, conn)

	set(t, p, Fault{Request: Direction{Block: true}})
	expect(t, conn, "passes") // the reply that waited
	_, err = io.WriteString(conn, "waits")
	require.NoError(t, err)
	silent(t, conn)
	require.Empty(t, came)

	require.NoError(t, p.Clear())
	expect(t, conn, "waits")
}

// TestHalfOpen: neither bytes nor ends pass, also when the fault is over; new connections then work.
func TestHalfOpen(t *testing.T) {
	came, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	p := before(t, 1, func(conn *net.TCPConn) {
		for {
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				ended <- struct{}{}
				return
			}
			came <- struct{}{}
			_, _ = conn.Write([]byte("ok"))
		}
	})
	ask := func(conn net.Conn) {
		_, err := io.WriteString(conn, "question")
		require.NoError(t, err)
	}
	conn := dial(t, p)
	ask(conn)
	expect(t, conn, "ok")
	<-came
	set(t, p, Fault{Request: Direction{Block: true}})
	ask(conn)                          // is on its way
	time.Sleep(100 * time.Millisecond) // until it is in the proxy
	set(t, p, Fault{HalfOpen: true})
	during := dial(t, p)
	ask(conn)
	ask(during)
	silent(t, conn)
	silent(t, during)
	require.NoError(t, p.Clear())
	ask(conn)
	silent(t, conn)
	require.NoError(t, conn.Close())

	fresh := dial(t, p)
	ask(fresh)
	expect(t, fresh, "ok")
	<-came
	require.Empty(t, came)
	require.Empty(t, ended, "the target must not learn that the client has gone")
	require.Equal(t, []int{1, 2}, p.Log()[1].Connections)
}

// TestHang: a connection is accepted, and served when the fault is over.
func TestHang(t *testing.T) {
	p := echo(t, 1)
	old := dial(t, p)
	exchange(t, old, "opening")
	set(t, p, Fault{Hang: true})
	conn := dial(t, p)
	_, err := io.WriteString(conn, "wait")
	require.NoError(t, err)
	silent(t, conn)
	exchange(t, old, "the old one works")
	require.NoError(t, p.Clear())
	expect(t, conn, "wait")
}

// TestRefuse: new connections are refused, old ones go on, and the address stays the proxy's.
func TestRefuse(t *testing.T) {
	p := echo(t, 1)
	old := dial(t, p)
	exchange(t, old, "opening")
	for range 3 {
		set(t, p, Fault{Refuse: true})
		_, err := net.Dial("tcp", p.Addr())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		exchange(t, old, "the old one works")
		require.NoError(t, p.Clear())
		exchange(t, dial(t, p), "again")
	}
}

func TestBandwidth(t *testing.T) {
	p := echo(t, 1)
	set(t, p, Fault{Reply: Direction{Bandwidth: 20000}})
	took := exchange(t, dial(t, p), string(make([]byte, 10000)))
	require.GreaterOrEqual(t, took, 450*time.Millisecond)
	require.NoError(t, p.Clear())
}

// TestResetAll: every connection ends, on both sides, and new ones work.
func TestResetAll(t *testing.T) {
	p := echo(t, 1)
	one, two := dial(t, p), dial(t, p)
	exchange(t, one, "opening")
	exchange(t, two, "opening")
	p.Reset()
	cut(t, one)
	cut(t, two)
	require.Equal(t, []int{1, 2}, p.Log()[0].Connections)
	exchange(t, dial(t, p), "again")
}

// TestClose: nothing of a proxy is left, whatever its connections wait for. goleak looks as well.
func TestClose(t *testing.T) {
	for _, f := range []Fault{
		{Hang: true}, {HalfOpen: true}, {Refuse: true}, {Request: Direction{Block: true}}, {Reply: Direction{Block: true}},
		{Request: Direction{Latency: time.Hour}}, {Request: Direction{Bandwidth: 1}},
	} {
		t.Run(f.String(), func(t *testing.T) {
			p := echo(t, 1)
			before := dial(t, p)
			exchange(t, before, "opening")
			set(t, p, f)
			_, err := io.WriteString(before, "some more bytes")
			require.NoError(t, err)
			if !f.Refuse {
				_, err = io.WriteString(dial(t, p), "some bytes")
				require.NoError(t, err)
			}
			closed := make(chan error, 1)
			go func() { closed <- p.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			select {
			case err := <-closed:
				require.NoError(t, err)
			case <-ctx.Done():
				t.Fatal("Close does not return")
			}
			require.ErrorIs(t, p.Set(Fault{}), net.ErrClosed)
			require.Zero(t, p.Connections())
			require.False(t, p.Log()[0].Until.IsZero())
		})
	}
}
